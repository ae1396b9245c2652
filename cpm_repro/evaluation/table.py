"""The result of scoring: every joint's normalised distance, and the tables made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from cpm_repro.markdown import table


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores of N people with K parts by one protocol; rates are percentages, 0..100.

    ``distances`` (N, K) float64 is |prediction - truth| / normaliser; NaN where the joint does not count,
    infinite where the prediction is not a number, or has not the torso that it is divided by (misses that
    count). All else follows from it.
    """

    protocol_name: str
    metric: str  # "PCK" or "PCKh"
    rule: str
    threshold: float
    parts: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...]], ...]
    distances: np.ndarray = field(repr=False)
    excluded: Mapping[str, int] = field(default_factory=dict)
    nan_predictions: int = 0
    warnings: tuple[str, ...] = ()

    @cached_property
    def counted(self) -> np.ndarray:
        """(N, K) bool: joints that count."""
        return ~np.isnan(self.distances)

    @cached_property
    def correct(self) -> np.ndarray:
        """(N, K) bool: counted joints within the threshold."""
        return self.distances <= self.threshold

    @property
    def people(self) -> int:
        """People with at least one joint that counts."""
        return int(self.counted.any(axis=1).sum())

    @property
    def joints(self) -> int:
        """Joints that count."""
        return int(self.counted.sum())

    @cached_property
    def total(self) -> float:
        """Rate over all joints that count; NaN if there are none."""
        return rate(self.correct.sum(), self.counted.sum())

    @cached_property
    def per_joint(self) -> dict[str, float]:
        """Rate of every part by name, in the skeleton's order; NaN for a part that never counts."""
        hits, counts = self.correct.sum(axis=0), self.counted.sum(axis=0)
        return {part: rate(hit, count) for part, hit, count in zip(self.parts, hits, counts, strict=True)}

    @property
    def mean_of_joints(self) -> float:
        """Mean of the rates of the parts that count: the other total in use (PCKh tables)."""
        return _mean(list(self.per_joint.values()))

    @cached_property
    def per_row(self) -> dict[str, float]:
        """The paper's rows (left and right averaged) in its order, without the total."""
        rates = list(self.per_joint.values())
        return {label: _mean([rates[index] for index in indices]) for label, indices in self.rows}

    @property
    def protocol(self) -> str:
        """One line: rule, normaliser, threshold, how many people and joints, and what was left out."""
        notes = [f"{count} people left out: {reason}" for reason, count in self.excluded.items() if count]
        if self.nan_predictions:
            notes.append(f"{self.nan_predictions} predictions that are not numbers, counted as misses")
        text = f"{self.metric}@{self.threshold:g} ({self.protocol_name}): {self.rule}; "
        return "; ".join([f"{text}{self.people} people, {self.joints} joints", *notes])

    def to_markdown(self) -> str:
        """The table in the paper's order with both totals, and the rule below it; ready to paste."""
        cells = {**self.per_row, "Total": self.total, "Mean": self.mean_of_joints}
        lines = [table(list(cells), [[_percent(value) for value in cells.values()]], "r")]
        lines += ["", self.protocol, "Total: rate over all joints. Mean: mean of the rates per joint."]
        lines += [f"Warning: {text}" for text in self.warnings]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready numbers (None for a rate of nothing), unrounded."""
        return {
            "protocol": self.protocol_name,
            "rule": self.rule,
            "metric": self.metric,
            "threshold": self.threshold,
            "people": self.people,
            "joints": self.joints,
            "excluded": {reason: int(count) for reason, count in self.excluded.items()},
            "nan_predictions": self.nan_predictions,
            "total": _or_none(self.total),
            "mean_of_joints": _or_none(self.mean_of_joints),
            "rows": {label: _or_none(value) for label, value in self.per_row.items()},
            "per_joint": {part: _or_none(value) for part, value in self.per_joint.items()},
            "warnings": list(self.warnings),
        }


def stage_table(tables: Sequence[ScoreTable]) -> str:
    """Markdown with one line per stage (stage 1 first): the paper's rows and the rate over all joints."""
    if not tables:
        raise ValueError("stage_table wants at least one table, got none")
    labels, rows = list(tables[0].per_row), []
    for stage, one in enumerate(tables, start=1):
        if list(one.per_row) != labels:
            raise ValueError(f"tables of different rows: {labels} and, at stage {stage}, {list(one.per_row)}")
        rows.append([str(stage), *map(_percent, one.per_row.values()), _percent(one.total)])
    return table(["Stage", *labels, "Total"], rows)


def rate(hits: Any, counts: Any) -> float:
    """Hits of counts in percent; NaN when there is nothing to count."""
    return float(100.0 * hits / counts) if counts else float("nan")


def _mean(rates: Sequence[float]) -> float:
    finite = [value for value in rates if not np.isnan(value)]
    return float(np.mean(finite)) if finite else float("nan")


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
