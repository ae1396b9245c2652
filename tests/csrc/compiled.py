"""One C++ text as a library, for tests that need no torch."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest


def compile_library(folder: Path, text: str, *flags: str) -> ctypes.CDLL:
    """A library of one C++ text."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler found")
    source, library = folder / "one.cpp", folder / "one.so"
    source.write_text(text)
    command = [compiler, "-std=c++17", "-O1", "-fPIC", "-shared", *flags, str(source), "-o", str(library)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))
