"""What this machine has, and what to do about what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

_PACKAGES = ("torch", "numpy", "scipy", "opencv-python-headless", "matplotlib", "protobuf", "safetensors")
_OPTIONAL = {
    "lmdb": "the release's LMDBs: pip install cpm_repro[lmdb]",
    "onnx": "cpm export: pip install cpm_repro[export]",
    "onnxruntime": "cpm export: pip install cpm_repro[export]",
    "h5py": "predictions in .h5 files: pip install cpm_repro[h5]",
    "tensorboard": "curves of training: pip install cpm_repro[tensorboard]",
    "av": "cpm predict on videos, which it writes: pip install cpm_repro[video]",
    "pyyaml": "skeletons in YAML: pip install cpm_repro[yaml]",
    "cupy-cuda12x": "CUDA 12 kernels without nvcc: pip install cpm_repro[cuda12]",
    "cupy-cuda13x": "CUDA 13 kernels without nvcc: pip install cpm_repro[cuda13]",
}


def doctor() -> None:
    """Print one line per thing that matters; ends with what is missing, if anything."""
    import torch

    from cpm_repro import ops

    print(f"python          {platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in _PACKAGES:
        print(f"{name:<15} {_version(name) or 'MISSING: pip install ' + name}")
    for name, purpose in _OPTIONAL.items():
        print(f"{name:<15} {_version(name) or 'not installed (' + purpose + ')'}")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none visible to torch"
    print(f"GPU             {gpu}")
    print(
        f"CUDA            {torch.version.cuda or 'torch was built without it: install a CUDA build of torch'}"
    )
    print(f"nvcc            {shutil.which('nvcc') or 'not found (only needed to build the CUDA kernels)'}")
    print(
        f"C++ compiler    {shutil.which('g++') or shutil.which('c++') or 'not found (only needed to build)'}"
    )
    print(f"threads         {torch.get_num_threads()}")
    print(f"back ends       {', '.join(ops.available_backends())}")
    for name, holds in _FOLDERS.items():
        print(f"{name:<15} {_folder(os.environ.get(name), holds)}")


_FOLDERS = {
    "CPM_DATA": "tests and benchmarks on photographs",
    "CPM_GOLDEN": "the tests against numbers of the original Caffe",
}
"""Folders that only tests and benchmarks ask for, and what is skipped without them."""


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
