"""The people that went worst, so that one can look at them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cpm_repro.evaluation.table import ScoreTable


@dataclass(frozen=True)
class Failure:
    """How badly one person went."""

    person: int  # index into the scored people
    missed: int  # joints beyond the threshold
    counted: int
    mean_distance: float  # normalised, every joint's capped at five thresholds
    worst_parts: tuple[str, ...]  # missed parts, farthest first


def failures(table: ScoreTable, count: int | None = None) -> list[Failure]:
    """People with at least one miss, worst first: by share of joints missed, then by mean distance.

    Distances are capped at five thresholds, so that one joint gone astray does not outweigh a lost body.
    ``count`` keeps only so many.
    """
    counted = table.counted.sum(axis=1)
    missed = counted - table.correct.sum(axis=1)
    capped = np.where(table.counted, np.minimum(table.distances, 5 * table.threshold), 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share, mean = missed / counted, capped.sum(axis=1) / counted
    candidates = np.flatnonzero(missed > 0)
    order = candidates[np.lexsort((candidates, -mean[candidates], -share[candidates]))][:count]
    return [
        Failure(int(i), int(missed[i]), int(counted[i]), float(mean[i]), _worst_parts(table, int(i)))
        for i in order
    ]


def _worst_parts(table: ScoreTable, person: int) -> tuple[str, ...]:
    distances = np.where(table.counted[person], table.distances[person], -1.0)
    order = np.argsort(-distances, kind="stable")
    return tuple(table.parts[index] for index in order if distances[index] > table.threshold)
