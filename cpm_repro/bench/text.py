"""Benchmark results as Markdown."""

from __future__ import annotations

from cpm_repro.bench.record import Answer, BenchReport, Measured, Spread
from cpm_repro.markdown import table

REPORT_HEAD = "# Benchmarks on "
TIMES_HEAD = ("case", "way", "time", "middle half", "against ours", "GB/s", "GFLOP/s", "share of the limit")
GOALS_HEAD = ("case", "goal", "measured (middle half)", "")
QUICK = "**A quick run in small sizes: it shows that everything runs, its numbers mean nothing.**"
"""The title, the heads of tables and the warning by which :mod:`cpm_repro.bench.documents` reads a report."""


def answer_markdown(answer: Answer) -> str:
    """One question: what was asked, the limits, a row per way, and which goals were reached."""
    lines = [f"## {answer.title}", "", answer.about, ""]
    if answer.failure:
        return "\n".join([*lines, f"**FAILED, no time is reported:** {answer.failure}", ""])
    if answer.limits is not None:
        limits = answer.limits
        matrix = f"{limits.float32 / 1e9:.0f} GFLOP/s in float32"
        if limits.bfloat16:
            matrix += f", {limits.bfloat16 / 1e9:.0f} in bfloat16"
        lines += [
            f"Limits measured in this run: {limits.fill / 1e9:.1f} GB/s written by fill, "
            f"{limits.copy / 1e9:.1f} GB/s read and written by copy, matrix products {matrix}.",
            "",
        ]
    what = "memory" if any(case.unit == "bytes" for case in answer.cases) else "time"
    head = [what if name == "time" else name for name in TIMES_HEAD]
    lines.append(table(head, [row for case in answer.cases for row in _rows(case)], "llr"))
    checks = "; ".join(
        f"{case.name}: {case.error:.1e} (allowed {case.tolerance:.1e})" for case in answer.cases
    )
    lines += ["", f"Checked before timing, largest difference from the reference: {checks}."]
    if goals := _goals(answer):
        lines += ["", table(GOALS_HEAD, goals, "l")]
    return "\n".join([*lines, *[f"\n{note}" for note in answer.notes], ""])


def report_markdown(report: BenchReport) -> str:
    """The whole report: machine, commit, versions, then every question."""
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    head = [
        f"{REPORT_HEAD}{report.machine}",
        "",
        f"{report.date}, commit {report.commit}; {versions}.",
        "",
    ]
    if report.quick:
        head += [QUICK, ""]
    if not report.versions.get("gpu"):
        head += ["GPU: not measured.", ""]
    return "\n".join([*head, *[answer_markdown(answer) for answer in report.answers]])


def _rows(case: Measured) -> list[list[str]]:
    """A row for each way, and one for what is asked for or predicted."""
    rows = []
    for way in case.samples:
        time = case.seconds(way)
        share = case.share() if way == case.ours else None
        rows.append(
            [
                case.name,
                way,
                _amount(time.median, case),
                f"{_amount(time.low, case)} to {_amount(time.high, case)}",
                "1" if way == case.ours else f"{case.ratio(way).median:.2f}x",
                _rate(case.bytes, time),
                _rate(case.operations, time),
                "" if share is None else f"{100 * share.median:.0f} %",
            ]
        )
    if case.allowed:
        rows.append([case.name, "*asked for*", _time(case.allowed), *[""] * 5])
    elif case.limit_seconds:
        rows.append([case.name, "*predicted*", _time(case.limit_seconds), *[""] * 5])
    return rows


def _goals(answer: Answer) -> list[list[str]]:
    """A row for each goal of a question."""
    return [
        [
            case.name,
            _wanted(against, wanted, case.unit),
            _got(against, got),
            "reached" if reached else "missed",
        ]
        for case in answer.cases
        for against, wanted, got, reached in case.verdicts()
    ]


def _rate(amount: float, time: Spread) -> str:
    return f"{amount / time.median / 1e9:.1f}" if amount else ""


def _amount(value: float, case: Measured) -> str:
    return f"{value / 1e6:.4g} MB" if case.unit == "bytes" else _time(value)


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def _wanted(against: str, wanted: float, unit: str) -> str:
    if against == "limit":
        return f"at least {100 * wanted:.0f} % of the limit's rate"
    return f"{against} takes at least {wanted:g} times as {'much' if unit == 'bytes' else 'long'}"


def _got(against: str, got: Spread) -> str:
    if against == "limit":
        return f"{100 * got.median:.0f} % ({100 * got.low:.0f} to {100 * got.high:.0f})"
    return f"{got.median:.2f} ({got.low:.2f} to {got.high:.2f})"
