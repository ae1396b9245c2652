"""What this machine has, and what to do about what is missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shlex
import shutil
import warnings
from pathlib import Path

from cpm_repro.errors import EnvironmentFailure, first_line, one_line

REQUIRED = {
    "torch": "torch",
    "numpy": "numpy",
    "scipy": "scipy",
    "opencv-python-headless": "cv2",
    "matplotlib": "matplotlib",
    "protobuf": "google.protobuf",
    "safetensors": "safetensors",
    "tqdm": "tqdm",
}
"""What nothing works without: the packages, and what they are imported as."""

OPTIONAL = {
    "lmdb": "the release's LMDBs: pip install cpm_repro[lmdb]",
    "onnx": "cpm export: pip install cpm_repro[export]",
    "onnxscript": "cpm export: pip install cpm_repro[export]",
    "onnxruntime": "cpm export: pip install cpm_repro[export]",
    "h5py": "predictions in .h5 files: pip install cpm_repro[h5]",
    "tensorboard": "curves of training: pip install cpm_repro[tensorboard]",
    "av": "cpm predict on videos, which it writes: pip install cpm_repro[video]",
    "pyyaml": "skeletons in YAML: pip install cpm_repro[yaml]",
    "cupy-cuda12x": "CUDA 12 kernels without nvcc: pip install cpm_repro[cuda12]",
    "cupy-cuda13x": "CUDA 13 kernels without nvcc: pip install cpm_repro[cuda13]",
}
"""What only some commands ask for, and which."""

_FOLDERS = {
    "CPM_DATA": "tests and benchmarks on photographs",
    "CPM_GOLDEN": "the tests against numbers of the original Caffe",
}
"""Folders that only tests and benchmarks ask for, and what is skipped without them."""


def doctor() -> None:
    """Print one line per thing that matters, each with what to do where it is missing.

    Raises:
        EnvironmentFailure: at the end, where a back end computes anything but the reference's results.
    """
    said = {"python": f"{platform.python_version()} on {platform.system()} {platform.machine()}"}
    said |= {name: _required(name, module) for name, module in REQUIRED.items()}
    said |= {name: _version(name) or f"not installed ({purpose})" for name, purpose in OPTIONAL.items()}
    said["nvcc"] = _nvcc() or "not found (only needed to build the CUDA kernels)"
    said["C++ compiler"] = _compiler() or "not found (only needed to build)"
    said |= _what_torch_finds()
    wrong = _wrong_kernels()
    said |= {f"kernels, {backend}": _in_words(found) for backend, found in wrong.items()}
    said |= {name: _folder(os.environ.get(name), holds) for name, holds in _FOLDERS.items()}
    for name, state in said.items():
        print(f"{name:<15} {state}")
    if any(wrong.values()):
        raise EnvironmentFailure(_advice({backend: found for backend, found in wrong.items() if found}))


def _required(name: str, module: str) -> str:
    """The version of a package that imports, or what to do about one that does not."""
    version = _version(name)
    try:
        found = importlib.import_module(module)
    except Exception as error:  # one made for another system or NumPy ends in whatever it meets first
        return f"{version} does not load: {one_line(error)}" if version else f"MISSING: pip install {name}"
    return version or f"{getattr(found, '__version__', 'unknown version')} (of another package than {name})"


def _what_torch_finds() -> dict[str, str]:
    """GPU, CUDA, threads and the operators' back ends; nothing where torch does not load."""
    try:
        import torch

        from cpm_repro import ops
        from cpm_repro.ops._backend import why_not_compiled
    except Exception:  # said already, in the package's own line
        return {}
    gpu, reason = _gpu(), why_not_compiled()
    return {
        "GPU": gpu,
        "CUDA": torch.version.cuda or "torch was built without it: install a CUDA build of torch",
        "threads": str(torch.get_num_threads()),
        "back ends": ", ".join(ops.available_backends()) + (f" ({reason})" if reason else ""),
    }


def _gpu() -> str:
    """The GPU that torch takes, or why it sees or takes none."""
    import torch

    with warnings.catch_warnings(record=True) as told:  # PyTorch's word on a driver
        warnings.simplefilter("always")
        there = torch.cuda.is_available()
    if there:
        try:
            return torch.cuda.get_device_name()
        except RuntimeError as error:  # one that is taken, or broken
            return f"does not start: {first_line(error)}"
    reasons = [one_line(warning.message) for warning in told]
    if (shown := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        reasons.append(f"CUDA_VISIBLE_DEVICES is {shown!r}")
    return "none visible to torch" + "".join(f"; {reason}" for reason in reasons)


def _wrong_kernels() -> dict[str, dict[str, str]]:
    """What each back end that can run here gets wrong in small cases, operator by operator."""
    try:
        from cpm_repro import ops
        from cpm_repro.ops.self_check import wrong_operators
    except Exception:  # as above
        return {}
    backends = [backend for backend in ops.available_backends() if backend != "reference"]
    return {backend: wrong_operators(backend) for backend in backends}


def _in_words(wrong: dict[str, str]) -> str:
    return "; ".join(f"{operator}: {what}" for operator, what in wrong.items()) or "agree with the reference"


def _advice(wrong: dict[str, dict[str, str]]) -> str:
    """What to do about back ends that get something wrong."""
    from cpm_repro.ops._library import BUILD_COMMAND
    from cpm_repro.ops.self_check import runs_nothing

    idle = [backend for backend, found in wrong.items() if runs_nothing(found)]
    bad = [backend for backend in wrong if backend not in idle]
    sentences = []
    if bad:
        sentences.append(
            f"wrong results here from the back end {', '.join(bad)}: set CPM_BACKEND=reference, and report it"
        )
    if idle:
        sentences.append(
            f"the back end {', '.join(idle)} runs nothing here: build the extension on this machine with "
            f"`{BUILD_COMMAND}`, or set CPM_BACKEND=reference"
        )
    return "; ".join(sentences)


def _nvcc() -> str | None:
    """The CUDA compiler that setup.py takes."""
    named = os.environ.get("CPM_NVCC")
    return shutil.which(named or "nvcc") or (None if named else shutil.which("/usr/local/cuda/bin/nvcc"))


def _compiler() -> str | None:
    """The C++ compiler that setup.py takes."""
    return shutil.which(shlex.split(os.environ.get("CXX") or "c++")[0])


def _folder(path: str | None, holds: str) -> str:
    if not path:
        return f"not set (a folder for {holds}; nothing else needs it)"
    if not Path(path).is_dir():
        return f"{path}: no such folder; set it to the folder for {holds}"
    inside = sorted(entry.name for entry in Path(path).iterdir() if entry.is_dir())
    return f"{path} ({', '.join(inside) or 'no folders in it'})"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
