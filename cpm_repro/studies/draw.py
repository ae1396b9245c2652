"""Drawing that several studies share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
PCK_LABEL = "PCK@0.2 (%), mean and range over seeds"


def line_with_spread(
    axes: Axes,
    x: Sequence[float],
    values: Sequence[Sequence[float]],
    colour: Any,
    label: str,
    marker: str = "o",
) -> None:
    """Mean over seeds as a line, and their range as a band.

    ``values`` is (seeds, len(x)).
    """
    table = np.asarray(values, dtype=np.float64)
    at = np.asarray(x, dtype=np.float64)
    if len(table) > 1:
        axes.fill_between(at, table.min(axis=0), table.max(axis=0), color=colour, alpha=0.18, linewidth=0)
    axes.plot(at, table.mean(axis=0), color=colour, linewidth=1.8, marker=marker, markersize=4, label=label)
