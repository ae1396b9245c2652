"""The CuPy back end's text, without CuPy: NVRTC compiles it, and the struct has the header's layout."""

import ctypes
import glob
import re
import sysconfig
from pathlib import Path

import pytest
import stand_in

from cpm_repro.ops import _cupy


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


def compile_text(library, text, options, kernels=()):
    program = ctypes.c_void_p()
    assert library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"k.cu", 0, None, None) == 0
    for kernel in kernels:  # templates are made when they are named
        assert library.nvrtcAddNameExpression(program, kernel.encode()) == 0
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


def test_nvrtc_compiles_the_kernel():
    status, log, ptx = compile_text(
        nvrtc(), _cupy.source(), [*_cupy.options(), "--gpu-architecture=compute_90"]
    )
    assert status == 0, log
    entries = re.findall(r"\.entry (\w+)", ptx)
    assert sorted(entries) == sorted(
        f"belief_maps_{kind}_{vector}" for kind in ("float", "Half", "BFloat16") for vector in (1, 4)
    )


KERNELS = {
    "belief_map_loss_kernel.h": [
        *(
            f"cpm::loss_kernels::{kernel}<{kind}>"
            for kernel in ("loss_planes_kernel", "loss_gradient_kernel")
            for kind in ("float", "cpm::Half", "cpm::BFloat16")
        ),
        "cpm::loss_kernels::loss_total_kernel",
    ],
    "imresize_kernel.h": [
        f"cpm::resize_kernels::resize_axis_kernel<{kind}>" for kind in ("unsigned char", "float", "double")
    ],
    "fuse_multiscale_kernel.h": [
        f"cpm::fuse_kernels::{kernel}"
        for kernel in (
            "tables_kernel",
            "fuse_kernel<false>",
            "fuse_kernel<true>",
            "clear_kernel",
            "unpack_kernel",
        )
    ],
}


def test_every_kernel_is_a_text_that_nvrtc_can_have():
    headers = {path.name for path in (Path(_cupy.headers()) / "cuda").glob("*_kernel.h")}
    assert headers == {*KERNELS, "belief_maps_kernel.h"}


@pytest.mark.parametrize("arch", ["compute_75", "compute_90", "compute_120"])
@pytest.mark.parametrize("header", KERNELS)
def test_nvrtc_compiles_the_other_kernels(header, arch):
    options = [*_cupy.options(), f"--gpu-architecture={arch}"]
    status, log, ptx = compile_text(nvrtc(), f'#include "cuda/{header}"\n', options, KERNELS[header])
    assert status == 0, log
    assert ptx.count(".entry") == len(KERNELS[header])


def test_params_have_the_headers_layout(tmp_path):
    fields = ", ".join(f"offsetof(cpm::BeliefParams, {name})" for name in _cupy.PARAMS.names)
    text = f"""
#include <cstddef>
#include "{stand_in.ROOT}/csrc/math/belief.h"
extern "C" void layout(int* to) {{
  const size_t offsets[] = {{sizeof(cpm::BeliefParams), {fields}}};
  for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); ++i) to[i] = (int)offsets[i];
}}
"""
    got = (ctypes.c_int * (1 + len(_cupy.PARAMS.names)))()
    stand_in.compile_library(tmp_path, text).layout(got)
    assert list(got) == [
        _cupy.PARAMS.itemsize,
        *(_cupy.PARAMS.fields[name][1] for name in _cupy.PARAMS.names),
    ]


def test_threads_are_the_kernels():
    text = (Path(_cupy.headers()) / "cuda" / "belief_maps_kernel.h").read_text()
    assert int(re.search(r"kThreads = (\d+)", text)[1]) == _cupy.THREADS
