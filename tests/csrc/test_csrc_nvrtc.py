"""The CuPy back end's texts, without CuPy: NVRTC compiles them, and structs and numbers are the headers'."""

import ctypes
import glob
import itertools
import re
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import stand_in
from compiled import compile_library

from cpm_repro.ops import _checks
from cpm_repro.ops._cupy import belief, fusion, loss, resize, runtime


def nvrtc():
    """NVRTC of the CUDA toolkit or of pip's nvidia-cuda-nvrtc; needs no driver."""
    places = ["/usr/local/cuda*/lib64", f"{sysconfig.get_paths()['purelib']}/nvidia/*/lib"]
    found = sorted(path for place in places for path in glob.glob(f"{place}/libnvrtc.so.*"))
    for path in found:
        if "alt" not in path:
            # NVRTC looks for it by name: outside of the path of the loader it must be there already.
            for builtins in glob.glob(f"{Path(path).parent}/libnvrtc-builtins.so.*"):
                ctypes.CDLL(builtins)
            return ctypes.CDLL(path)
    pytest.skip("NVRTC is not here: neither the toolkit's nor pip's nvidia-cuda-nvrtc")


def compile_text(library, text, options):
    program = ctypes.c_void_p()
    assert library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"k.cu", 0, None, None) == 0
    array = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    status = library.nvrtcCompileProgram(program, len(options), array)
    size = ctypes.c_size_t()
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcGetPTXSize(program, ctypes.byref(size))
    ptx = ctypes.create_string_buffer(size.value)
    library.nvrtcGetPTX(program, ptx)
    return status, log.value.decode(), ptx.value.decode()


PARTS = (belief, loss, fusion, resize)


def test_every_kernel_has_a_text():
    headers = {path.name for path in (runtime.headers() / "cuda").glob("*_kernel.h")}
    assert headers == {part.HEADER for part in PARTS}


@pytest.mark.parametrize("arch", ["compute_75", "compute_90", "compute_120"])
@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.HEADER)
def test_nvrtc_compiles_the_kernels(part, arch):
    options = [*runtime.options(), f"--gpu-architecture={arch}"]
    status, log, ptx = compile_text(nvrtc(), runtime.source(part.HEADER, part.ENTRIES), options)
    assert status == 0, log
    assert "warning" not in log
    assert sorted(re.findall(r"\.entry (\w+)", ptx)) == sorted(entry.name for entry in part.ENTRIES)


def test_the_text_changes_with_the_headers(tmp_path, monkeypatch):
    """CuPy keeps compiled texts on disk: an upgrade must not find those of the version before."""
    monkeypatch.setattr(runtime, "headers", lambda: tmp_path)
    for room in ("math", "cuda"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "one.h").write_text("old")
    texts = []
    for content in ("old", "new"):
        (tmp_path / "math" / "one.h").write_text(content)
        runtime.source.cache_clear()
        texts.append(runtime.source("imresize_kernel.h", resize.ENTRIES))
    runtime.source.cache_clear()
    assert texts[0] != texts[1]


STRUCTS = {
    "cpm::BeliefParams": ("math/belief.h", belief.PARAMS),
    "cpm::BeliefGrid": ("cuda/belief_maps_kernel.h", belief.GRID),
    "cpm::LossParams": ("math/loss.h", loss.PARAMS),
    "cpm::ResizeAxis": ("math/resize.h", resize.AXIS),
    "cpm::ResizeParams": ("math/resize.h", resize.PARAMS),
    "cpm::FuseParams": ("math/fuse.h", fusion.PARAMS),
    "cpm::fuse_kernels::Tables": ("cuda/fuse_multiscale_kernel.h", fusion.TABLES),
}


