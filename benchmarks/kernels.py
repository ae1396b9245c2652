"""What the kernels' benchmarks share: the back ends measured, and outputs that are not in the caches."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cpm_repro import ops

CUPY = tuple(name for name in ops.available_backends() if name == "cupy")
"""The CuPy back end, where there is one, besides the one that is chosen."""

ROTATED = 256e6
"""Bytes of outputs that are written in turn: several times a last-level cache."""

Outputs = tuple[Tensor, ...]
"""What one call writes into."""


def rotated(*shapes: tuple[int, ...], device: str) -> list[Outputs]:
    """As many sets of float32 outputs of those shapes as take more than ROTATED bytes."""
    sets = 1 + int(ROTATED / (4 * sum(math.prod(shape) for shape in shapes)))
    return [tuple(torch.zeros(shape, device=device) for shape in shapes) for _ in range(sets)]


def in_turn(sets: Sequence[Outputs], number: int) -> Outputs:
    """The set that a call writes into."""
    return sets[number % len(sets)]


def fill(sets: Sequence[Outputs], number: int = 0) -> None:
    """Writing the same memory and doing nothing else: the limit."""
    for tensor in in_turn(sets, number):
        tensor.fill_(0.5)
