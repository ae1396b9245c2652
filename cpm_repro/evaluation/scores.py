"""PCK and PCKh: how many joints lie within a share of the body's size of the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cpm_repro.config import unknown
from cpm_repro.errors import UserError
from cpm_repro.evaluation.protocols import PROTOCOLS, Case
from cpm_repro.skeleton import Skeleton


@dataclass(frozen=True)
class ScoreTable:
    """Scores of one set of predictions, percent.

    ``relative`` (M, K) keeps every counted joint's distance over its person's normaliser (NaN where a joint
    does not count, infinite where nothing was predicted): curves and intervals are made from it.
    """

    total: float  # rate over all counted joints
    mean_of_joints: float  # mean of the rates of the single joints
    per_joint: dict[str, float]  # NaN for a joint that never counts
    people: int
    joints: int
    left_out: int  # people without a usable normaliser
    missing: int  # counted joints without a prediction: misses
    protocol: str  # the rule in words
    threshold: float
    skeleton: Skeleton
    relative: np.ndarray = field(repr=False)

    def rows(self) -> list[tuple[str, float]]:
        """The paper's rows: Head, Shoulder, ... averaged over left and right, then Total."""
        groups = self.skeleton.groups or tuple((name, (i,)) for i, name in enumerate(self.skeleton.parts))
        named = [
            (name, [self.per_joint[self.skeleton.parts[i]] for i in members]) for name, members in groups
        ]
        return [*((name, _mean(values)) for name, values in named), ("Total", self.total)]

    def to_markdown(self) -> str:
        """One row of the paper's table, with the rule below it."""
        return f"{_markdown([('PCK', self)])}\n\n{self.protocol}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; NaN becomes None."""
        return {
            "protocol": self.protocol,
            "threshold": self.threshold,
            "people": self.people,
            "joints": self.joints,
            "left_out": self.left_out,
            "missing": self.missing,
            "total": _json(self.total),
            "mean_of_joints": _json(self.mean_of_joints),
            "per_joint": {name: _json(value) for name, value in self.per_joint.items()},
            "rows": {name: _json(value) for name, value in self.rows()},
        }


def evaluate(
    pred: np.ndarray,
    gt: np.ndarray,
    protocol: str = "lsp-pck",
    *,
    labelled: np.ndarray | None = None,
    head_size: np.ndarray | None = None,
    norm: str | np.ndarray | None = None,
    threshold: float | None = None,
    skeleton: Skeleton | None = None,
) -> ScoreTable:
    """Score predictions against the truth by a published rule (spec `evaluation.md`).

    Args:
        pred: (N, K, 2) pixels; a NaN coordinate is a miss. gt: (N, K, 2) pixels.
        protocol: "lsp-pck", "lspet-pck", "flic-pck" or "mpii-pckh".
        labelled: (N, K) bool, joints with a truth; None: all whose truth is finite.
        head_size: (N,) pixels, for mpii-pckh. norm: for flic-pck, a normaliser's name or (N,) pixels.
        threshold: share of the normaliser, compared with <=; None takes the protocol's own.
        skeleton: joint order of the arrays; None takes the protocol's own.

    Raises:
        UserError: an unknown protocol (the known ones are listed), or one that lacks what it needs.
        ValueError: shapes that do not fit together.
    """
    if protocol not in PROTOCOLS:
        raise UserError(unknown("protocol", protocol, list(PROTOCOLS)))
    rule_of, own = PROTOCOLS[protocol]
    case = _case(pred, gt, labelled, head_size, norm, skeleton or own)
    rule = rule_of(case)
    limit = rule.threshold if threshold is None else float(threshold)
    usable = np.isfinite(rule.norm) & (rule.norm > 0)
    counted = rule.counted & case.labelled & usable[:, None]
    distance = np.linalg.norm(case.pred - case.gt, axis=-1)
    relative = np.where(np.isnan(distance), np.inf, distance) / np.where(usable, rule.norm, 1)[:, None]
    relative = np.where(counted, relative, np.nan)
    people, joints = int(counted.any(axis=1).sum()), int(counted.sum())
    per_joint = _rates(relative, limit)
    return ScoreTable(
        total=_mean_rate(relative, limit),
        mean_of_joints=_mean([rate for rate in per_joint if not np.isnan(rate)]),
        per_joint=dict(zip(case.skeleton.parts, per_joint.tolist(), strict=True)),
        people=people,
        joints=joints,
        left_out=int((~usable).sum()),
        missing=int((np.isnan(distance) & counted).sum()),
        protocol=_sentence(protocol, rule.text, limit, people, joints, int((~usable).sum())),
        threshold=limit,
        skeleton=case.skeleton,
        relative=relative,
    )


