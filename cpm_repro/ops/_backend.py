"""Which code runs an operator: compiled CPU, compiled CUDA, CuPy, or the torch reference."""

from __future__ import annotations

import functools
import importlib
import os
import warnings

import torch

from cpm_repro.errors import BackendError, first_line, one_line
from cpm_repro.ops import _library
from cpm_repro.ops._shown import shown

BACKENDS = ("cpu", "cuda", "cupy", "reference")

OLDEST = (7, 5)
"""Compute capability of the oldest GPU that runs the kernels: Turing, for its products of matrices."""


class SlowOperatorsWarning(RuntimeWarning):
    """Operators run on a back end that the compiled one would outrun."""


def choose(backend: str | None, operator: str, device: torch.device) -> str:
    """Name of the back end for ``operator`` on tensors of ``device``.

    ``backend`` wins over the environment variable CPM_BACKEND; without either, the compiled kernel of the
    device is taken, then CuPy on CUDA devices, then the reference; these two with one warning. A GPU older
    than the kernels has the reference alone.

    Raises:
        BackendError: an unknown name, or a back end that cannot run on this device or is not installed.
    """
    wanted = name_of(backend)
    if wanted is None:
        return _automatic(operator, device)
    if wanted == "reference":
        return wanted
    asked = f"backend {wanted!r}" if backend is not None else f"CPM_BACKEND={wanted}"
    needed_device = "cpu" if wanted == "cpu" else "cuda"
    if device.type != needed_device:
        raise BackendError(f"{asked} needs {needed_device} tensors, got {device.type} tensors")
    if (reason := _why_too_old(device)) is not None:
        raise BackendError(f"{asked} does not run here: {reason}")
    if wanted == "cupy":
        if (reason := _why_no_cupy()) is not None:
            raise BackendError(f"{asked} {reason}")
        return wanted
    if not _library.has_kernel(operator, wanted):
        raise BackendError(
            f"{asked} is not built ({_why_not(wanted, operator)}): run `{_library.BUILD_COMMAND}`"
        )
    return wanted


def name_of(backend: str | None) -> str | None:
    """The name that is asked for by the argument or CPM_BACKEND, if any.

    Raises:
        BackendError: an unknown name.
    """
    wanted = backend if backend is not None else os.environ.get("CPM_BACKEND") or None
    if wanted is not None and (not isinstance(wanted, str) or wanted not in BACKENDS):
        name = "backend" if backend is not None else "CPM_BACKEND"
        raise BackendError(f"{name} must be one of {', '.join(BACKENDS)}, got {shown(wanted)}")
    return wanted


def available_backends() -> tuple[str, ...]:
    """Names of the back ends that can run here."""
    found = [name for name in ("cpu", "cuda") if _library.has_kernel("belief_maps_out", name)]
    if not torch.cuda.is_available() or _why_too_old(torch.device("cuda")) is not None:
        found = [name for name in found if name != "cuda"]
    elif _why_no_cupy() is None:
        found.append("cupy")
    return (*found, "reference")


def why_not_compiled() -> str | None:
    """Why this machine's operators run without compiled code, and what builds it; None where they have it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if (reason := _why_too_old(device)) is not None:
        return reason
    if _library.has_kernel("belief_maps_out", device.type):
        return None
    return f"{_why_not(device.type, 'belief_maps_out')}; build it with `{_library.BUILD_COMMAND}`"


def _automatic(operator: str, device: torch.device) -> str:
    device_type = device.type
    if device_type == "cuda" and (reason := _why_too_old(device)) is not None:
        _warn_once(f"cpm_repro runs slow reference operators on cuda tensors: {reason}")
        return "reference"
    if device_type in ("cpu", "cuda") and _library.has_kernel(operator, device_type):
        return device_type
    reasons = _why_not(device_type, operator)
    if device_type == "cuda":
        if (reason := _why_no_cupy()) is None:
            _warn_once(
                f"cpm_repro runs CuPy's kernels, compiled at their first call, on cuda tensors: {reasons}; "
                f"build the extension's with `{_library.BUILD_COMMAND}`"
            )
            return "cupy"
        reasons += f"; CuPy {reason}"
    if device_type in ("cpu", "cuda"):
        _warn_once(
            f"cpm_repro runs slow reference operators on {device_type} tensors: {reasons}; "
            f"build the fast ones with `{_library.BUILD_COMMAND}`"
        )
    return "reference"


def _why_too_old(device: torch.device) -> str | None:
    """Why the kernels do not run on a GPU of that age, None where they do and for torch.compile."""
    if device.type != "cuda" or torch.compiler.is_compiling():
        return None
    return _too_low(device.index)


@functools.cache
def _too_low(index: int | None) -> str | None:
    try:
        found = torch.cuda.get_device_capability(index)
    except (RuntimeError, AssertionError):  # no such device: tensors without memory may name any
        return None
    if found >= OLDEST:
        return None
    return f"its GPU is of compute capability {found[0]}.{found[1]}, the kernels need {OLDEST[0]}.{OLDEST[1]}"


def _why_not(device_type: str, operator: str) -> str:
    if _library.LOAD_ERROR is not None:
        return f"the extension does not load: {first_line(_library.LOAD_ERROR)}"
    without = f"the extension was built without {device_type.upper()} code"
    built = any(_library.has_kernel(name, device_type) for name in _library.OPERATORS)
    return f"{without} for {operator}" if built else without


@functools.cache
def _why_no_cupy() -> str | None:
    """Why CuPy cannot be used, None if it can. It is imported, once: that it is installed says little."""
    try:
        importlib.import_module("cupy")
    except Exception as error:  # made for another CUDA or NumPy it ends in whatever it meets first
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            return "is not installed: install the extra [cuda12] or [cuda13]"
        first = error.__cause__ or error  # CuPy wraps what happened in a page of advice
        return f"does not import: {type(first).__name__}: {one_line(first)[:200]}"
    return None


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, SlowOperatorsWarning, stacklevel=5)
