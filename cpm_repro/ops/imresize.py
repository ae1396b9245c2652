"""MATLAB's bicubic imresize."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch

from cpm_repro.ops import _checks, _cupy, _reference_resize
from cpm_repro.ops._backend import choose

Array = TypeVar("Array", np.ndarray, torch.Tensor)
MIN_SCALE = 1e-5  # the stretched kernel then looks at 400,000 pixels
_TYPES = (torch.uint8, torch.float32, torch.float64)


def imresize(
    array: Array, scale: float | None = None, size: Sequence[int] | None = None, *, backend: str | None = None
) -> Array:
    """Resize as MATLAB's ``imresize(array, scale)`` or ``imresize(array, [h w])`` does, bicubic.

    Keys' cubic with a = -0.5, stretched when shrinking (antialiasing), weights normalised, edges mirrored;
    the axis with the smaller scale goes first, rows when equal; uint8 is rounded (half to even) and clipped
    after each axis. Spec `inference.md`. Sums are float64. OpenCV's INTER_CUBIC and torch's bicubic differ
    (both a = -0.75, no antialiasing). Not differentiable.

    Args:
        array: (H, W) or (H, W, C), NumPy array or torch tensor; uint8, float32 or float64.
        scale: one factor for both axes; the result has ceil(scale * size) pixels per axis.
        size: (h, w) of the result; each axis then has its own scale out / in. Give either scale or size.
        backend: cpu, cuda, cupy or reference; default: CPM_BACKEND, else the fastest there is.

    Returns:
        The resized array, same kind and dtype.

    Raises:
        TypeError, ValueError: naming the argument, what was wanted and what was got.
    """
    result = _resize(_as_tensor(array), scale, size, backend)
    return result.numpy() if isinstance(array, np.ndarray) else result


def _resize(
    array: torch.Tensor, scale: float | None, size: Sequence[int] | None, backend: str | None
) -> torch.Tensor:
    if array.dtype not in _TYPES:
        raise TypeError(f"array must be uint8, float32 or float64, got {array.dtype}")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(f"array must be a non-empty (H, W) or (H, W, C), got shape {tuple(array.shape)}")
    wanted, scales = _wanted(array, scale, size)
    given = array.detach().contiguous()
    # Asked for here, and given back, so that a size beyond memory is the caller's mistake by name.
    name = "size" if scale is None else "scale"
    _checks.allocate(name, [*wanted, *given.shape[2:]], given.dtype, given.device)
    chosen = choose(backend, "imresize", given.device)
    with _checks.in_memory(name, wanted):
        if chosen == "reference":
            return _reference_resize.imresize(given, wanted, scales)
        if chosen == "cupy":
            return _cupy.imresize(given, *wanted, *scales)
        return torch.ops.cpm_repro.imresize(given, *wanted, *scales)


def _as_tensor(array: object) -> torch.Tensor:
    """The array as a tensor; NumPy arrays must have a type that torch knows."""
    if not isinstance(array, np.ndarray):
        return _checks.tensor("array", array)
    if array.dtype not in (np.uint8, np.float32, np.float64):
        raise TypeError(f"array must be uint8, float32 or float64, got {array.dtype}")
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))  # torch warns of what is read-only


def _wanted(
    array: torch.Tensor, scale: float | None, size: Sequence[int] | None
) -> tuple[tuple[int, int], tuple[float, float]]:
    """Result size and scale per axis."""
    if (scale is None) == (size is None):
        got = f"scale={_checks.shown(scale)} and size={_checks.shown(size)}"
        raise ValueError(f"imresize wants either scale or size, got {got}")
    height, width = array.shape[:2]
    if size is not None:
        wanted = _checks.size("size", size)
        return wanted, (wanted[0] / height, wanted[1] / width)
    factor = _checks.positive("scale", scale)
    if factor < MIN_SCALE:
        raise ValueError(f"scale must be at least {MIN_SCALE}, got {factor}")
    if factor > _checks.MAX_SIDE:
        raise ValueError(f"scale must be at most {_checks.MAX_SIDE}, got {factor}")
    wanted = _checks.size("scale * size", [math.ceil(factor * height), math.ceil(factor * width)])
    return wanted, (factor, factor)
