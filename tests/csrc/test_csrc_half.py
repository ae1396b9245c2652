"""float32 to float16 on the CPU: every border of the rounding, against NumPy."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
from compiled import compile_library

HALF = Path(__file__).resolve().parents[2] / "csrc" / "math" / "half.h"
PROGRAM = f"""
#include "{HALF}"
extern "C" void halves(const float* from, unsigned short* to, long count) {{
  for (long i = 0; i < count; ++i) to[i] = cpm::half_bits(from[i]);
}}
"""


def test_every_half_its_neighbours_and_the_middles_between_them(tmp_path):
    library = compile_library(tmp_path, PROGRAM)
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)  # 0 to 65504
    middles = (halves + np.append(halves[1:], np.float32(65536))) / 2
    exact = np.concatenate([halves, middles]).view(np.uint32)
    bits = np.concatenate([exact, exact + 1, exact[exact > 0] - 1])
    bits = np.concatenate([bits, np.array([0x7F800000, 0x7FC00000, 0x7F7FFFFF, 1], np.uint32)])
    values = np.concatenate([bits, bits | 0x80000000]).astype(np.uint32).view(np.float32)
    got = np.empty(len(values), np.uint16)
    library.halves(
        ctypes.c_void_p(values.ctypes.data), ctypes.c_void_p(got.ctypes.data), ctypes.c_long(len(values))
    )
    with np.errstate(over="ignore"):
        wanted = values.astype(np.float16)
    nan = np.isnan(values)
    assert nan.sum() == 2
    assert np.isnan(got.view(np.float16)[nan]).all()
    assert np.array_equal(got[~nan], wanted.view(np.uint16)[~nan])
