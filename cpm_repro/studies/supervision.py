"""``supervision``: losses at every stage against one at the end, seen in the gradients (section 3.3, RQ2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cpm_repro.checklist.verdicts import Verdict
from cpm_repro.config import TrainConfig
from cpm_repro.inference.weights import build_from
from cpm_repro.markdown import table
from cpm_repro.studies.draw import line_with_spread
from cpm_repro.studies.plan import Finding, Material, Study, Variant, too_weak
from cpm_repro.studies.statistics import decide, mean_and_spread
from cpm_repro.training.gradients import DECADES, EDGES, GradientHistory, read_gradients
from cpm_repro.training.schemes import stage_of
from cpm_repro.viz.figure import figure_of, ordered_colours, save_figure, series_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STAGES = 6
CLEAR = 2.0
"""The factor by which the early layers' gradients must grow to be called clearly larger."""

WITH, WITHOUT = "loss at every stage", "loss at the last stage only"
CLAIMS = ("study.supervision",)
RULE = (
    f"For every convolution of stage 1 (with the features that later stages share): mean gradient magnitude, "
    f"averaged in the logarithm over all updates measured; with losses at every stage divided by with one at "
    f"the last; geometric mean over the layers, one ratio per seed. The 95 % Student interval of the "
    f"ratio's logarithm lies above that of {CLEAR:g}. The last stage has its loss in both: the control."
)
_LEAST = 1e-30
"""Stands for a gradient of exactly zero where logarithms are averaged."""


def variants(base: TrainConfig) -> list[Variant]:
    """A six-stage network trained end to end, with all losses (scheme i) and with the last one (iv)."""
    network = replace(base.network, stages=STAGES)
    return [
        Variant(WITH, replace(base, network=network, scheme="end-to-end")),
        Variant(WITHOUT, replace(base, network=network, scheme="last-stage-loss")),
    ]


def analyse(material: Material) -> Finding:
    """Verdict, tables and figures."""
    histories = {
        label: [read_gradients(run.folder / "gradients.jsonl") for run in material.runs[label]]
        for label in (WITH, WITHOUT)
    }
    logs = [
        _log_magnitude(with_) - _log_magnitude(without)
        for with_, without in zip(histories[WITH], histories[WITHOUT], strict=True)
    ]  # per seed (layers,)
    names = histories[WITH][0].layers
    masks = _layers_of_stages(names, material.runs[WITH][0].config)
    decision = decide([float(log[masks[1]].mean()) for log in logs], math.log(CLEAR))
    ratio = math.exp(decision.mean)
    control = math.exp(float(np.mean([log[masks[STAGES]].mean() for log in logs])))
    reason = (
        f"intermediate losses multiply the gradient magnitude of stage 1's layers by {ratio:.2f} "
        f"(natural logarithm {decision}; {CLEAR:g} is {math.log(CLEAR):.2f}), "
        f"of the last stage's by {control:.2f}" + (f"; {decision.budget}" if decision.budget else "")
    )
    numbers = {**decision.to_dict(), "ratio": ratio, "control": control}
    verdict = Verdict(CLAIMS[0], decision.value, RULE, reason, numbers)
    weak = too_weak(CLAIMS, RULE, material.last(WITH))
    return Finding(
        verdicts=weak or (verdict,),
        tables={
            "Gradients per stage, mean over its layers and over the run": _per_stage(histories, masks),
            "Gradient magnitude per layer, ratio with / without intermediate losses": _per_layer(names, logs),
            "PCK@0.2 per stage": _accuracy(material),
        },
        figures={
            "Histograms of gradient magnitude, three times of training": _draw_histograms(
                material, histories
            ),
            "Variance of the gradients per stage over training": _draw_variance(material, histories, masks),
        },
        numbers={"log_ratio_per_layer": {n: [float(x[i]) for x in logs] for i, n in enumerate(names)}},
    )


def _layers_of_stages(names: Sequence[str], config: TrainConfig) -> dict[int, np.ndarray]:
    """Per stage, from 1: (layers,) bool, which of the layers are its own."""
    stages = stage_of(build_from(config.network))
    own = np.array([stages[f"{name}.weight"] for name in names])
    return {stage: own == stage for stage in range(1, STAGES + 1)}


