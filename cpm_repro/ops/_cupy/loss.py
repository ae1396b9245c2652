"""The stage losses, their gradient: csrc/cuda/belief_map_loss_kernel.h, launched as in belief_map_loss.cu."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cpm_repro.ops import _loss_gradient
from cpm_repro.ops._cupy.belief import PARAMS as BELIEF_PARAMS
from cpm_repro.ops._cupy.belief import target_params
from cpm_repro.ops._cupy.runtime import TYPES, Entry, blocks_for, launch, pointer, source

THREADS, STAGES_AT_ONCE, MAX_STAGES = 256, 8, 32  # as in the headers; a test compares

# LossParams of csrc/math/loss.h, field by field; a test compares the layout.
PARAMS = np.dtype(
    [
        ("target", BELIEF_PARAMS),
        ("maps", np.uint64, MAX_STAGES),
        ("grads", np.uint64, MAX_STAGES),
        ("grad_losses", np.uint64),
        ("partial", np.uint64),
        ("stages", np.int32),
        ("scale", np.float64),
    ],
    align=True,
)

HEADER = "belief_map_loss_kernel.h"
_BOUNDS = "cpm::loss_kernels::kThreads, cpm::loss_kernels::kBlocksAtLeast"
ENTRIES = (
    *(
        Entry(
            f"loss_planes_{number}",
            "cpm::LossParams p, int first_stage",
            f"cpm::loss_kernels::loss_planes_body<{kind}>(p, first_stage)",
            _BOUNDS,
        )
        for number, kind in TYPES.values()
    ),
    Entry(
        "loss_total",
        "cpm::LossParams p, float* losses",
        "cpm::loss_kernels::loss_total_body(p, losses)",
        _BOUNDS,
    ),
    *(
        Entry(
            f"loss_gradient_{number}",
            "cpm::LossParams p",
            f"cpm::loss_kernels::loss_gradient_body<{kind}>(p)",
            _BOUNDS,
        )
        for number, kind in TYPES.values()
    ),
)


def belief_map_loss(
    maps: list[torch.Tensor],
    joints: torch.Tensor,
    visible: torch.Tensor,
    stride: float,
    sigma: float,
    scale: float,
) -> torch.Tensor:
    """As ``torch.ops.cpm_repro.belief_map_loss``: differentiable with respect to ``maps``."""
    result: torch.Tensor = _StageLosses.apply(joints, visible, stride, sigma, scale, *maps)
    return result


class _StageLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        joints: torch.Tensor,
        visible: torch.Tensor,
        stride: float,
        sigma: float,
        scale: float,
        *maps: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(joints, visible, *maps)
        ctx.numbers = (stride, sigma, scale)
        params = _params(maps, joints, visible, *ctx.numbers)
        samples, channels = maps[0].shape[:2]
        planes = samples * channels
        losses = joints.new_empty(len(maps))
        partial = joints.new_empty((len(maps), planes), dtype=torch.float64)
        params["partial"] = partial.data_ptr()
        text, device = source(HEADER, ENTRIES), joints.device
        entry, grid = f"loss_planes_{TYPES[maps[0].dtype][0]}", (blocks_for(planes),)
        for first in range(0, len(maps) if planes else 0, STAGES_AT_ONCE):
            launch(text, entry, grid, THREADS, (params, np.int32(first)), device)
        launch(text, "loss_total", (len(maps),), THREADS, (params, pointer(losses)), device)
        return losses

    @staticmethod
    def backward(ctx: Any, grad_losses: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        joints, visible, *maps = ctx.saved_tensors
        grads = _StageGradients.apply(grad_losses.contiguous(), joints, visible, *ctx.numbers, *maps)
        return (None, None, None, None, None, *grads)


class _StageGradients(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        grad_losses: torch.Tensor,
        joints: torch.Tensor,
        visible: torch.Tensor,
        stride: float,
        sigma: float,
        scale: float,
        *maps: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        ctx.save_for_backward(grad_losses, joints, visible, *maps)
        ctx.numbers = (stride, sigma, scale)
        params = _params(maps, joints, visible, *ctx.numbers)
        grads = [torch.empty_like(stage) for stage in maps]
        params["grad_losses"] = grad_losses.data_ptr()
        params["grads"][0, : len(grads)] = [grad.data_ptr() for grad in grads]
        total = maps[0].numel()
        if total:
            entry, grid = f"loss_gradient_{TYPES[maps[0].dtype][0]}", (blocks_for(total, THREADS),)
            launch(source(HEADER, ENTRIES), entry, grid, THREADS, (params,), joints.device)
        return tuple(grads)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_losses, joints, visible, *maps = ctx.saved_tensors

        def gradient(of_losses: torch.Tensor) -> tuple[torch.Tensor, ...]:
            grads: tuple[torch.Tensor, ...] = _StageGradients.apply(
                of_losses, joints, visible, *ctx.numbers, *maps
            )
            return grads

        to_losses, to_maps = _loss_gradient.derivative(upstream, grad_losses, ctx.numbers[2], gradient)
        return (to_losses, None, None, None, None, None, *to_maps)


def _params(
    maps: Any, joints: torch.Tensor, visible: torch.Tensor, stride: float, sigma: float, scale: float
) -> Any:
    params = np.zeros(1, PARAMS)
    params["target"] = target_params(joints, visible, stride, sigma, maps[0])
    params["maps"][0, : len(maps)] = [stage.data_ptr() for stage in maps]
    params["stages"], params["scale"] = len(maps), scale
    return params
