"""The look that all our figures share, and how they are saved."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpm_repro.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLE: Any = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "svg.hashsalt": "cpm",  # the same curves give the same file
}
_SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Colours of unordered runs that stay apart for colour-blind readers (Okabe and Ito)."""

GUIDE: Any = {"color": "#999999", "linewidth": 0.8, "linestyle": ":"}
"""How ``axvline`` and ``axhline`` mark a place to compare with."""


_drawing = threading.RLock()
"""One thread draws at a time: the second would find the first one's style, and leave it for good."""


@contextmanager
def figure_of(
    size: tuple[float, float], panels: int, columns: int | None = None
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure and its axes, drawn in our style; matplotlib's own, which is the process's, is put back."""
    import matplotlib
    from matplotlib.figure import Figure

    with _drawing, matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        columns = columns or panels
        lines = -(-panels // columns)
        yield figure, [figure.add_subplot(lines, columns, index + 1) for index in range(panels)]


def series_colours(count: int) -> list[str]:
    """Colours of things without an order, that stay apart for colour-blind readers; seven, then again."""
    return [_SERIES[index % len(_SERIES)] for index in range(count)]


def ordered_colours(count: int) -> list[tuple[float, ...]]:
    """Colours in an order the eye reads as one (early to late), without the palest."""
    import matplotlib

    scale = matplotlib.colormaps["viridis"]
    return [tuple(scale(0.85 * index / max(1, count - 1))) for index in reversed(range(count))]


def save_figure(figure: Figure, path: Path) -> tuple[Path, Path]:
    """Write PNG and SVG side by side under ``path``'s name, atomically; returns both paths, PNG first.

    The name is ``path`` without .png or .svg: other dots belong to it (``run_0.5``).
    """
    name = path.stem if path.suffix in (".png", ".svg") else path.name
    png, svg = path.with_name(f"{name}.png"), path.with_name(f"{name}.svg")
    with atomic_write(png) as file:
        figure.savefig(file, format="png", dpi=130)
    figure.set_layout_engine("none")  # places are found once; finding them takes longer than drawing
    with atomic_write(svg) as file:
        figure.savefig(file, format="svg", metadata={"Date": None})
    return png, svg
