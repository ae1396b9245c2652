"""Arrays of files that nobody vouches for, held against what scoring wants of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cpm_repro.errors import UserError

Side = int | str | tuple[int, ...]
"""Of a wanted shape: a size, any size under its name, or one of several sizes."""


def numbers(source: str | Path, name: str, values: Any, *shapes: tuple[Side, ...]) -> np.ndarray:
    """``values`` as float64, which must be numbers (or flags) in one of ``shapes``.

    Raises:
        UserError: they are something else.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "fiub" or not any(_fits(array.shape, shape) for shape in shapes):
        wanted = " or ".join(map(_in_words, shapes))
        raise UserError(f"{source}: wanted {name} as {wanted}, got {_in_words(array.shape)} of {array.dtype}")
    return array.astype(np.float64)


def names(
    source: str | Path, content: Mapping[str, np.ndarray], keys: Sequence[str], count: int
) -> tuple[str, ...] | None:
    """The names under the first of ``keys`` that is there, or None.

    Raises:
        UserError: they are not ``count`` names.
    """
    key = next((key for key in keys if key in content), None)
    if key is None:
        return None
    found = content[key]
    if found.shape != (count,):
        raise UserError(
            f"{source}: wanted {key} as {count} names, got {_in_words(found.shape)} of {found.dtype}"
        )
    if found.dtype.kind == "S":  # as h5py and Python 2 give them
        return tuple(name.decode("utf-8", "replace") for name in found.tolist())
    return tuple(map(str, found))


def _fits(shape: tuple[int, ...], wanted: tuple[Side, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        isinstance(side, str) or size in (side if isinstance(side, tuple) else (side,))
        for size, side in zip(shape, wanted, strict=True)
    )


def _in_words(shape: tuple[Side, ...]) -> str:
    """``people x joints x 2``; of several sizes the first."""
    sides = [str(side[0] if isinstance(side, tuple) else side) for side in shape]
    return " x ".join(sides) or "a single value"
