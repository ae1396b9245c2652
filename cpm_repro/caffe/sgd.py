"""Stochastic gradient descent as Caffe does it: the learning rate lives inside the momentum buffer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class CaffeSGD(torch.optim.Optimizer):
    """Caffe's SGD solver (spec `training.md`, Solver).

    For each parameter w with multipliers a (``lr_mult``) and d (``decay_mult``)::

        g = gradient / iter_size + weight_decay * d * w
        v = momentum * v + (lr * a) * g
        w = w - v

    torch.optim.SGD keeps the rate outside of v, which differs as soon as the rate changes: here an old v
    keeps the rate it was made with.

    Args:
        params: parameters, or groups with ``lr_mult`` and ``decay_mult``.
        lr: base learning rate. momentum, weight_decay: as in the solver prototxt (L2 regularisation).
        iter_size: how many backward passes were accumulated into each gradient.
        clip_gradients: largest L2 norm of all gradients together, applied to the accumulated sum before
            anything else; negative: off.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        iter_size: int = 1,
        clip_gradients: float = -1.0,
    ) -> None:
        if iter_size < 1:
            raise ValueError(f"iter_size: wanted at least 1, got {iter_size}")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "lr_mult": 1.0,
            "decay_mult": 1.0,
        }
        super().__init__(params, defaults)
        self.iter_size = iter_size
        self.clip_gradients = clip_gradients

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Apply one update; parameters without a gradient are left alone."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        share = self._clip_factor() / self.iter_size
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._update(weights, group, share)
        return loss

    def _clip_factor(self) -> float:
        if self.clip_gradients < 0:
            return 1.0
        weights = [weight for group in self.param_groups for weight in group["params"]]
        norms = [weight.grad.norm() for weight in weights if weight.grad is not None]
        norm = float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0
        return self.clip_gradients / norm if norm > self.clip_gradients else 1.0

    def _update(self, weights: list[Tensor], group: dict[str, Any], share: float) -> None:
        buffers = [self._buffer(weight) for weight in weights]
        gradients = torch._foreach_mul([weight.grad for weight in weights if weight.grad is not None], share)
        decay = group["weight_decay"] * group["decay_mult"]
        if decay:
            torch._foreach_add_(gradients, weights, alpha=decay)
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, gradients, alpha=group["lr"] * group["lr_mult"])
        torch._foreach_sub_(weights, buffers)

    def _buffer(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        buffer: Tensor = state["momentum_buffer"]
        return buffer