def pck_curve(table: ScoreTable, thresholds: Sequence[float] | np.ndarray) -> np.ndarray:
    """The total at each threshold, percent: (T,)."""
    return np.array([_mean_rate(table.relative, float(limit)) for limit in thresholds])


def auc(table: ScoreTable, largest: float = 0.5, step: float = 0.01) -> float:
    """Mean of the curve over thresholds 0, step, ..., largest, percent."""
    return float(pck_curve(table, np.arange(round(largest / step) + 1) * step).mean())


def stage_table(tables: Sequence[ScoreTable]) -> str:
    """Markdown: one row per stage in the paper's column order."""
    return _markdown([(f"stage {stage}", table) for stage, table in enumerate(tables, 1)])


def _case(
    pred: np.ndarray,
    gt: np.ndarray,
    labelled: np.ndarray | None,
    head_size: np.ndarray | None,
    norm: str | np.ndarray | None,
    skeleton: Skeleton,
) -> Case:
    pred, gt = np.asarray(pred, np.float64), np.asarray(gt, np.float64)
    if gt.ndim != 3 or gt.shape[2] != 2:
        raise ValueError(f"gt: wanted shape (N, K, 2), got {gt.shape}")
    if pred.shape != gt.shape:
        raise ValueError(f"pred: wanted the truth's shape {gt.shape}, got {pred.shape}")
    if gt.shape[1] != len(skeleton):
        raise ValueError(f"gt: skeleton {skeleton.name} has {len(skeleton)} joints, got {gt.shape[1]}")
    finite = np.isfinite(gt).all(axis=-1)
    if labelled is None:
        labelled = finite
    labelled = np.asarray(labelled)
    if labelled.shape != gt.shape[:2] or labelled.dtype != bool:
        raise ValueError(f"labelled: wanted bool {gt.shape[:2]}, got {labelled.dtype} {labelled.shape}")
    return Case(pred, gt, labelled & finite, skeleton, head_size, norm)


def _rates(relative: np.ndarray, limit: float) -> np.ndarray:
    """Percent of each joint's counted cases within ``limit``; NaN for a joint without any."""
    counts = (~np.isnan(relative)).sum(axis=0)
    hits = (relative <= limit).sum(axis=0)
    rates: np.ndarray = np.where(counts > 0, 100.0 * hits / np.maximum(counts, 1), np.nan)
    return rates


def _mean_rate(relative: np.ndarray, limit: float) -> float:
    count = int((~np.isnan(relative)).sum())
    return 100.0 * float((relative <= limit).sum()) / count if count else float("nan")


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _json(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def _sentence(protocol: str, text: str, limit: float, people: int, joints: int, left_out: int) -> str:
    out = f", {left_out} people without a usable normaliser left out" if left_out else ""
    kind = "PCKh" if protocol.endswith("pckh") else "PCK"
    return f"{kind}@{limit:g} ({protocol}): {text}, compared with <=; {people} people, {joints} joints{out}."


def _markdown(named: Sequence[tuple[str, ScoreTable]]) -> str:
    columns = [name for name, _ in named[0][1].rows()]
    lines = [f"| | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    for name, table in named:
        values = " | ".join("-" if np.isnan(value) else f"{value:.1f}" for _, value in table.rows())
        lines.append(f"| {name} | {values} |")
    return "\n".join(lines)
