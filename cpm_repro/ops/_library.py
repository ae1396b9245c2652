"""The compiled library: loading it, and telling torch.compile and torch.export the shapes of its operators.

Importing this module loads ``cpm_repro._C``, which registers ``torch.ops.cpm_repro``. If that fails, the
exception is kept in ``LOAD_ERROR`` and the reference back end remains.
"""

from __future__ import annotations

import importlib

import torch

BUILD_COMMAND = "python setup.py build_ext --inplace"


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
    "fuse_multiscale",
    "fuse_multiscale_peaks",
    "imresize",
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


if LOAD_ERROR is None:
    torch.library.register_fake("cpm_repro::belief_maps_out", _fake_belief_maps_out)
    torch.library.register_fake("cpm_repro::center_map_out", _fake_center_map_out)
