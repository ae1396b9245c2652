"""The house rules of csrc, and that the CUDA half compiles where nvcc is."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from cpm_repro.ops import _library

CSRC = Path(__file__).resolve().parents[2] / "csrc"
SOURCES = sorted(path for suffix in ("*.h", "*.cpp", "*.cu") for path in CSRC.rglob(suffix))


def without_comments(path):
    return re.sub(r"//.*", "", path.read_text())


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(CSRC)))
def test_layers_include_only_what_lies_below(path):
    room = path.parent.name
    includes = re.findall(r'#include ["<]([^">]+)[">]', path.read_text())
    if room != "ops":
        assert not [name for name in includes if "torch" in name or "Python" in name or "ATen" in name]
    allowed = {
        "math": {"math"},
        "cpu": {"cpu", "math"},
        "cuda": {"cuda", "math"},
        "ops": {"cpu", "cuda", "math", "ops"},
    }
    for name in includes:
        target = (path.parent / name).resolve()
        if target.exists():
            assert target.parent.name in allowed[room]


def test_headers_in_math_need_nothing_that_nvrtc_lacks():
    for path in (CSRC / "math").glob("*.h"):
        text = without_comments(path)
        assert "std::" not in text, path.name
        assert "int64_t" not in text, path.name
        host_only = re.sub(r"#else\n#include <math.h>\n", "#else\n", text)
        assert "#include <" not in host_only, path.name


def test_interpolation_and_exponentials_live_in_math_only():
    for path in SOURCES:
        if path.parent.name in ("cpu", "cuda"):
            assert not re.search(r"\b(expf?|floorf?|ceilf?|sqrtf?)\(", without_comments(path)), path.name


def test_every_launch_is_checked():
    for path in (CSRC / "cuda").glob("*.cu"):
        text = without_comments(path)
        assert "<<<" not in text, path.name
        assert text.count("CPM_LAUNCH(") == len(re.findall(r"return launch_error\(\)", text)) > 0, path.name


def test_kernels_are_launched_with_the_threads_that_they_are_compiled_for():
    """With more a GPU refuses the launch. 256 threads of 255 registers, the most there are, always fit."""
    for path in (CSRC / "cuda").glob("*.cu"):
        text = without_comments(path)
        declared = re.findall(r"__global__ void __launch_bounds__\(([^,)]+)[^)]*\)\s*(\w+)\(", text)
        assert len(declared) == text.count("__global__"), path.name
        bounds = {kernel: threads for threads, kernel in declared}
        launches = re.findall(r"CPM_LAUNCH\((.*)\);", text)
        launched = [
            re.search(r"(\w+_kernel)\b.*?, (dim3\(kT[^)]*\)|[^,()]+), 0, stream\b", launch)
            for launch in launches
        ]
        blocks = {match[1]: re.sub(r"dim3\((\w+) / ([\w.]+), \2\)", r"\1", match[2]) for match in launched}
        assert blocks == bounds, path.name
    header = {path: path.read_text() for path in (CSRC / "cuda").glob("*.h")}
    sizes = [int(n) for text in header.values() for n in re.findall(r"\bk\w*Threads = (\d+)", text)]
    assert len(sizes) == 5
    assert max(sizes) <= 256


def test_what_tensors_are_asked_is_written_once():
    """`tensor_checks.h` alone compares devices and looks whether numbers fit 32 bits."""
    found = {
        path.name for path in SOURCES if re.search(r"is_cuda\(\)|fits_int\(int64_t", without_comments(path))
    }
    assert found == {"tensor_checks.h"}


def test_files_stay_short():
    assert not [path.name for path in SOURCES if path.read_text().count("\n") >= 300]


def test_no_torch_library_outside_its_module():
    ops = CSRC.parent / "cpm_repro" / "ops"
    assert [path.name for path in ops.glob("*.py") if "torch.library" in path.read_text()] == ["_library.py"]


def test_reference_imports_only_torch():
    text = (CSRC.parent / "cpm_repro" / "ops" / "_reference.py").read_text()
    imports = re.findall(r"^(?:import|from) (\S+)", text, re.MULTILINE)
    assert set(imports) <= {"__future__", "torch", "torch.nn.functional"}


@pytest.mark.timeout(1200)
def test_cuda_sources_compile_for_all_architectures_without_spills():
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not on PATH")
    result = subprocess.run([CSRC / "check_cuda.sh"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count(" ok, ") == len(list((CSRC / "cuda").glob("*.cu")))


def test_both_dispatch_keys_are_registered_under_any_torch():
    if _library.LOAD_ERROR is not None:
        pytest.skip(f"extension is not built: {_library.LOAD_ERROR}")
    schemas = re.findall(r'm\.def\(\s*"(\w+)\(', (CSRC / "ops" / "library.cpp").read_text())
    assert schemas
    with_cuda = _library.has_kernel("belief_maps_out", "cuda")
    for name in schemas:
        assert hasattr(torch.ops.cpm_repro, name)
        assert _library.has_kernel(name, "cpu")
        assert _library.has_kernel(name, "cuda") == with_cuda
    if not with_cuda:
        pytest.skip("the library here was built without CUDA: only its CPU half was looked at")
