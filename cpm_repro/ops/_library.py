"""The compiled library: loading it, and telling torch.compile and torch.export the shapes of its operators.

Importing this module loads ``cpm_repro._C``, which registers ``torch.ops.cpm_repro``. If that fails, the
exception is kept in ``LOAD_ERROR`` and the reference back end remains.
"""

# Fakes have the operators' signatures and need few of their arguments.
# ruff: noqa: ARG001

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cpm_repro.ops import _loss_gradient

BUILD_COMMAND = (
    "python setup.py build_ext --inplace"
    if (Path(__file__).parents[2] / "setup.py").is_file()
    else "pip install --force-reinstall --no-deps --no-build-isolation PATH/OF/A/CLONE"
)
"""What builds the library for this very package, be it a checkout or installed from a wheel."""


def _load() -> ImportError | OSError | None:
    try:
        importlib.import_module("cpm_repro._C")
    except (ImportError, OSError) as error:
        return error
    return None


LOAD_ERROR = _load()

OPERATORS = (
    "belief_maps_out",
    "center_map_out",
    "belief_map_loss",
    "belief_map_loss_backward",
    "imresize",
    "fuse_multiscale_out",
    "fuse_multiscale_peaks",
)


def _registered() -> frozenset[tuple[str, str]]:
    """(operator, device type) of all compiled code. A set, since torch.compile cannot ask the dispatcher."""
    if LOAD_ERROR is not None:
        return frozenset()
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    known = [name for name in OPERATORS if hasattr(torch.ops.cpm_repro, name)]  # an older build has fewer
    pairs = ((name, device) for name in known for device in ("cpu", "cuda"))
    return frozenset((name, device) for name, device in pairs if has(f"cpm_repro::{name}", device.upper()))


_REGISTERED = _registered()


def all_plain(positions: torch.Tensor, codes: torch.Tensor | None = None) -> bool:
    """True if all positions are finite and all codes are 0, 1 or 2; False also where that is not known.

    Args:
        positions: contiguous float32 on the CPU.
        codes: contiguous int32 on the CPU.
    """
    if _ALL_PLAIN is None:
        return False
    if codes is None:
        return bool(_ALL_PLAIN(positions.data_ptr(), positions.numel(), 0, 0))
    return bool(_ALL_PLAIN(positions.data_ptr(), positions.numel(), codes.data_ptr(), codes.numel()))


_ALL_PLAIN: Callable[..., bool] | None = (
    None if LOAD_ERROR else getattr(sys.modules["cpm_repro._C"], "all_plain", None)  # not in an older build
)


def has_kernel(operator: str, device_type: str) -> bool:
    """True if ``torch.ops.cpm_repro.<operator>`` has compiled code for ``device_type`` ("cpu" or "cuda")."""
    return LOAD_ERROR is None and (operator, device_type) in _REGISTERED


def _fake_belief_maps_out(
    joints: torch.Tensor,
    visible: torch.Tensor,
    center: torch.Tensor | None,
    stride: float,
    sigma: float,
    center_sigma: float,
    label: torch.Tensor,
    center_map: torch.Tensor | None,
) -> None:
    """Writes into its outputs and returns nothing."""


def _fake_center_map_out(center: torch.Tensor, sigma: float, cutoff: bool, center_map: torch.Tensor) -> None:
    """Writes into its output and returns nothing."""


def _fake_belief_map_loss(
    maps: list[torch.Tensor],
    joints: torch.Tensor,
    visible: torch.Tensor,
    stride: float,
    sigma: float,
    scale: float,
) -> torch.Tensor:
    return joints.new_empty(len(maps))


def _fake_belief_map_loss_backward(
    grad_losses: torch.Tensor,
    maps: list[torch.Tensor],
    joints: torch.Tensor,
    visible: torch.Tensor,
    stride: float,
    sigma: float,
    scale: float,
) -> list[torch.Tensor]:
    return [torch.empty_like(stage) for stage in maps]


def _fake_imresize(
    image: torch.Tensor, height: int, width: int, scale_y: float, scale_x: float
) -> torch.Tensor:
    return image.new_empty((height, width, *image.shape[2:]))


def _fake_fuse_multiscale_out(
    maps: list[torch.Tensor],
    geometry: list[int],
    weights: list[float],
    stride: int,
    background: bool,
    opencv: bool,
    out: list[torch.Tensor],
) -> None:
    """Writes into its outputs and returns nothing."""


def _fake_fuse_multiscale_peaks(
    maps: list[torch.Tensor],
    geometry: list[int],
    weights: list[float],
    images: list[int],
    stride: int,
    background: bool,
    opencv: bool,
    row_major: bool,
    subpixel: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    channels = sum(person.shape[1] for person in maps)
    return maps[0].new_empty((channels, 2)), maps[0].new_empty(channels)


def _save_for_loss_gradient(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    maps, joints, visible, ctx.stride, ctx.sigma, ctx.scale = inputs
    ctx.save_for_backward(joints, visible, *maps)


def _backward_of_loss(ctx: Any, grad_losses: torch.Tensor) -> tuple[Any, ...]:
    joints, visible, *maps = ctx.saved_tensors
    grads = torch.ops.cpm_repro.belief_map_loss_backward(
        grad_losses.contiguous(), maps, joints, visible, ctx.stride, ctx.sigma, ctx.scale
    )
    return grads, None, None, None, None, None


def _save_for_second_gradient(ctx: Any, inputs: tuple[Any, ...], output: list[torch.Tensor]) -> None:
    grad_losses, maps, joints, visible, ctx.stride, ctx.sigma, ctx.scale = inputs
    ctx.save_for_backward(grad_losses, joints, visible, *maps)


def _backward_of_gradient(ctx: Any, upstream: list[torch.Tensor]) -> tuple[Any, ...]:
    grad_losses, joints, visible, *maps = ctx.saved_tensors

    def gradient(of_losses: torch.Tensor) -> list[torch.Tensor]:
        arguments = (maps, joints, visible, ctx.stride, ctx.sigma, ctx.scale)
        grads: list[torch.Tensor] = torch.ops.cpm_repro.belief_map_loss_backward(of_losses, *arguments)
        return grads

    to_losses, to_maps = _loss_gradient.derivative(upstream, grad_losses, ctx.scale, gradient)
    return to_losses, to_maps, None, None, None, None, None


_FAKES: dict[str, Callable[..., Any]] = {
    "belief_maps_out": _fake_belief_maps_out,
    "center_map_out": _fake_center_map_out,
    "belief_map_loss": _fake_belief_map_loss,
    "belief_map_loss_backward": _fake_belief_map_loss_backward,
    "imresize": _fake_imresize,
    "fuse_multiscale_out": _fake_fuse_multiscale_out,
    "fuse_multiscale_peaks": _fake_fuse_multiscale_peaks,
}

_GRADIENTS: dict[str, tuple[Callable[..., Any], Callable[..., None]]] = {
    "belief_map_loss": (_backward_of_loss, _save_for_loss_gradient),
    "belief_map_loss_backward": (_backward_of_gradient, _save_for_second_gradient),
}

for _name, _fake in _FAKES.items():
    if has_kernel(_name, "cpu"):
        torch.library.register_fake(f"cpm_repro::{_name}", _fake)
for _name, (_backward, _save) in _GRADIENTS.items():
    if has_kernel(_name, "cpu"):
        torch.library.register_autograd(f"cpm_repro::{_name}", _backward, setup_context=_save)
