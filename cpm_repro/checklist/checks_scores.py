"""Scores of published predictions."""

from __future__ import annotations

from typing import Any

from cpm_repro.checklist.context import Context
from cpm_repro.errors import UserError
from cpm_repro.evaluation import ScoreTable, bootstrap_interval, score_file


def score(context: Context, file: str, row: str, **options: Any) -> float:
    """A row of the table ("Elb"), "total" or "mean" (of joints); ``options`` as for :func:`score_file`."""
    table = _table(context, file, options)
    named = {"total": table.total, "mean": table.mean_of_joints, **table.per_row}
    if row not in named:
        raise UserError(f"{file}: wanted a row {row}, got those of other parts: {', '.join(table.per_row)}")
    return named[row]


def people(context: Context, file: str) -> float:
    """How many people count."""
    return _table(context, file, {}).people


def interval(context: Context, file: str) -> list[float]:
    """Ends of the total's 95 % interval by resampling people."""
    found = bootstrap_interval(_table(context, file, {}))["Total"]
    return [found.low, found.high]


def _table(context: Context, file: str, options: dict[str, Any]) -> ScoreTable:
    return score_file(context.path(f"predictions/{file}"), **options).table
