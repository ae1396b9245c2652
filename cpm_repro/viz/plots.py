"""Curves of training and of scores, as PNG and SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cpm_repro.errors import UserError
from cpm_repro.evaluation import ScoreTable, auc, pck_curve
from cpm_repro.viz.figure import GUIDE, figure_of, ordered_colours, save_figure, series_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 150
"""Points of a smoothed loss curve."""


def curves(metrics: Sequence[Mapping[str, Any]], path: str | Path) -> tuple[Path, Path]:
    """Loss per stage and validation PCK per stage over iterations; written as PNG and SVG.

    Args:
        metrics: records of ``metrics.jsonl``: ``kind`` "train" with ``iteration`` and ``loss`` (one value per
            stage), ``kind`` "validation" with ``iteration`` and ``pck`` (percent per stage).
        path: the picture; PNG and SVG are put side by side under this name.

    Returns:
        Paths of the PNG and of the SVG.

    Raises:
        UserError: no training record at all.
    """
    train = [record for record in metrics if record.get("kind") == "train"]
    scored = [record for record in metrics if record.get("kind") == "validation"]
    if not train:
        raise UserError(f"{path}: no training record to draw ({len(metrics)} records in the metrics)")
    with figure_of((11, 4.2), 2) as (figure, (loss_axes, pck_axes)):
        _draw_losses(loss_axes, train)
        _draw_scores(pck_axes, scored)
        return save_figure(figure, Path(path))


def pck_figure(tables: Mapping[str, ScoreTable], path: str | Path) -> tuple[Path, Path]:
    """PCK (or PCKh) over its threshold, one panel per row of the table and one for the total; PNG and SVG.

    Args:
        tables: name -> table; one line each. All must have the same rows.
        path: as in :func:`curves`.
    """
    if not tables:
        raise ValueError("tables: wanted at least one, got none")
    drawn = {name: pck_curve(table) for name, table in tables.items()}
    first = next(iter(tables.values()))
    panels = ["Total", *first.per_row]
    columns = 4
    lines = -(-len(panels) // columns)
    with figure_of((12, 2.9 * lines + 0.5), len(panels), columns) as (figure, axes):
        colours = series_colours(len(tables))
        for panel, axis in zip(panels, axes, strict=True):
            for (name, curve), colour in zip(drawn.items(), colours, strict=True):
                values = curve.total if panel == "Total" else curve.rows[panel]
                label = f"{name} (AUC {auc(tables[name]):.1f})"
                axis.plot(curve.thresholds, values, color=colour, linewidth=1.8, label=label)
            axis.axvline(first.threshold, **GUIDE)
            axis.set(title=panel, xlim=(0, 0.5), ylim=(0, 100))
        for index in range(0, len(panels), columns):
            axes[index].set_ylabel(f"{first.metric} (%)")
        for axis in axes[-columns:]:
            axis.set_xlabel("threshold / normaliser")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)))
        return save_figure(figure, Path(path))


def pck_over_time(runs: Mapping[str, Sequence[Mapping[str, Any]]], path: str | Path) -> tuple[Path, Path]:
    """Validation PCK of every stage against minutes of training, one panel per run; PNG and SVG.

    Args:
        runs: name -> records of ``metrics.jsonl``; of ``kind`` "validation" are ``seconds`` and ``pck`` read.
        path: as in :func:`curves`.
    """
    scored = {
        name: [record for record in records if record.get("kind") == "validation"]
        for name, records in runs.items()
    }
    if not scored or not all(scored.values()):
        raise ValueError("runs: wanted at least one validation record each")
    highest = max(max(record["pck"]) for records in scored.values() for record in records)
    with figure_of((5.5 * len(scored), 4.2), len(scored)) as (figure, panels):
        for axes, (name, records) in zip(panels, scored.items(), strict=True):
            _draw_scores(axes, records)
            minutes = [record["seconds"] / 60 for record in records]
            for line in axes.get_lines():
                line.set_xdata(minutes)
            axes.relim()
            axes.autoscale(axis="x")
            axes.set(xlabel="minutes", title=name, ylim=(0, 1.08 * highest))
        return save_figure(figure, Path(path))


def _draw_losses(axes: Axes, train: Sequence[Mapping[str, Any]]) -> None:
    """Running median of each stage's loss, and its middle half as a band."""
    from matplotlib.ticker import LogLocator

    drawn = []
    for stage, colour in enumerate(ordered_colours(max(len(record["loss"]) for record in train))):
        iterations, losses = _of_stage(train, "loss", stage)
        drawn.append(losses)
        blocks = np.array_split(np.arange(len(losses)), min(_POINTS, max(1, len(losses) // 5)))
        at = np.array([iterations[block].mean() for block in blocks])
        low, middle, high = np.array([np.percentile(losses[block], [25, 50, 75]) for block in blocks]).T
        axes.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(at, middle, color=colour, linewidth=1.8, label=f"stage {stage + 1}",
                  marker="o" if len(at) == 1 else None)  # fmt: skip
    every = np.concatenate(drawn)
    if (every > 0).all() and every.max() > 3 * every.min():
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    axes.set(xlabel="iteration", ylabel="loss (sum of squares / 2N)", title="Training loss per stage")
    axes.legend()


def _draw_scores(axes: Axes, scored: Sequence[Mapping[str, Any]]) -> None:
    axes.set(xlabel="iteration", ylabel="PCK (%)", title="Validation PCK per stage")
    if not scored:
        axes.text(0.5, 0.5, "not validated yet", ha="center", va="center", transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    for stage, colour in enumerate(ordered_colours(max(len(record["pck"]) for record in scored))):
        iterations, totals = _of_stage(scored, "pck", stage)
        label = f"stage {stage + 1}: {totals[-1]:.1f} %"
        axes.plot(iterations, totals, color=colour, linewidth=1.8, marker="o", markersize=4, label=label)
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right")


def _of_stage(records: Sequence[Mapping[str, Any]], key: str, stage: int) -> tuple[np.ndarray, np.ndarray]:
    """Iterations and values of one stage, of records that have it: stage-wise phases run the first few."""
    has = [record for record in records if len(record[key]) > stage]
    return (
        np.array([record["iteration"] for record in has], dtype=np.float64),
        np.array([record[key][stage] for record in has], dtype=np.float64),
    )
