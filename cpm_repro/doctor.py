"""What this machine has, and what to do about what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

_PACKAGES = ("torch", "numpy", "scipy", "opencv-python-headless", "matplotlib", "protobuf", "safetensors")
_OPTIONAL = {
    "lmdb": "the release's LMDBs: pip install lmdb",
    "onnx": "cpm export: pip install cpm_repro[export]",
    "onnxruntime": "cpm export: pip install cpm_repro[export]",
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
    print(f"nvcc            {shutil.which('nvcc') or 'not found (only needed to build the CUDA kernels)'}")
    print(
        f"C++ compiler    {shutil.which('g++') or shutil.which('c++') or 'not found (only needed to build)'}"
    )
    print(f"threads         {torch.get_num_threads()}")
    print(f"back ends       {', '.join(ops.available_backends())}")
    data = os.environ.get("CPM_DATA")
    state = "not set" if not data else data if Path(data).is_dir() else f"{data}: no such folder"
    print(f"CPM_DATA        {state}")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
