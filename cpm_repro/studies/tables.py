"""Markdown tables of means and spreads over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cpm_repro.studies.statistics import spread


def mean_and_spread(values: Sequence[float], digits: int = 1) -> str:
    """``71.3 ± 1.2``: mean and sample standard deviation over seeds; the mean alone of a single seed."""
    mean, deviation = spread(values)
    return f"{mean:.{digits}f}" if math.isnan(deviation) else f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first column is words and whose others are numbers."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))
