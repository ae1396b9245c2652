"""No out-of-bounds access and no undefined behaviour in the CPU loops, whatever the sizes and positions."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=["this machine's", pytest.param("plain", marks=pytest.mark.slow)])
def program(request, tmp_path_factory):
    """The loops with the vector instructions of this machine, or without any."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not on PATH")
    program = tmp_path_factory.mktemp("fuzz") / "fuzz"
    flags = [
        "-std=c++17",
        "-O1",
        "-g",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        "-DCPM_NO_CLONES",
    ]
    if request.param != "plain" and platform.machine() == "x86_64":
        flags.append("-DCPM_X86")
    sources = [str(path) for path in sorted((ROOT / "csrc" / "cpu").glob("*.cpp"))]
    command = [compiler, *flags, str(ROOT / "tests/csrc/fuzz.cpp"), *sources, "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode and "cannot find" in built.stderr and "san" in built.stderr:
        pytest.skip("the compiler has no sanitizer libraries")
    assert built.returncode == 0, built.stderr
    return program


@pytest.mark.parametrize(
    ("cases", "seed"), [(150, 1), pytest.param(6000, 2, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]
)
def test_fuzzed_with_sanitizers(program, cases, seed):
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}  # leak detection needs ptrace
    command = [str(program), str(cases), str(seed)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-4000:]
    assert result.stdout == f"{3 * cases} cases\n"
