"""Which code runs an operator: compiled CPU, compiled CUDA, CuPy, or the torch reference."""

from __future__ import annotations

import functools
import importlib.util
import os
import warnings

import torch

from cpm_repro.ops import _library

BACKENDS = ("cpu", "cuda", "cupy", "reference")


def choose(backend: str | None, operator: str, device: torch.device) -> str:
    """Name of the back end for ``operator`` on tensors of ``device``.

    ``backend`` wins over the environment variable CPM_BACKEND; without either, the compiled kernel of the
    device is taken, then CuPy on CUDA devices, then the reference with one warning.

    Raises:
        ValueError: an unknown name, or a back end that cannot run on this device or is not installed.
    """
    wanted = backend if backend is not None else os.environ.get("CPM_BACKEND") or None
    if wanted is None:
        return _automatic(operator, device.type)
    if wanted not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {wanted!r}")
    if wanted == "reference":
        return wanted
    needed_device = "cpu" if wanted == "cpu" else "cuda"
    if device.type != needed_device:
        raise ValueError(f"backend {wanted!r} needs {needed_device} tensors, got {device.type} tensors")
    if wanted == "cupy":
        if not _has_cupy():
            raise ValueError("backend 'cupy' is not installed: install the extra [cuda12] or [cuda13]")
        return wanted
    if not _library.has_kernel(operator, wanted):
        raise ValueError(
            f"backend {wanted!r} is not built ({_why_not(wanted, operator)}): run `{_library.BUILD_COMMAND}`"
        )
    return wanted


def available_backends() -> tuple[str, ...]:
    """Names of the back ends that can run here."""
    found = [name for name in ("cpu", "cuda") if _library.has_kernel("belief_maps_out", name)]
    if not torch.cuda.is_available():
        found = [name for name in found if name != "cuda"]
    elif _has_cupy():
        found.append("cupy")
    return (*found, "reference")


def _automatic(operator: str, device_type: str) -> str:
    if device_type in ("cpu", "cuda") and _library.has_kernel(operator, device_type):
        return device_type
    if device_type == "cuda" and _has_cupy():
        return "cupy"
    if device_type in ("cpu", "cuda"):
        _warn_once(
            f"cpm_repro runs slow reference operators on {device_type} tensors: "
            f"{_why_not(device_type, operator)}; "
            f"build the fast ones with `{_library.BUILD_COMMAND}`"
        )
    return "reference"


def _why_not(device_type: str, operator: str) -> str:
    if _library.LOAD_ERROR is not None:
        return f"the extension does not load: {str(_library.LOAD_ERROR).splitlines()[0]}"
    return f"the extension was built without {device_type.upper()} code for {operator}"


@functools.cache
def _has_cupy() -> bool:
    return importlib.util.find_spec("cupy") is not None


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=5)
