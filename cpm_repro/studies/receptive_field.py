"""``receptive-field``: accuracy against how far the last stage sees (paper section 3.2.1, RQ3).

Two stages. The first always sees a patch (its feature convolutions are 1x1, so only the pooled trunk looks
around); kernels and depth of the second vary. Widths are chosen so that every variant costs as many
multiply-adds as the one with the network's own refinement stage, as nearly as whole channels allow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cpm_repro.checklist.verdicts import Verdict
from cpm_repro.config import NetworkConfig, TrainConfig
from cpm_repro.markdown import table
from cpm_repro.model import measured_receptive_field, multiply_accumulates, parameter_count, receptive_field
from cpm_repro.studies.draw import PCK_LABEL, line_with_spread
from cpm_repro.studies.plan import Finding, Material, Study, Variant, described, too_weak
from cpm_repro.studies.statistics import both, decide, mean_and_spread
from cpm_repro.viz.figure import GUIDE, figure_of, save_figure, series_colours

REFINE = ("1-1-1", "3-1-1", "3-3-3", "5-5-5", "7-7-7-7-7", "9-9-9-9-9-5")
"""Wide convolutions of the second stage: 52 to 404 px in the VGG family, 71 to 423 px in the 9x9 networks."""

SAME_COST_AS = "7-7-7-7-7"
PERSON = 250 / 304
"""Where the paper sees accuracy saturate, as a share of its 304 px input."""

CLAIMS = ("study.receptive_field",)
RULE = (
    f"The knee is the variant whose field is nearest to {PERSON:.2f} of the crop's side (the paper: 250 of "
    f"304 px). Rises: PCK@0.2 at the knee minus that at the smallest field. Saturates: half of the points "
    f"gained per doubling of the field up to the knee minus the points per doubling from there to the "
    f"largest. One value each per seed; the claim holds where both 95 % Student intervals lie above 0, does "
    f"not where one lies below, and is undecided else."
)


def variants(base: TrainConfig) -> list[Variant]:
    """Two-stage networks of equal cost whose last stage sees less or more."""
    own = "-".join("1" for _ in described(base.network).kernels.features)
    network = replace(base.network, stages=2, features=own)
    crop = base.augment.crop
    wanted = _cost(replace(network, refine=SAME_COST_AS), crop)
    return [
        Variant(refine, replace(base, network=_of_cost(replace(network, refine=refine), crop, wanted)))
        for refine in REFINE
    ]


def _cost(network: NetworkConfig, crop: int) -> int:
    return multiply_accumulates(described(network), crop, crop)


def _of_cost(network: NetworkConfig, crop: int, wanted: int) -> NetworkConfig:
    """``network`` at the width whose cost is nearest to ``wanted``."""
    own = described(network).width
    widths = [round(own * factor, 6) for factor in np.geomspace(1 / 4, 4, 161)]
    candidates = [replace(network, width=width) for width in (own, *widths)]
    return min(candidates, key=lambda candidate: abs(_cost(candidate, crop) - wanted))


def field_of(network: NetworkConfig) -> int:
    """Side of what the last stage sees, input pixels, by the formula."""
    description = described(network)
    return receptive_field(description)[description.belief_blobs[-1]]


def measured_field(network: NetworkConfig) -> tuple[int, int]:
    """Height and width of the same, from gradients."""
    last = described(network).belief_blobs[-1]
    found = measured_receptive_field(
        network.arch, [last], network.stages, features=network.features, refine=network.refine
    )
    return found[last]


def analyse(material: Material) -> Finding:
    """Verdict, table and figure."""
    fields = [field_of(material.runs[label][0].config.network) for label in REFINE]
    best = max((material.last(label) for label in REFINE), key=np.mean)
    weak = too_weak(CLAIMS, RULE, best)
    return Finding(
        verdicts=weak or (_verdict(material, fields),),
        tables={"Accuracy over the field of the last stage": _table(material, fields)},
        figures={"Accuracy over the effective receptive field": _draw(material, fields)},
    )


def _verdict(material: Material, fields: Sequence[int]) -> Verdict:
    person = PERSON * material.base.augment.crop
    knee = min(range(1, len(fields) - 1), key=lambda index: abs(fields[index] - person))
    up, beyond = math.log2(fields[knee] / fields[0]), math.log2(fields[-1] / fields[knee])
    small, middle, large = (material.last(REFINE[index]) for index in (0, knee, -1))
    rises = decide([m - s for s, m in zip(small, middle, strict=True)])
    flattens = decide(
        [(m - s) / up / 2 - (b - m) / beyond for s, m, b in zip(small, middle, large, strict=True)]
    )
    value, budget = both(rises, flattens)
    reason = (
        f"from {fields[0]} to {fields[knee]} px: {rises} points; half the gain per doubling up to there "
        f"minus that beyond (to {fields[-1]} px): {flattens}"
    )
    if budget:
        reason += f"; {budget}"
    numbers = {"knee": fields[knee], "rises": rises.to_dict(), "saturates": flattens.to_dict()}
    return Verdict(CLAIMS[0], value, RULE, reason, numbers)


def _table(material: Material, fields: Sequence[int]) -> str:
    rows = []
    crop = material.base.augment.crop
    for label, field in zip(REFINE, fields, strict=True):
        network = material.runs[label][0].config.network
        height, width = measured_field(network)
        description = described(network)
        runs = material.runs[label]
        rows.append(
            [
                f"{label}-1-1",
                str(field),
                str(height) if height == width else f"{height} x {width}",
                f"{field / crop:.2f}",
                mean_and_spread([run.pck[0] for run in runs]),
                mean_and_spread(material.last(label)),
                f"{_cost(network, crop) / 1e6:.0f}",
                f"{parameter_count(description) / 1e3:.0f}",
            ]
        )
    head = (
        "refinement", "field, px", "measured, px", "field / crop", "PCK@0.2 stage 1", "PCK@0.2 stage 2",
        "multiply-adds, M", "parameters, k",
    )  # fmt: skip
    return table(head, rows)


def _draw(material: Material, fields: Sequence[int]) -> Path:
    crop = material.base.augment.crop
    first, second = series_colours(2)
    with figure_of((6.5, 4.4), 1) as (figure, (axes,)):
        seeds = range(len(material.runs[REFINE[0]]))
        last = [[material.runs[label][seed].pck[1] for label in REFINE] for seed in seeds]
        stage1 = [[material.runs[label][seed].pck[0] for label in REFINE] for seed in seeds]
        line_with_spread(axes, fields, last, first, "stage 2")
        line_with_spread(axes, fields, stage1, second, "stage 1 of the same networks", "s")
        axes.axvline(crop, **GUIDE)
        axes.text(crop, axes.get_ylim()[0], " crop", color="#777777", fontsize=9, va="bottom")
        axes.set(xlabel="effective receptive field of stage 2, px", ylabel=PCK_LABEL)
        axes.set_title("Accuracy over the receptive field, at equal cost")
        axes.legend(loc="lower right")
        return save_figure(figure, material.out / "receptive_field")[0]


STUDY = Study(
    "receptive-field",
    "Does accuracy rise with the receptive field of the later stage, and saturate at the size of a person?",
    RULE,
    variants,
    analyse,
)
