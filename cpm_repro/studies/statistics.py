"""The one statistical rule that all studies decide by.

A claim is put as a difference that should exceed a margin: one value per seed, of two variants trained with
the same seed on the same people. Seeds are the sample: the two-sided 95 % Student interval of their mean is
compared with the margin. Above it the claim holds, below it does not, across it the study is undecided.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cpm_repro.checklist.verdicts import DOES_NOT_HOLD, HOLDS, UNDECIDED

LEVEL = 0.95
LEAST_SEEDS = 3
"""Fewer seeds say too little of their spread to decide anything."""

MOST_SEEDS = 100
"""Budgets of more seeds than this are not worth naming."""


@dataclass(frozen=True)
class Decision:
    """A difference per seed, its interval, and what follows by the rule."""

    value: str
    mean: float
    low: float
    high: float
    margin: float
    seeds: int
    needed: int | None  # seeds that would decide if mean and spread stayed; None: more than MOST_SEEDS

    def __str__(self) -> str:
        if self.seeds < LEAST_SEEDS:
            return f"{self.mean:+.2f} from {self.seeds} seed{'s' * (self.seeds != 1)}"
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"

    def to_dict(self) -> dict[str, float | int | str | None]:
        """Plain JSON values; None for an end of the interval that is not known."""
        known = self.seeds >= LEAST_SEEDS
        return {
            **vars(self),
            "low": self.low if known else None,
            "high": self.high if known else None,
        }

    @property
    def budget(self) -> str:
        """The budget that would decide, in words; empty where it is decided."""
        if self.value != UNDECIDED:
            return ""
        if self.seeds < LEAST_SEEDS:
            return f"at least {LEAST_SEEDS} seeds are needed"
        if self.needed is None:
            return f"more than {MOST_SEEDS} seeds of this length would be needed: train longer"
        return f"about {self.needed} seeds of this length would decide"


def decide(differences: Sequence[float], margin: float = 0.0) -> Decision:
    """Whether the mean of ``differences`` (one per seed) lies above ``margin``.

    Raises:
        ValueError: no difference, or one that is not finite.
    """
    values = np.asarray(differences, dtype=np.float64)
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(f"differences: wanted finite numbers, one a seed, got {list(differences)}")
    mean, count = float(values.mean()), len(values)
    if count < LEAST_SEEDS:
        return Decision(UNDECIDED, mean, -math.inf, math.inf, margin, count, LEAST_SEEDS)
    half = _half_width(values.std(ddof=1), count)
    low, high = mean - half, mean + half
    value = HOLDS if low > margin else DOES_NOT_HOLD if high < margin else UNDECIDED
    return Decision(value, mean, low, high, margin, count, _needed(values, margin))


def both(first: Decision, second: Decision) -> tuple[str, str]:
    """What follows for a claim that wants both, and the budget that would decide; "" where it is decided."""
    values = {first.value, second.value}
    if DOES_NOT_HOLD in values:
        return DOES_NOT_HOLD, ""
    if UNDECIDED not in values:
        return HOLDS, ""
    undecided = [decision for decision in (first, second) if decision.value == UNDECIDED]
    return UNDECIDED, max(undecided, key=lambda decision: decision.needed or math.inf).budget


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (NaN of one value)."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else math.nan


def mean_and_spread(values: Sequence[float], mean_form: str = ".1f", spread_form: str = ".1f") -> str:
    """``71.3 ± 1.2``: mean and sample standard deviation over seeds; the mean alone of a single seed."""
    mean, deviation = spread(values)
    return f"{mean:{mean_form}}" + ("" if math.isnan(deviation) else f" ± {deviation:{spread_form}}")


def _half_width(deviation: float, count: int) -> float:
    return float(stats.t.ppf((1 + LEVEL) / 2, count - 1) * deviation / math.sqrt(count))


def _needed(values: np.ndarray, margin: float) -> int | None:
    distance, deviation = abs(values.mean() - margin), values.std(ddof=1)
    for count in range(LEAST_SEEDS, MOST_SEEDS + 1):
        if _half_width(deviation, count) < distance:
            return count
    return None
