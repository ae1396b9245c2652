"""``precision``: at which thresholds the later stages gain (the paper's low and high precision, RQ5)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cpm_repro.checklist.verdicts import Verdict
from cpm_repro.config import TrainConfig
from cpm_repro.markdown import table
from cpm_repro.studies.draw import line_with_spread
from cpm_repro.studies.plan import Finding, Material, Study, Variant, described, too_weak
from cpm_repro.studies.statistics import both, decide, mean_and_spread
from cpm_repro.viz.figure import GUIDE, figure_of, ordered_colours, save_figure, series_colours

HIGH, LOW = 0.1, 0.2
"""The two precisions that the paper's own comparison on LSP names."""

SHOWN = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
CLAIMS = ("study.precision",)
RULE = (
    f"PCK of the last stage minus PCK of stage 1 of the same network, one difference per seed, at {HIGH:g} "
    f"(high precision) and at {LOW:g} (low) of the torso. The claim holds where both 95 % Student intervals "
    f"lie above 0, does not where one lies below 0, and is undecided else."
)
LABEL = "end-to-end"


def variants(base: TrainConfig) -> list[Variant]:
    """The base network alone: its stages are compared."""
    return [Variant(LABEL, replace(base, scheme="end-to-end"))]


def analyse(material: Material) -> Finding:
    """Verdict, table and figure."""
    stages = described(material.base.network).stages
    weak = too_weak(CLAIMS, RULE, material.last(LABEL))
    return Finding(
        verdicts=weak or (_verdict(material),),
        tables={"PCK over its threshold": _table(material, stages)},
        figures={"PCK of every stage, and what the last adds to the first": _draw(material, stages)},
    )


def _verdict(material: Material) -> Verdict:
    high, low = (
        decide([run.at(threshold)[-1] - run.at(threshold)[0] for run in material.runs[LABEL]])
        for threshold in (HIGH, LOW)
    )
    value, budget = both(high, low)
    reason = f"last stage minus stage 1: {high} points at {HIGH:g}, {low} at {LOW:g}"
    if budget:
        reason += f"; {budget}"
    numbers = {f"at {HIGH:g}": high.to_dict(), f"at {LOW:g}": low.to_dict()}
    return Verdict(CLAIMS[0], value, RULE, reason, numbers)


def _table(material: Material, stages: int) -> str:
    runs = material.runs[LABEL]
    rows = []
    for threshold in SHOWN:
        scores = [run.at(threshold) for run in runs]
        cells = [mean_and_spread([score[stage] for score in scores]) for stage in range(stages)]
        rows.append([f"{threshold:g}", *cells, mean_and_spread([score[-1] - score[0] for score in scores])])
    return table(["threshold", *(f"stage {n}" for n in range(1, stages + 1)), "last minus first"], rows)


def _draw(material: Material, stages: int) -> Path:
    runs = material.runs[LABEL]
    at = runs[0].thresholds[1:]
    with figure_of((10, 4.2), 2) as (figure, (scores, gains)):
        for stage, colour in enumerate(ordered_colours(stages)):
            line_with_spread(
                scores, at, [run.curves[stage][1:] for run in runs], colour, f"stage {stage + 1}", ""
            )
        scores.set(xlabel="threshold / torso", ylabel="PCK (%)", xlim=(0, 0.5), ylim=(0, 100))
        scores.set_title("PCK, mean and range over seeds")
        scores.legend(loc="upper left")
        differences = [
            [last - first for first, last in zip(run.curves[0], run.curves[-1], strict=True)][1:]
            for run in runs
        ]
        line_with_spread(gains, at, differences, series_colours(1)[0], "last stage minus stage 1", "")
        for threshold in (HIGH, LOW):
            gains.axvline(threshold, **GUIDE)
        gains.axhline(0, color="#999999", linewidth=0.8)
        gains.set(xlabel="threshold / torso", ylabel="points of PCK", xlim=(0, 0.5))
        gains.set_title("What the last stage adds to the first")
        return save_figure(figure, material.out / "precision")[0]


STUDY = Study(
    "precision",
    "Do later stages gain at high precision as well as at low?",
    RULE,
    variants,
    analyse,
)
