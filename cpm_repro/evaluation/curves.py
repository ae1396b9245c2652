"""PCK over all thresholds, and the area under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cpm_repro.evaluation.table import ScoreTable

AUC_THRESHOLDS = tuple(index / 100 for index in range(51))
"""0, 0.01, ..., 0.50: each the double nearest to its decimal (a summed grid drifts and can move counts)."""


@dataclass(frozen=True, eq=False)
class PckCurve:
    """Rates in percent at T thresholds."""

    metric: str
    thresholds: np.ndarray  # (T,)
    total: np.ndarray = field(repr=False)  # (T,) over all joints
    rows: dict[str, np.ndarray] = field(repr=False)  # row label -> (T,)


def pck_curve(table: ScoreTable, thresholds: Sequence[float] = AUC_THRESHOLDS) -> PckCurve:
    """The table's rates at each of ``thresholds`` (compared with <=), over all joints and per row."""
    grid = np.asarray(thresholds, dtype=np.float64)
    if grid.ndim != 1 or not len(grid) or not np.isfinite(grid).all():
        raise ValueError(f"thresholds: wanted a list of finite numbers, got shape {grid.shape}")
    per_part = np.full((len(table.parts), len(grid)), np.nan)
    hits = np.zeros_like(per_part)
    counts = table.counted.sum(axis=0)
    for part in range(len(table.parts)):
        if counts[part]:
            ordered = np.sort(table.distances[table.counted[:, part], part])
            hits[part] = np.searchsorted(ordered, grid, side="right")  # how many are <= each threshold
            per_part[part] = 100 * hits[part] / counts[part]
    joints = counts.sum()
    total = 100 * hits.sum(axis=0) / joints if joints else np.full(len(grid), np.nan)
    rows = {}
    for label, indices in table.rows:
        used = [index for index in indices if counts[index]]
        rows[label] = per_part[used].mean(axis=0) if used else np.full(len(grid), np.nan)
    return PckCurve(table.metric, grid, total, rows)


def auc(table: ScoreTable) -> float:
    """Mean of the curve over thresholds 0, 0.01, ..., 0.5, over all joints, percent (`evaluation.md`)."""
    return float(pck_curve(table).total.mean())
