"""One C++ text as a library, for tests that need no torch."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

# Otherwise what inline functions keep is one for all libraries, and the stand-in for shared memory another's.
LIBRARYS_OWN = ("-fno-gnu-unique",)


def compiler() -> str:
    """The C++ compiler; without one the test is skipped."""
    found = shutil.which("c++") or shutil.which("g++")
    if found is None:
        pytest.skip("no C++ compiler found")
    return found


def compile_library(folder: Path, text: str, *flags: str) -> ctypes.CDLL:
    """A library of one C++ text."""
    source, library = folder / "one.cpp", folder / "one.so"
    source.write_text(text)
    command = [
        compiler(),
        "-std=c++17",
        "-O1",
        "-fPIC",
        "-shared",
        *LIBRARYS_OWN,
        *flags,
        str(source),
        "-o",
        str(library),
    ]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))
