"""The stage losses straight from joints: targets are made where they are compared and never stored."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.autograd import forward_ad

from cpm_repro.ops import _checks, _cupy, _reference
from cpm_repro.ops._backend import choose, name_of


def belief_map_loss(
    maps: Sequence[torch.Tensor],
    joints: torch.Tensor,
    visible: torch.Tensor,
    stride: float = 8,
    sigma: float = 7.0,
    *,
    count: int | None = None,
    backend: str | None = None,
) -> torch.Tensor:
    """Loss of every stage against ideal belief maps, in Caffe's units: sum of squared differences / (2 N).

    The first stage is held against the maps of everybody, later ones against the annotated person's alone
    (spec `training.md`, Loss; `transform.md`, Output; paper section 2.4). Differences and sums are float32 or
    better whatever type the maps have; the result does not depend on the number of threads. Differentiable
    with respect to ``maps``, any number of times; not to ``joints``. Forward-mode derivatives and torch.func
    (grad, vmap, jvp, ...) go through the reference back end; not inside torch.compile, where they are errors.

    Args:
        maps: per stage (N, K+1, h, w), stage 1 first; float32, float16 or bfloat16, all alike.
        joints: (N, P, K, 2) floating point, input pixels, 0-based; person 0 is the annotated one.
        visible: (N, P, K) integer ``Visibility`` codes.
        stride: input pixels per cell.
        sigma: of the target bumps, in pixels.
        count: N in the formula when these samples are only a part of a batch; default: their number.
        backend: cpu, cuda, cupy or reference; default: CPM_BACKEND, else the fastest there is.

    Returns:
        (stages,) float32. The training objective is its sum.

    Raises:
        TypeError, ValueError: naming the argument, what was wanted and what was got.
    """
    stages = _stages(maps)
    positions = _checks.positions("joints", joints, "(N, P, K, 2)")
    samples, people, parts = positions.shape[:3]
    if people < 1:
        raise ValueError(
            "joints must hold at least one person per sample, got 0 (use visible = 2 for absent people)"
        )
    codes = _checks.visibility(visible, positions)
    stride, sigma = _checks.positive_single("stride", stride), _checks.positive("sigma", sigma)
    wanted = (samples, parts + 1)
    if stages[0].shape[:2] != wanted:
        raise ValueError(
            f"maps must have shape {wanted} + (h, w) to fit joints, got {tuple(stages[0].shape)}"
        )
    _checks.same_device("maps", stages[0], "joints", positions)
    whole = max(samples, 1) if count is None else _checks.whole_positive("count", count)
    _checks.report_values("joints", positions, codes, visible)
    scale = 0.5 / whole
    chosen = choose(backend, "belief_map_loss", positions.device)
    if chosen != "reference" and _transformed(stages):
        if name_of(backend) is not None:
            raise ValueError(
                f"backend must be 'reference' in torch.func and for forward-mode derivatives, got {chosen!r}"
            )
        chosen = "reference"  # a kernel would say that the derivative is 0
    if chosen == "reference":
        return _reference.belief_map_loss(stages, positions, codes, stride, sigma, scale)
    if chosen == "cupy":
        return _cupy.belief_map_loss(stages, positions, codes, stride, sigma, scale)
    return torch.ops.cpm_repro.belief_map_loss(stages, positions, codes, stride, sigma, scale)


def _transformed(stages: list[torch.Tensor]) -> bool:
    """Whether a transform of torch.func or forward-mode differentiation is at work, which no kernel knows."""
    if torch.compiler.is_compiling():
        return False
    if forward_ad._current_level >= 0 and any(forward_ad.unpack_dual(s).tangent is not None for s in stages):
        return True
    return _checks.in_torch_func()


def _stages(maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """``maps`` as a list of alike contiguous tensors."""
    stages = _checks.tensors("maps", maps, "stage")
    if not 1 <= len(stages) <= _checks.MAX_STAGES:
        raise ValueError(f"maps must hold 1 to {_checks.MAX_STAGES} stages, got {len(stages)}")
    first = stages[0]
    if first.dtype not in _checks.OUTPUT_TYPES:
        raise TypeError(f"maps[0] must be float32, float16 or bfloat16, got {first.dtype}")
    if first.ndim != 4:
        raise ValueError(f"maps[0] must have shape (N, K+1, h, w), got {tuple(first.shape)}")
    if not torch.compiler.is_compiling() and max(first.shape) > _checks.MAX_SIDE:
        raise ValueError(f"maps[0] must have sides of at most {_checks.MAX_SIDE}, got {tuple(first.shape)}")
    for index, stage in enumerate(stages):
        if (stage.shape, stage.dtype, stage.device) != (first.shape, first.dtype, first.device):
            want = f"{tuple(first.shape)} {first.dtype} on {first.device} like maps[0]"
            raise ValueError(
                f"maps[{index}] must be {want}, got {tuple(stage.shape)} {stage.dtype} on {stage.device}"
            )
    return [stage.contiguous() for stage in stages]
