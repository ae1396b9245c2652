"""Muon: momentum whose matrix updates are orthogonalised before they are applied.

K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). torch.optim.Muon takes
two-dimensional parameters only; a convolution's weight (out, in, kh, kw) is treated here as the matrix
(out, in*kh*kw). It is no part of the paper: the ``tiny`` preset uses it because it learns a pose machine
from far fewer samples than AdamW does, which is what counts on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

_QUINTIC = (3.4445, -4.7750, 2.0315)
_STEPS = 5


def orthogonalise(matrix: Tensor) -> Tensor:
    """Roughly the nearest (semi-)orthogonal matrix to ``matrix`` (rows, columns): singular values of 0.7-1.2.

    Five steps of the quintic Newton-Schulz iteration, whose coefficients trade exactness for speed.
    """
    a, b, c = _QUINTIC
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = wide / (wide.norm() + 1e-7)
    for _ in range(_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled weight decay, for weights of two or more dimensions.

    Args:
        params: parameters (or groups) of shape (out, ...).
        lr: step length; a matrix of ``out`` rows moves by ``lr * sqrt(max(1, out / in))`` in each of its
            directions.
        momentum: share of the old momentum kept each step.
        weight_decay: share of the weight removed per unit of lr.
        run: calls a function for every weight, ``map`` or a thread pool's; the updates are independent.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        run: Callable[..., Iterator[None]] = map,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._run = run

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Apply one update to every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        work = [
            (weight, group)
            for group in self.param_groups
            for weight in group["params"]
            if weight.grad is not None
        ]
        list(self._run(self._update, *zip(*work, strict=True)))
        return loss

    @torch.no_grad()
    def _update(self, weight: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        buffer = state["momentum_buffer"]
        assert weight.grad is not None
        buffer.lerp_(weight.grad, 1 - group["momentum"])
        ahead = weight.grad.lerp(buffer, group["momentum"])
        matrix = ahead.reshape(weight.shape[0], -1)
        rows, columns = matrix.shape
        update = orthogonalise(matrix).reshape(weight.shape)
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(update, alpha=-group["lr"] * math.sqrt(max(1.0, rows / columns)))
