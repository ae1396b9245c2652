"""How far a score could be off by chance: resampling people with replacement."""

from __future__ import annotations

import numpy as np

from cpm_repro.evaluation.scores import ScoreTable


def interval(
    table: ScoreTable, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the total over people, percent."""
    hits, counts = _per_person(table)
    totals = _totals(hits, counts, _weights(len(hits), resamples, seed))
    low, high = np.nanquantile(totals, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_difference(
    first: ScoreTable, second: ScoreTable, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """Difference of totals (first - second) on the same people: (value, low, high), percent points.

    Raises:
        ValueError: the tables are of different people.
    """
    if first.relative.shape != second.relative.shape:
        raise ValueError(
            f"second: wanted the same people and joints {first.relative.shape}, got {second.relative.shape}"
        )
    weights = _weights(len(first.relative), resamples, seed)
    differences = _totals(*_per_person(first), weights) - _totals(*_per_person(second), weights)
    low, high = np.nanquantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return first.total - second.total, float(low), float(high)


def _per_person(table: ScoreTable) -> tuple[np.ndarray, np.ndarray]:
    """Hits and counted joints of each person: a resample then only adds up people."""
    hits = (table.relative <= table.threshold).sum(axis=1).astype(np.float64)
    return hits, (~np.isnan(table.relative)).sum(axis=1).astype(np.float64)


def _weights(people: int, resamples: int, seed: int) -> np.ndarray:
    """(resamples, people) float32: how often each resample draws each person."""
    rng = np.random.default_rng(seed)
    weights = np.empty((resamples, people), np.float32)
    for row in weights:
        row[:] = np.bincount(rng.integers(0, people, people), minlength=people)
    return weights


def _totals(hits: np.ndarray, counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        totals: np.ndarray = 100.0 * (weights @ hits) / (weights @ counts)
    return totals
