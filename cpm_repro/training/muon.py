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
_RESTART = 3
"""Steps after which the matrix itself is brought up to date; rounding is amplified by 3.4445 a step."""


def orthogonalise(matrices: Tensor) -> Tensor:
    """Roughly the nearest (semi-)orthogonal matrix to each: singular values of 0.7-1.2.

    Five steps x <- p(x x^T) x of the quintic Newton-Schulz iteration, whose coefficients trade exactness for
    speed. All p are polynomials of one symmetric matrix and commute, so that the steps are multiplied
    together at the size of the short side, and x, which is up to 121 times as wide, is multiplied four times
    instead of ten. In float32 the result is as near to the exact iteration's as that of multiplying x itself.

    Args:
        matrices: (..., rows, columns) float32, each for itself.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    wide = matrices.mT if tall else matrices
    x = wide / (torch.linalg.matrix_norm(wide, keepdim=True) + 1e-7)
    for steps in (_RESTART, _STEPS - _RESTART):
        x = _polynomial(x @ x.mT, steps) @ x
    return x.mT if tall else x


def _polynomial(gram: Tensor, steps: int) -> Tensor:
    """What x is multiplied by in so many steps, from x x^T: (..., rows, rows)."""
    a, b, c = _QUINTIC
    product: Tensor | None = None
    for left in reversed(range(steps)):
        step = b * gram + c * (gram @ gram)
        step.diagonal(dim1=-2, dim2=-1).add_(a)
        product = step if product is None else step @ product
        if left:
            gram = step @ gram @ step
    assert product is not None
    return product


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled weight decay, for weights of two or more dimensions.

    Args:
        params: parameters (or groups) of shape (out, ...).
        lr: step length; a matrix of ``out`` rows moves by ``lr * sqrt(max(1, out / in))`` in each of its
            directions.
        momentum: share of the old momentum kept each step.
        weight_decay: share of the weight removed per unit of lr.
        run: calls a function for every weight on a CPU, ``map`` or a thread pool's; updates are independent.
            Elsewhere weights of one shape are updated together, since starting work takes longer there than
            doing it.
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
        list(self._run(self._update, *zip(*self._work(), strict=True)))
        return loss

    def _work(self) -> Iterator[tuple[list[Tensor], dict[str, Any]]]:
        """Weights that are updated together, and their group."""
        for group in self.param_groups:
            alike: dict[object, list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    alike.setdefault(_kind(weight), []).append(weight)
            for weights in alike.values():
                yield weights, group

    @torch.no_grad()
    def _update(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        for weight in weights:
            if "momentum_buffer" not in self.state[weight]:
                self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        buffers = [self.state[weight]["momentum_buffer"] for weight in weights]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, buffers, group["momentum"])
        # Columns may come in any order: with channels last they lie in memory as channels_last weights do.
        matrices = torch.stack([gradient.movedim(1, -1).flatten(1) for gradient in ahead])
        rows, columns = matrices.shape[1:]
        shape = weights[0].movedim(1, -1).shape
        moves = [move.view(shape).movedim(-1, 1) for move in orthogonalise(matrices).contiguous()]
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, moves, alpha=-group["lr"] * math.sqrt(max(1.0, rows / columns)))


def _kind(weight: Tensor) -> object:
    """Equal for weights that are updated together; a CPU's threads have more of it from one at a time."""
    return weight if weight.device.type == "cpu" else (weight.device, weight.shape)