def _log_magnitude(history: GradientHistory) -> np.ndarray:
    """(layers,) mean over the run of the logarithm of the mean magnitude."""
    return np.asarray(np.log(np.maximum(history.mean, _LEAST)).mean(axis=0))


def _per_stage(histories: dict[str, list[GradientHistory]], masks: dict[int, np.ndarray]) -> str:
    rows = []
    for stage, mask in masks.items():
        cells = [str(stage)]
        for made in histories.values():
            cells.append(mean_and_spread([h.mean[:, mask].mean() for h in made], ".2e", ".0e"))
            cells.append(mean_and_spread([h.variance[:, mask].mean() for h in made], ".2e", ".0e"))
        rows.append(cells)
    head = ["stage", *(f"{what}, {label}" for label in histories for what in ("magnitude", "variance"))]
    return table(head, rows)


def _per_layer(names: Sequence[str], logs: Sequence[np.ndarray]) -> str:
    rows = []
    for index, name in enumerate(names):
        values = [float(log[index]) for log in logs]
        low, mean, high = (f"{math.exp(log):.3g}" for log in (min(values), np.mean(values), max(values)))
        rows.append([name, mean, f"{low} to {high}"])
    return table(["layer", "ratio, geometric mean over seeds", "range over seeds"], rows)


def _accuracy(material: Material) -> str:
    rows = [
        [
            label,
            *(mean_and_spread([run.pck[stage] for run in material.runs[label]]) for stage in range(STAGES)),
        ]
        for label in (WITH, WITHOUT)
    ]
    return table(["training", *(f"stage {stage}" for stage in range(1, STAGES + 1))], rows)


def _draw_histograms(material: Material, histories: dict[str, list[GradientHistory]]) -> Path:
    """Rows: layers from first to last; columns: the first, the middle and the last third of the run."""
    names = histories[WITH][0].layers
    shown = [names[round(index)] for index in np.linspace(0, len(names) - 1, 5)]
    thirds = ("first third", "middle third", "last third")
    with figure_of((11, 11), 3 * len(shown), 3) as (figure, panels):
        for row, name in enumerate(shown):
            for column, part in enumerate(thirds):
                axes = panels[3 * row + column]
                _draw_panel(axes, histories, name, column)
                axes.set_title(f"{name}, {part}", fontsize=9)
        for axes in panels[-3:]:
            axes.set_xlabel("log10 of gradient magnitude")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2)
        return save_figure(figure, material.out / "gradients")[0]


def _draw_panel(axes: Axes, histories: dict[str, list[GradientHistory]], name: str, third: int) -> None:
    middles = (EDGES[:-1] + EDGES[1:]) / 2
    for label, colour in zip((WITH, WITHOUT), series_colours(2), strict=True):
        counts = np.zeros(len(middles))
        for history in histories[label]:
            block = np.array_split(history.histogram[:, history.layers.index(name)], 3)[third]
            counts += block.sum(axis=0)
        axes.fill_between(middles, counts / max(counts.sum(), 1), step="mid", color=colour, alpha=0.3)
        axes.step(middles, counts / max(counts.sum(), 1), where="mid", color=colour, label=label)
    axes.set_xlim(DECADES[0], 2)


def _draw_variance(
    material: Material, histories: dict[str, list[GradientHistory]], masks: dict[int, np.ndarray]
) -> Path:
    with figure_of((11, 4.2), 2) as (figure, panels):
        for axes, (label, made) in zip(panels, histories.items(), strict=True):
            count = min(len(history.iterations) for history in made)
            at = made[0].iterations[:count].tolist()
            for (stage, mask), colour in zip(masks.items(), ordered_colours(STAGES), strict=True):
                lines = [np.maximum(h.variance[:count, mask].mean(axis=1), _LEAST) for h in made]
                line_with_spread(axes, at, lines, colour, f"stage {stage}", "")
            axes.set(xlabel="update", ylabel="variance of the gradient", title=label, yscale="log")
        low = min(axes.get_ylim()[0] for axes in panels)
        high = max(axes.get_ylim()[1] for axes in panels)
        for axes in panels:
            axes.set_ylim(low, high)
        panels[0].legend()
        return save_figure(figure, material.out / "variance")[0]


STUDY = Study(
    "supervision",
    "Do losses at every stage keep the gradients of early layers from vanishing?",
    RULE,
    variants,
    analyse,
)
