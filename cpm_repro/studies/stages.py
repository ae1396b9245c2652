"""``stages``: what further stages bring, between networks and inside one (paper section 4.2, RQ1)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median

import torch

from cpm_repro.bench.clock import time_in_turn
from cpm_repro.checklist.verdicts import HOLDS, UNDECIDED, Verdict
from cpm_repro.config import TrainConfig
from cpm_repro.device import torch_threads, usable_device
from cpm_repro.inference.weights import build_from
from cpm_repro.markdown import table
from cpm_repro.model import multiply_accumulates
from cpm_repro.studies.draw import PCK_LABEL, line_with_spread
from cpm_repro.studies.plan import Finding, Material, Study, Variant, described, too_weak, verdict_of
from cpm_repro.studies.statistics import decide, mean_and_spread
from cpm_repro.viz.figure import figure_of, save_figure, series_colours

MOST = 6
LITTLE = 1.0
"""Points of PCK@0.2 below which a further stage adds little."""

CLAIMS = ("study.spatial_model", "study.stages", "study.stages.diminishing")
RULE = (
    f"Differences of PCK@0.2 on held-out people, one per seed; 95 % Student interval of their mean. "
    f"Spatial model: last stage minus stage 1 inside the {MOST}-stage network lies above 0. "
    f"Rises up to 5: the slope of a straight line through the networks of 1 to 5 stages lies above 0; if it "
    f"does but one mean step goes down, undecided. "
    f"Sixth adds little: PCK of {MOST} stages minus PCK of {MOST - 1} lies below {LITTLE:g} point."
)


def label_of(stages: int) -> str:
    """Name of the variant with so many stages."""
    return f"{stages} stage" + "s" * (stages > 1)


def variants(base: TrainConfig) -> list[Variant]:
    """The base network with 1 to 6 stages, each trained end to end with a loss at every stage."""
    return [
        Variant(
            label_of(count),
            replace(base, network=replace(base.network, stages=count), scheme="end-to-end"),
        )
        for count in range(1, MOST + 1)
    ]


def analyse(material: Material) -> Finding:
    """Verdicts, tables and the figure."""
    networks = [label_of(count) for count in range(1, MOST + 1)]
    milliseconds = exit_times(material.runs[networks[-1]][0].config, material.device)
    weak = too_weak(CLAIMS, RULE, material.last(networks[-1]))
    return Finding(
        verdicts=weak or _verdicts(material, networks),
        tables={
            "Accuracy of the last stage per number of stages": _between(material, networks),
            f"Every stage inside the {MOST}-stage network, and leaving it there": _inside(
                material, networks[-1], milliseconds
            ),
        },
        figures={
            "Accuracy over stages, and over the time of an early exit": _draw(
                material, networks, milliseconds
            )
        },
        numbers={"exit_milliseconds": milliseconds},
    )


def _verdicts(material: Material, networks: Sequence[str]) -> tuple[Verdict, ...]:
    inside = decide([run.pck[-1] - run.pck[0] for run in material.runs[networks[-1]]])
    per_seed = list(zip(*(material.last(label) for label in networks[:5]), strict=True))
    slope = decide([_slope(values) for values in per_seed])
    steps = [fmean(material.difference(b, a)) for a, b in pairwise(networks[:5])]
    rises = verdict_of(CLAIMS[1], RULE, "points per stage from 1 to 5 stages", slope)
    rises.numbers["steps"] = steps
    if slope.value == HOLDS and min(steps) < 0:
        more = "the slope is clear but a step goes down: more seeds would tell whether that is chance"
        rises = replace(rises, value=UNDECIDED, reason=f"{rises.reason}; {more}")
    sixth = decide([-d for d in material.difference(networks[5], networks[4])], -LITTLE)
    return (
        verdict_of(CLAIMS[0], RULE, "last stage minus stage 1", inside),
        rises,
        verdict_of(CLAIMS[2], RULE, "five stages minus six", sixth),
    )


def _slope(values: Sequence[float]) -> float:
    """Points per stage of the least-squares line through 1, 2, ..."""
    middle = (len(values) + 1) / 2
    squares = sum((x - middle) ** 2 for x in range(1, len(values) + 1))
    return sum((x - middle) * y for x, y in enumerate(values, start=1)) / squares


def exit_times(config: TrainConfig, device: str | None = None) -> list[float]:
    """Median milliseconds of one crop through the first 1, 2, ... stages, here (CPU: one thread)."""
    place = usable_device(device)
    net = build_from(config.network).eval().to(place)
    data = torch.zeros(1, net.input_channels, config.augment.crop, config.augment.crop, device=place)
    works = {str(stages): partial(_forward, net, data, stages) for stages in range(1, net.stages + 1)}
    gpu = torch.cuda.device(place) if place.type == "cuda" else nullcontext()  # the clock's events are on it
    with torch_threads(1), gpu:
        times = time_in_turn(works, device=place.type)
    return [1000 * median(samples) for samples in times.values()]


@torch.inference_mode()
def _forward(net: torch.nn.Module, data: torch.Tensor, stages: int, _: int) -> None:
    net(data, stages)


def _between(material: Material, networks: Sequence[str]) -> str:
    rows = []
    for before, label in zip([None, *networks[:-1]], networks, strict=True):
        gain = "" if before is None else mean_and_spread(material.difference(label, before))
        rows.append([label, mean_and_spread(material.last(label)), gain])
    return table(["network", "PCK@0.2", "gain over one stage less"], rows)


def _inside(material: Material, label: str, milliseconds: Sequence[float]) -> str:
    runs = material.runs[label]
    crop, description = runs[0].config.augment.crop, described(runs[0].config.network)
    rows = []
    for stage, took in enumerate(milliseconds):
        work = multiply_accumulates(description, crop, crop, stages=stage + 1) / 1e6
        gain = mean_and_spread([run.pck[stage] - run.pck[0] for run in runs]) if stage else ""
        score = mean_and_spread([run.pck[stage] for run in runs])
        rows.append([str(stage + 1), score, gain, f"{work:.0f}", f"{took:.2f}"])
    return table(["stage", "PCK@0.2", "gain over stage 1", "multiply-adds to here, M", "ms to here"], rows)


def _draw(material: Material, networks: Sequence[str], milliseconds: Sequence[float]) -> Path:
    counts = [float(count) for count in range(1, MOST + 1)]
    inside = [run.pck for run in material.runs[networks[-1]]]
    between = list(zip(*(material.last(label) for label in networks), strict=True))
    first, second = series_colours(2)
    with figure_of((10, 4.2), 2) as (figure, (stages, times)):
        line_with_spread(stages, counts, between, first, "networks of so many stages, last stage")
        line_with_spread(stages, counts, inside, second, f"stages of the {MOST}-stage network", "s")
        stages.set(xlabel="stages", ylabel=PCK_LABEL, title="Accuracy over stages")
        stages.legend(loc="lower right")
        line_with_spread(times, milliseconds, inside, second, f"{MOST}-stage network", "s")
        times.set(xlabel="ms for one crop", ylabel=PCK_LABEL, title="Leaving after stage 1, 2, ...")
        return save_figure(figure, material.out / "stages")[0]


STUDY = Study(
    "stages",
    "Does accuracy rise with the number of stages, and does a network learn the spatial model in its stages?",
    RULE,
    variants,
    analyse,
)
