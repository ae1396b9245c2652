"""The derivative of the stage losses' gradient, for all kernels: it needs no kernel of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

Gradient = Callable[[torch.Tensor], Sequence[torch.Tensor]]


def derivative(
    upstream: Sequence[torch.Tensor], grad_losses: torch.Tensor, scale: float, gradient: Gradient
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """What flows back through ``grads = gradient(grad_losses)``, the gradients of the losses.

    ``grads[s] = 2 * scale * grad_losses[s] * (maps[s] - targets[s])``: linear in what flows back into the
    losses and in the maps. Sums are float32 whatever type the maps have. Differentiable again.

    Args:
        upstream: per stage the shape and type of its maps.
        grad_losses: (stages,) float32.
        scale: of the losses, 1 / (2 N).
        gradient: the gradients of the losses as a function of ``grad_losses``, for the same maps.

    Returns:
        For ``grad_losses`` (stages,) float32, and for the maps per stage their shape and type.
    """
    factor = 2 * scale
    # The differences themselves, which 16-bit types hold without underflow.
    differences = gradient(torch.full_like(grad_losses, 1 / factor))
    pairs = zip(upstream, differences, strict=True)
    to_losses = torch.stack([(up.float() * difference.float()).sum() for up, difference in pairs]) * factor
    factors = (grad_losses * factor).unbind()
    to_maps = [(up.float() * one).to(up.dtype) for up, one in zip(upstream, factors, strict=True)]
    return to_losses, to_maps
