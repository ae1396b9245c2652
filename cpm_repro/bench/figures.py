"""Figures of a benchmark report: how cost grows, and how far from the machine's limits it stays."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from cpm_repro.bench.record import Answer, BenchReport, Measured
from cpm_repro.viz.figure import figure_of, save_figure, series_colours

_MARKERS = "os^Dv"


def report_figures(report: BenchReport, out: Path) -> list[Path]:
    """Draw what the report's numbers allow; returns the PNG files (an SVG lies beside each)."""
    paths = [
        _scaling(answer, axis, cases, out / f"{answer.script}-{axis.replace(' ', '_')}.png")
        for answer in report.answers
        for axis, cases in _axes(answer).items()
        if len(cases) > 1
    ]
    known = [
        (answer, case)
        for answer in report.answers
        for case in answer.cases
        if case.bytes and case.operations and answer.limits
    ]
    if known:
        paths.append(_roofline(known, out / "roofline.png"))
    return paths


def _axes(answer: Answer) -> dict[str, list[Measured]]:
    grouped: dict[str, list[Measured]] = defaultdict(list)
    for case in answer.cases:
        if case.axis is not None:
            grouped[case.axis[0]].append(case)
    return grouped


def _scaling(answer: Answer, axis: str, cases: list[Measured], path: Path) -> Path:
    """Milliseconds of every way over what grows, both logarithmic, with the middle half as a band."""
    from matplotlib.ticker import LogLocator  # slow to import

    cases = sorted(cases, key=lambda case: case.axis[1] if case.axis else 0.0)
    ways = [way for way in cases[0].samples if all(way in case.samples for case in cases)]
    at = [case.axis[1] for case in cases if case.axis]
    factor, label = (1e-6, "MB") if cases[0].unit == "bytes" else (1e3, "ms per call")
    with figure_of((7, 4.4), 1) as (canvas, (axes,)):
        colours = series_colours(len(ways))
        for index, (way, colour) in enumerate(zip(ways, colours, strict=True)):
            spread = [case.seconds(way) for case in cases]
            axes.fill_between(
                at,
                [factor * s.low for s in spread],
                [factor * s.high for s in spread],
                color=colour,
                alpha=0.2,
            )
            medians = [factor * s.median for s in spread]
            axes.plot(at, medians, color=colour, marker=_marker(colours, index), markersize=5, label=way)
        axes.set(xscale="log", yscale="log", xlabel=axis, ylabel=label, title=answer.title)
        axes.set_xticks(at, [f"{value:g}" for value in at])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # the tens alone are one tick or two
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))  # beside: lines fill the axes
        return save_figure(canvas, path)[0]


def _marker(colours: list[str], index: int) -> str:
    """Another one each time that a colour comes again."""
    return _MARKERS[colours[:index].count(colours[index]) % len(_MARKERS)]


def _roofline(known: list[tuple[Answer, Measured]], path: Path) -> Path:
    """Rate over operations per byte, under the roof of bandwidth and matrix rate measured in the same run."""
    limits = known[0][0].limits
    assert limits is not None
    with figure_of((7, 4.8), 1) as (canvas, (axes,)):
        intensities = [case.operations / case.bytes for _, case in known]
        low, high = min(*intensities, 0.1) / 2, max(*intensities, 10 * limits.float32 / limits.copy)
        steps = [low * (high / low) ** (index / 200) for index in range(201)]
        roof = [min(limits.float32, limits.copy * step) / 1e9 for step in steps]
        roof_of = f"limit, float32, measured beside {known[0][0].script}"
        axes.plot(steps, roof, color="#000000", linewidth=1.5, label=roof_of)
        colours = series_colours(len(known))
        for index, ((answer, case), colour) in enumerate(zip(known, colours, strict=True)):
            rate = case.operations / case.seconds(case.ours).median / 1e9
            marker = _marker(colours, index)
            name = f"{answer.script}, {case.name}"
            axes.plot(case.operations / case.bytes, rate, marker, color=colour, label=name)
        axes.set(
            xscale="log", yscale="log", xlabel="floating-point operations per byte", ylabel="GFLOP/s",
            title="Rate against the machine's limits",
        )  # fmt: skip
        axes.legend(fontsize=8)
        return save_figure(canvas, path)[0]
