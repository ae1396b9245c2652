"""How finely work is shared among threads: little of it not at all, and never more tasks than there are."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from compiled import compile_library

GRAIN = Path(__file__).resolve().parents[2] / "csrc" / "ops" / "grain.h"
PROGRAM = f"""
#include "{GRAIN}"
extern "C" long grain(long tasks, double work, double per_thread) {{
  return cpm::grain(tasks, work, per_thread);
}}
"""


@pytest.fixture(scope="module")
def grain(tmp_path_factory):
    function = compile_library(tmp_path_factory.mktemp("grain"), PROGRAM).grain
    function.argtypes = [ctypes.c_long, ctypes.c_double, ctypes.c_double]
    function.restype = ctypes.c_long
    return function


@pytest.mark.parametrize(
    ("tasks", "work", "per_thread", "wanted"),
    [
        (14, 2.0 * 14e6, 1e6, 1),  # each is worth a thread of its own
        (100, 1e6, 1e5, 10),
        (15, 1e4, 1e5, 15),  # all together are worth none: one thread makes them
        (15, 0.0, 1e5, 15),
        (0, 0.0, 1e5, 1),
        (2**40, 1e300, 1.0, 1),
        (2**40, 1.0, 1e300, 2**40),
    ],
)
def test_grain(grain, tasks, work, per_thread, wanted):
    assert grain(tasks, work, per_thread) == wanted
