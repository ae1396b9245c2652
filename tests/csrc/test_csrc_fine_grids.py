"""Belief maps where float32 rounds neighbouring cells together, or far apart."""

import ctypes

import pytest
import stand_in
import torch
from compiled import compile_library

from cpm_repro import ops
from cpm_repro.ops import _library, _reference


def skip_unless_built():
    if _library.LOAD_ERROR is not None:
        pytest.skip(f"extension is not built: {_library.LOAD_ERROR}")


CASES = [
    ((2, 1002), 1e-8, 1e-6, (-0.5, -0.5), 4),  # both rows have equal pixels
    ((1, 64), 2.0**-28, 1e-9, (2.0**-25 - 0.5, -0.5), 7),  # four cells lie up to eight strides apart
    ((64, 1), 2.0**-28, 1e-9, (-0.5, 2.0**-25 - 0.5), 7),
    ((32, 2), 2.0**-28, 1e-9, (-0.5, 2.0**-25 - 0.5), 14),
    ((2, 6), 1e38, 1e37, (5e37, 1.5e38), 1),  # four cells begin at infinity and end in the next row
]


def assert_not_dropped(make, grid, stride, sigma, joint, drawn):
    joints, visible = torch.tensor(joint).view(1, 1, 1, 2), torch.zeros(1, 1, 1, dtype=torch.int32)
    got = make(joints, visible, grid, stride, sigma)
    expected = _reference.belief_maps(joints, visible, grid, stride, sigma)
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-7)
    assert int((got[0, 0] == 1).sum()) == drawn


@pytest.mark.parametrize("case", CASES)
def test_cells_that_float32_rounds_are_not_dropped(library, case):
    assert_not_dropped(lambda *a: stand_in.belief_maps(library, *a, None, (0, 0))[0], *case)


@pytest.mark.parametrize("case", CASES)
def test_cells_that_float32_rounds_are_not_dropped_on_the_cpu(case):
    skip_unless_built()
    assert_not_dropped(lambda *a: ops.belief_maps(*a, backend="cpu"), *case)


def test_edges_of_a_bump_far_out_in_a_wide_map_on_the_cpu():
    skip_unless_built()
    far, center = 2**25, torch.tensor([[2.0**25 + 120, 0.0]])
    got = ops.center_map(center, (1, far + 256), 0.2, dtype=torch.float16, backend="cpu")[
        0, 0, 0, far - 256 :
    ]
    assert torch.equal(got.float(), (torch.arange(far - 256, far + 256).float() == center[0, 0]).float())
    assert int(got.sum()) == 5  # float32 has every fourth of these numbers


BLOCK = f"""
#include "cuda_runtime.h"
#include "{stand_in.CUDA}/belief_maps_kernel.h"
extern "C" void center_block(const float* center, int h, int w, double sigma, unsigned int block,
                             float* cells) {{
  cpm::BeliefParams p{{}};
  p.center = center;
  p.center_map = cells - (long long)block * cpm::kThreads * 4;
  p.center_h = h;
  p.center_w = w;
  p.center_sigma = sigma;
  p.center_cutoff = 1;
  gridDim = dim3(block + 1);
  blockDim = dim3(cpm::kThreads);
  blockIdx = dim3(block);
  stand_in::body = [&] {{ cpm::center_cells<float, 4>(p, 1, 0, block); }};
  stand_in::run_block(cpm::kThreads);
}}
"""


@pytest.fixture(scope="module")
def one_block(tmp_path_factory):
    return compile_library(
        tmp_path_factory.mktemp("block"), BLOCK, f"-I{stand_in.ROOT}/tests/csrc/cuda_stand_in"
    )


@pytest.mark.parametrize("side", [2**27, 2**27 + 3, 2**30])
@pytest.mark.parametrize("down", [False, True])
def test_edges_of_bumps_far_out_in_wide_and_high_maps(one_block, side, down):
    """1024 cells around the middle of up to 2**30: float32 has every fourth to 32nd of these numbers."""
    first = side // 2 // 1024 * 1024
    pixels = torch.arange(first, first + 1024).float()
    for edge in range(0, 1024, 37):
        center = torch.zeros(2)
        center[int(down)] = pixels[edge]
        cells = torch.full((1024,), float("nan"))
        size = (side, 1) if down else (1, side)
        one_block.center_block(
            stand_in.pointer(center), *size, ctypes.c_double(0.5), first // 1024, stand_in.pointer(cells)
        )
        assert torch.equal(cells, (pixels == center[int(down)]).float())
