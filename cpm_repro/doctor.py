"""What this machine has, and what to do about what is missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shlex
import shutil
from pathlib import Path

from cpm_repro.errors import EnvironmentFailure, one_line

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
        EnvironmentFailure: at the end, where a back end computes something else than the reference.
    """
    said = {"python": f"{platform.python_version()} on {platform.system()} {platform.machine()}"}
    said |= {name: _required(name, module) for name, module in REQUIRED.items()}
    said |= {name: _version(name) or f"not installed ({purpose})" for name, purpose in OPTIONAL.items()}
    said["nvcc"] = _nvcc() or "not found (only needed to build the CUDA kernels)"
    said["C++ compiler"] = _compiler() or "not found (only needed to build)"
    said |= _what_torch_finds()
    wrong = _wrong_kernels()
    said |= {f"kernels, {backend}": line or "agree with the reference" for backend, line in wrong.items()}
    said |= {name: _folder(os.environ.get(name), holds) for name, holds in _FOLDERS.items()}
    for name, state in said.items():
        print(f"{name:<15} {state}")
    if bad := [backend for backend, line in wrong.items() if line]:
        raise EnvironmentFailure(
            f"wrong results here from the back end {', '.join(bad)}: set CPM_BACKEND=reference, and report it"
        )


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
    reason = why_not_compiled()
    return {
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none visible to torch",
        "CUDA": torch.version.cuda or "torch was built without it: install a CUDA build of torch",
        "threads": str(torch.get_num_threads()),
        "back ends": ", ".join(ops.available_backends()) + (f" ({reason})" if reason else ""),
    }


def _wrong_kernels() -> dict[str, str]:
    """What each back end that can run here gets wrong in small cases; an empty line for one that is right."""
    try:
        from cpm_repro import ops
        from cpm_repro.ops.self_check import wrong_operators
    except Exception:  # as above
        return {}
    backends = [backend for backend in ops.available_backends() if backend != "reference"]
    found = {backend: wrong_operators(backend) for backend in backends}
    return {
        backend: "; ".join(f"{operator}: {what}" for operator, what in wrong.items())
        for backend, wrong in found.items()
    }


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
