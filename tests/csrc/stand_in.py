"""Compiles the CUDA sources with the C++ compiler and a stand-in for the launch, for tests without a GPU."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
CUDA = ROOT / "csrc" / "cuda"
TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}


def build(folder: Path, replaced: dict[str, str] | None = None) -> ctypes.CDLL:
    """Compile csrc/cuda/*.cu, with the text of some files replaced, into a library in ``folder``."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler found")
    copy = folder / "csrc"
    shutil.copytree(ROOT / "csrc", copy, dirs_exist_ok=True)
    shutil.copytree(ROOT / "tests" / "csrc", folder / "tests" / "csrc", dirs_exist_ok=True)
    for name, text in (replaced or {}).items():
        (copy / "cuda" / name).write_text(text)
    library = folder / "stand_in.so"
    sources = [*map(str, sorted((copy / "cuda").glob("*.cu"))), str(folder / "tests/csrc/stand_in_api.cpp")]
    flags = [
        "-std=c++17",
        "-O1",
        "-fPIC",
        "-shared",
        "-ffp-contract=off",
        f"-I{folder}/tests/csrc/cuda_stand_in",
    ]
    subprocess.run([compiler, *flags, "-x", "c++", *sources, "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def pointer(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    """Address of a contiguous tensor, or null."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def belief_maps(
    library: ctypes.CDLL,
    joints: torch.Tensor,
    visible: torch.Tensor,
    grid: tuple[int, int],
    stride: float,
    sigma: float,
    center: torch.Tensor,
    center_size: tuple[int, int],
    cutoff: bool = True,
    dtype: torch.dtype = torch.float32,
    center_sigma: float = 21.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Label and centre map as the CUDA kernel makes them, on NaN-filled outputs."""
    samples, people, parts = joints.shape[:3]
    label = torch.full((samples, 2 * (parts + 1), *grid), float("nan"), dtype=dtype)
    centers = torch.full((samples, 1, *center_size), float("nan"), dtype=dtype)
    sizes = (ctypes.c_int * 6)(people, parts, *grid, *center_size)
    library.belief_maps.restype = ctypes.c_char_p
    codes = visible.int().contiguous()
    error = library.belief_maps(
        pointer(joints), pointer(codes), pointer(center), pointer(label), pointer(centers),
        ctypes.c_longlong(samples), sizes, ctypes.c_double(stride), ctypes.c_double(sigma),
        ctypes.c_double(center_sigma), int(cutoff), TYPES[dtype],
    )  # fmt: skip
    assert error is None
    return label, centers
