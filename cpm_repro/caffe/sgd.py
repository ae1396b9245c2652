"""Stochastic gradient descent as Caffe does it: the learning rate lives inside the momentum buffer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

_Key = tuple[float, float, float, torch.device, torch.dtype]


class CaffeSGD(torch.optim.Optimizer):
    """Caffe's SGD solver (spec `training.md`, Solver).

    For each parameter w with multipliers a (``lr_mult``) and d (``decay_mult``)::

        g = gradient / iter_size + weight_decay * d * w
        v = momentum * v + (lr * a) * g
        w = w - v

    torch.optim.SGD keeps the rate outside of v, which differs as soon as the rate changes: here an old v
    keeps the rate it was made with.

    All parameters with the same numbers are updated by one call of PyTorch's fused kernel, which reads w, v
    and the gradient once and writes w and v once, the least that is possible (20 bytes a float32 parameter).

    Args:
        params: parameters, or groups with ``lr_mult`` and ``decay_mult``.
        lr: base learning rate. momentum, weight_decay: as in the solver prototxt (L2 regularisation).
        iter_size: how many backward passes were accumulated into each gradient.
        clip_gradients: largest L2 norm of all gradients together, applied to the accumulated sum before
            anything else; negative: off.
        fused: False computes the three lines above with PyTorch's list operations, one pass over memory
            each, on any device; the fused kernel is for CPU and CUDA, and for a momentum that is not 0.
        missing_as_zero: what has no gradient (its lr_mult is 0, or no loss depends on it) is updated with
            one of 0, as Caffe does: it goes on decaying, and moving by the momentum that it has. False
            leaves it alone.
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
        fused: bool = True,
        missing_as_zero: bool = False,
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
        self.fused = fused
        self.missing_as_zero = missing_as_zero

    def __getstate__(self) -> dict[str, Any]:
        """What a copy keeps: torch's own optimisers have all their settings in ``defaults``."""
        own = ("iter_size", "clip_gradients", "fused", "missing_as_zero")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Apply one update."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        share = self._clip_factor() / self.iter_size
        for (rate, decay, momentum, device, _), weights in self._alike().items():
            gradients = [_gradient(weight) for weight in weights]
            if share != 1:
                gradients = list(torch._foreach_mul(gradients, share))
            buffers = [self._buffer(weight) for weight in weights]
            # Without a momentum the fused kernel takes no buffers, and then no rate either.
            fused = self.fused and momentum != 0 and device.type in ("cpu", "cuda")
            update = _fused if fused else _plain
            update(weights, gradients, buffers, rate, decay, momentum)
        return loss

    def _alike(self) -> dict[_Key, list[Tensor]]:
        """Parameters that are updated, by rate, decay, momentum, device and type."""
        alike: dict[_Key, list[Tensor]] = {}
        for group in self.param_groups:
            rate = group["lr"] * group["lr_mult"]
            decay = group["weight_decay"] * group["decay_mult"]
            for weight in group["params"]:
                moves = rate * decay != 0 or "momentum_buffer" in self.state.get(weight, ())
                if weight.grad is not None or (self.missing_as_zero and moves):
                    key = (rate, decay, group["momentum"], weight.device, weight.dtype)
                    alike.setdefault(key, []).append(weight)
        return alike

    def _clip_factor(self) -> float:
        weights = [weight for group in self.param_groups for weight in group["params"]]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        if self.clip_gradients < 0 or not gradients:
            return 1.0
        norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
        return self.clip_gradients / norm if norm > self.clip_gradients else 1.0

    def _buffer(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        buffer: Tensor = state["momentum_buffer"]
        if buffer.stride() != weight.stride():  # loaded from a file, where arrays are laid out plainly
            buffer = state["momentum_buffer"] = torch.empty_like(weight).copy_(buffer)
        return buffer


def _gradient(weight: Tensor) -> Tensor:
    """The gradient in its parameter's memory layout, which the fused kernel takes for granted; 0 without."""
    if weight.grad is None:
        return torch.zeros_like(weight)
    if weight.grad.stride() == weight.stride():
        return weight.grad
    return torch.empty_like(weight).copy_(weight.grad)


def _fused(
    weights: list[Tensor],
    gradients: list[Tensor],
    buffers: list[Tensor],
    rate: float,
    decay: float,
    momentum: float,
) -> None:
    """One pass: torch's v = momentum v + (1 - dampening) g, w = w - lr v, lr 1, rate = 1 - dampening."""
    torch._fused_sgd_(
        weights,
        gradients,
        buffers,
        weight_decay=decay,
        momentum=momentum,
        lr=1.0,
        dampening=1.0 - rate,
        nesterov=False,
        maximize=False,
        is_first_step=False,
    )


def _plain(
    weights: list[Tensor],
    gradients: list[Tensor],
    buffers: list[Tensor],
    rate: float,
    decay: float,
    momentum: float,
) -> None:
    """The class's three lines as they stand."""
    steps = torch._foreach_add(gradients, weights, alpha=decay)
    torch._foreach_mul_(buffers, momentum)
    torch._foreach_add_(buffers, steps, alpha=rate)
    torch._foreach_sub_(weights, buffers)