@pytest.mark.parametrize("struct", STRUCTS)
def test_structs_have_the_headers_layout(tmp_path, struct):
    header, layout = STRUCTS[struct]
    fields = ", ".join(f"offsetof({struct}, {name}), sizeof({struct}::{name})" for name in layout.names)
    text = f"""
#include <cstddef>
#include "cuda_runtime.h"
#include "{stand_in.ROOT}/csrc/{header}"
extern "C" void layout(int* to) {{
  const size_t numbers[] = {{sizeof({struct}), {fields}}};
  for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); ++i) to[i] = (int)numbers[i];
}}
"""
    got = (ctypes.c_int * (1 + 2 * len(layout.names)))()
    include = f"-I{stand_in.ROOT}/tests/csrc/cuda_stand_in"
    compile_library(tmp_path, text, include).layout(got)
    expected = [n for name in layout.names for n in (layout.fields[name][1], layout[name].itemsize)]
    assert list(got) == [layout.itemsize, *expected]


def test_numbers_are_the_headers():
    def number(header, name):
        text = (runtime.headers() / header).read_text()
        return int(re.search(rf"\b{name} = (\d+)\b", text)[1])

    for part in PARTS:
        header = "fuse_pixels.h" if part is fusion else part.HEADER
        assert number(f"cuda/{header}", "kThreads") == part.THREADS
    assert number(f"cuda/{loss.HEADER}", "kStagesAtOnce") == loss.STAGES_AT_ONCE
    assert number("math/loss.h", "kMaxStages") == loss.MAX_STAGES
    assert number("math/fuse.h", "kMaxScales") == fusion.MAX_SCALES
    assert number(f"cuda/{belief.HEADER}", "kMostJoints") == _checks.MAX_JOINTS
    assert number(f"cuda/{belief.HEADER}", "kMostSlices") == belief.MOST_SLICES
    assert number(f"cuda/{belief.HEADER}", "kMostSteps") == belief.MOST_STEPS
    assert number(f"cuda/{belief.HEADER}", "kEnoughBlocks") == belief.ENOUGH_BLOCKS
    kernel = f"cuda/{fusion.HEADER}"
    assert number("cuda/fuse_tables.h", "kTableThreads") == fusion.TABLE_THREADS
    assert number("cuda/fuse_tables.h", "kBlockRows") == fusion.BLOCK_ROWS
    assert number("cuda/fuse_tables.h", "kColumns") == fusion.COLUMNS
    assert number("cuda/fuse_tables.h", "kRows") == fusion.ROWS
    assert number("cuda/fuse_pixels.h", "kWindow") == fusion.WINDOW
    assert number("cuda/fuse_pixels.h", "kTileColumns") == fusion.TILE_COLUMNS
    assert number("cuda/warp_matrix.h", "kSlice") == fusion.SLICE
    assert number(kernel, "kLanes") == fusion.LANES
    assert number(kernel, "kCross") == fusion.CROSS


def test_samples_are_shared_out_as_by_the_header(tmp_path):
    text = f"""
#include "cuda_runtime.h"
#include "{stand_in.ROOT}/csrc/cuda/belief_maps_kernel.h"
extern "C" void grid(const cpm::BeliefParams* p, int vector, cpm::BeliefGrid* to) {{
  *to = cpm::belief_grid(*p, vector);
}}
"""
    library = compile_library(tmp_path, text, f"-I{stand_in.ROOT}/tests/csrc/cuda_stand_in")
    params, to, seen = np.zeros(1, belief.PARAMS), np.zeros(1, belief.GRID), set()
    for samples, parts, side, label, center in itertools.product(
        (0, 1, 3, 16, 40, 70, 150, 256, 10**6), (0, 1, 3, 14), (1, 46, 92), (0, 64), (0, 64)
    ):
        for name in ("h", "w"):
            params[name], params[f"center_{name}"] = side, 8 * side
        params["samples"], params["parts"] = samples, parts
        params["label"], params["center_map"] = label, center
        for vector in (1, 4):
            library.grid(ctypes.c_void_p(params.ctypes.data), vector, ctypes.c_void_p(to.ctypes.data))
            assert to == belief.belief_grid(params, vector), (samples, parts, side, vector)
            seen.add((int(to["slices"][0]), int(to["steps"][0])))
    assert {slices for slices, _ in seen} == {steps for _, steps in seen} == {1, 2, 4, 8}
