"""How far a score could be off by chance: resampling people with replacement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cpm_repro.errors import UserError
from cpm_repro.evaluation.table import ScoreTable

_BLOCK = 16
"""Resamples held at once: 16 x 100,000 people is 13 MB."""


@dataclass(frozen=True)
class Interval:
    """Percentile interval of a rate, percent."""

    low: float
    high: float
    level: float
    resamples: int


@dataclass(frozen=True)
class PairedDifference:
    """Total of run A minus total of run B on the same people, percent points.

    ``p_value`` is two-sided: twice the share of resamples on the other side of zero, but not below what k
    people can show between whom and nobody else the runs differ: if chance decided which run is ahead at
    each of them, one of them would be so at all k in 2 of 2^k cases.
    """

    difference: float
    low: float
    high: float
    p_value: float
    level: float
    resamples: int


def bootstrap_interval(
    table: ScoreTable, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Intervals of every row that counts, "Total" and "Mean" (of joints); NaN where nobody counts.

    People are drawn, their joints go with them. Of very few people the interval is too narrow: one person
    drawn again and again has none.
    """
    _check(resamples, level)
    hits, counts = _resampled(table, resamples, seed)
    groups = {label: list(indices) for label, indices in table.rows if table.counted[:, indices].any()}
    groups["Mean"] = list(range(len(table.parts)))
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = 100 * hits / counts  # (R, K); NaN for parts that nobody drawn has
        values = {
            label: np.nansum(rates[:, indices], axis=1) / (counts[:, indices] > 0).sum(axis=1)
            for label, indices in groups.items()
        }
        values["Total"] = 100 * hits.sum(axis=1) / counts.sum(axis=1)
    return {name: _interval(value, level) for name, value in values.items()}


def paired_bootstrap(
    a: ScoreTable, b: ScoreTable, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> PairedDifference:
    """Difference of two runs' totals on the same people; each resample draws the same people for both.

    NaN throughout where nobody counts.

    Raises:
        UserError: the tables are of different people, joints, protocols or thresholds.
    """
    _check(resamples, level)
    if (a.protocol_name, a.rule, a.threshold) != (b.protocol_name, b.rule, b.threshold):
        raise UserError(f"a paired comparison wants one rule, got {a.protocol!r} and {b.protocol!r}")
    if a.counted.shape != b.counted.shape or not np.array_equal(a.counted, b.counted):
        raise UserError(
            f"a paired comparison wants the same people and labels, got {a.people} people with "
            f"{a.joints} joints and {b.people} with {b.joints}"
        )
    counts = a.counted.sum(axis=1)
    gains = a.correct.sum(axis=1) - b.correct.sum(axis=1)
    sums = np.concatenate(
        [weights @ np.stack([gains, counts], 1) for weights in _weights(a, resamples, seed)]
    )
    with np.errstate(invalid="ignore"):
        differences = 100 * sums[:, 0] / sums[:, 1]
    interval = _interval(differences, level)
    # The run itself counts as one resample, so that no finite number of them can claim certainty.
    beyond = 1 + min(np.sum(differences <= 0), np.sum(differences >= 0))
    least = 2.0 ** (1 - np.count_nonzero(gains))
    p_value = min(1.0, max(least, 2 * beyond / (resamples + 1))) if a.joints else float("nan")
    return PairedDifference(a.total - b.total, interval.low, interval.high, float(p_value), level, resamples)


def _check(resamples: int, level: float) -> None:
    if resamples < 1:
        raise ValueError(f"resamples: wanted at least 1, got {resamples}")
    if not 0 < level < 1:
        raise ValueError(f"level: wanted a number between 0 and 1, got {level}")


def _weights(table: ScoreTable, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks (<=16, N) float64: how often each of N people was drawn; who does not count never is."""
    who = np.flatnonzero(table.counted.any(axis=1))
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, _BLOCK):
        block = np.zeros((min(_BLOCK, resamples - start), len(table.distances)))
        for row in block:
            drawn = generator.integers(0, len(who), size=len(who), dtype=np.int32)
            row[who] = np.bincount(drawn, minlength=len(who))
        yield block


def _resampled(table: ScoreTable, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(R, K) hits and counts of every part in each resample."""
    flags = np.concatenate([table.correct, table.counted], axis=1).astype(np.float64)
    sums = np.concatenate([weights @ flags for weights in _weights(table, resamples, seed)])
    return sums[:, : len(table.parts)], sums[:, len(table.parts) :]


def _interval(values: np.ndarray, level: float) -> Interval:
    if np.isnan(values).all():
        return Interval(float("nan"), float("nan"), level, len(values))
    low, high = np.nanpercentile(values, [50 * (1 - level), 50 * (1 + level)])
    return Interval(float(low), float(high), level, len(values))
