"""What a GPU refuses or gets wrong, its stand-in refuses: sizes of launches, threads parted at barriers."""

import ctypes

import pytest
import stand_in
import torch
from compiled import compile_library

TEXT = """
#include "launch.h"

#include "warp_matrix.h"

namespace {

__global__ void nothing() {}

// Each thread comes to `number` barriers, those from `odd` on to another number or place.
__global__ void barriers(int number, int other, bool elsewhere, unsigned int odd) {
  for (int i = 0; i < (threadIdx.x < odd ? number : other); ++i) {
    if (threadIdx.x >= odd && elsewhere) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  }
}

// Thread i shows its neighbour's number; `together`: with a barrier before.
__global__ void neighbours(bool together, unsigned int* to) {
  __shared__ unsigned int numbers[64];
  numbers[threadIdx.x] = 0;
  __syncthreads();
  numbers[threadIdx.x] = threadIdx.x;
  if (together) __syncthreads();
  to[threadIdx.x] = numbers[(threadIdx.x + 1) % 64];
}

// Lanes from `odd` on multiply `other` times instead of `number`; the second warp multiplies twice.
__global__ void products(int number, int other, unsigned int odd) {
  float sum[4] = {};
  const unsigned int left[4] = {};
  const int times = threadIdx.x >= 32 ? 2 : threadIdx.x < odd ? number : other;
  for (int i = 0; i < times; ++i) cpm::multiply_halves(left, 0, 0, sum);
  __syncthreads();
}

// Row by row: 16 x 16 times 16 x 8 of whole numbers.
__global__ void product(const float* left, const float* right, float* to) {
  const int lane = (int)threadIdx.x;
  unsigned int words[6];
  for (int i = 0; i < 4; ++i) {
    const float* from = left + (lane / 4 + i % 2 * 8) * 16 + lane % 4 * 2 + i / 2 * 8;
    words[i] = cpm::half_bits(from[0]) | (unsigned int)cpm::half_bits(from[1]) << 16;
  }
  for (int i = 0; i < 2; ++i) {
    const float* from = right + (lane % 4 * 2 + i * 8) * 8 + lane / 4;
    words[4 + i] = cpm::half_bits(from[0]) | (unsigned int)cpm::half_bits(from[8]) << 16;
  }
  const unsigned int (&first)[4] = reinterpret_cast<const unsigned int(&)[4]>(words);
  float sum[4] = {1.0f, 1.0f, 1.0f, 1.0f};
  for (int twice = 0; twice < 2; ++twice) cpm::multiply_halves(first, words[4], words[5], sum);
  for (int i = 0; i < 4; ++i) {
    const cpm::SumPlace place = cpm::sum_place(lane, i);
    to[place.row * 8 + place.column] = sum[i];
  }
}

__global__ void last_block(unsigned int* to) { *to = blockIdx.x + 100 * blockIdx.y + 10000 * blockIdx.z; }

}  // namespace

extern "C" void set_order(unsigned int order) { stand_in::chosen_order = order; }

extern "C" const char* launch(const unsigned int* n, int shared) {
  CPM_LAUNCH(nothing, dim3(n[0], n[1], n[2]), dim3(n[3], n[4], n[5]), shared, nullptr);
  return cpm::launch_error();
}

extern "C" const char* meet(int number, int other, int elsewhere, int odd) {
  CPM_LAUNCH(barriers, 1, 64, 0, nullptr, number, other, elsewhere != 0, odd);
  return cpm::launch_error();
}

extern "C" const char* multiply(int number, int other, int odd, int threads) {
  CPM_LAUNCH(products, 1, threads, 0, nullptr, number, other, odd);
  return cpm::launch_error();
}

extern "C" void matrix(const float* left, const float* right, float* to) {
  CPM_LAUNCH(product, 1, 32, 0, nullptr, left, right, to);
}

extern "C" void show(int together, unsigned int* to) {
  CPM_LAUNCH(neighbours, 1, 64, 0, nullptr, together != 0, to);
}

extern "C" void last(unsigned int* to) { CPM_LAUNCH(last_block, dim3(3, 4, 5), 1, 0, nullptr, to); }
"""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    library = compile_library(tmp_path_factory.mktemp("refusals"), TEXT, *stand_in.FLAGS)
    library.launch.restype = library.meet.restype = library.multiply.restype = ctypes.c_char_p
    return library


def launch(kernels, grid, block, shared=0):
    return kernels.launch((ctypes.c_uint * 6)(*grid, *block), shared)


@pytest.mark.parametrize(
    ("grid", "block"), [((1, 1, 1), (1, 1, 1)), ((3, 2, 2), (1024, 1, 1)), ((2, 65, 1), (4, 4, 64))]
)
def test_sizes_that_a_gpu_takes_are_launched(kernels, grid, block):
    assert launch(kernels, grid, block) is None


@pytest.mark.parametrize(
    ("grid", "block", "words"),
    [
        ((0, 1, 1), (1, 1, 1), b"blocks along x: wanted 1 to 2147483647, got 0"),
        ((2**31, 1, 1), (1, 1, 1), b"blocks along x: wanted 1 to 2147483647, got 2147483648"),
        ((1, 65536, 1), (1, 1, 1), b"blocks along y: wanted 1 to 65535, got 65536"),
        ((1, 1, 65536), (1, 1, 1), b"blocks along z: wanted 1 to 65535, got 65536"),
        ((1, 1, 0), (1, 1, 1), b"blocks along z: wanted 1 to 65535, got 0"),
        ((1, 1, 1), (1025, 1, 1), b"threads along x: wanted 1 to 1024, got 1025"),
        ((1, 1, 1), (1, 1, 65), b"threads along z: wanted 1 to 64, got 65"),
        ((1, 1, 1), (1, 0, 1), b"threads along y: wanted 1 to 1024, got 0"),
        ((1, 1, 1), (33, 32, 1), b"threads of a block: wanted 1 to 1024, got 1056"),
    ],
)
def test_sizes_that_a_gpu_refuses_are_refused(kernels, grid, block, words):
    assert launch(kernels, grid, block) == words
    assert launch(kernels, (1, 1, 1), (1, 1, 1)) is None  # an error is told once


def test_memory_shared_at_launch_is_refused(kernels):
    assert launch(kernels, (1, 1, 1), (1, 1, 1), 1) == b"shared memory of a launch: wanted none, got 1 bytes"


@pytest.mark.parametrize("order", [0, 1, 7])
@pytest.mark.parametrize(
    ("number", "other", "elsewhere", "odd"),
    [
        (2, 1, 0, 63),  # the last thread ends before the second barrier
        (1, 2, 0, 63),  # or waits at one to which no other comes
        (1, 0, 0, 1),
        (1, 1, 1, 32),  # half of them wait at another
    ],
)
def test_threads_that_part_at_a_barrier_are_told(kernels, order, number, other, elsewhere, odd):
    kernels.set_order(order)
    assert kernels.meet(3, 3, 0, odd) is None
    assert b"waits at line" in kernels.meet(number, other, elsewhere, odd)
    assert kernels.meet(3, 3, 0, odd) is None
    kernels.set_order(0)


@pytest.mark.parametrize("order", [0, 1, 7])
@pytest.mark.parametrize(
    ("number", "other", "odd", "threads"),
    [
        (1, 0, 31, 64),  # the last lane goes on to the barrier
        (2, 3, 1, 64),
        (1, 1, 0, 48),  # half a warp
    ],
)
def test_lanes_that_part_at_a_product_are_told(kernels, order, number, other, odd, threads):
    kernels.set_order(order)
    assert kernels.multiply(3, 3, odd, 64) is None  # another warp makes fewer
    assert b"waits at line" in kernels.multiply(number, other, odd, threads)
    assert kernels.multiply(3, 3, odd, 64) is None
    kernels.set_order(0)


@pytest.mark.parametrize("order", [0, 1, 7])
def test_a_warps_product_is_the_matrices(kernels, order):
    left = torch.randint(-9, 9, (16, 16), generator=torch.Generator().manual_seed(0)).float()
    right = torch.randint(-9, 9, (16, 8), generator=torch.Generator().manual_seed(1)).float() / 4
    to = torch.full((16, 8), float("nan"))
    kernels.set_order(order)
    kernels.matrix(*map(stand_in.pointer, (left, right, to)))
    kernels.set_order(0)
    assert torch.equal(to, 1 + 2 * left @ right)


def test_what_follows_no_barrier_depends_on_the_order(kernels):
    def shown(order, together):
        to = (ctypes.c_uint * 64)()
        kernels.set_order(order)
        kernels.show(together, to)
        kernels.set_order(0)
        return tuple(to)

    right = tuple((i + 1) % 64 for i in range(64))
    assert {shown(order, 1) for order in range(5)} == {right}
    # First to last: all neighbours are late, but the last one's, whose number is 0. Last to first: none is.
    assert shown(0, 0) == (0,) * 64
    assert shown(1, 0) == right
    assert len({shown(order, 0) for order in range(2, 6)}) == 4


def test_blocks_run_in_any_order(kernels):
    def last(order):
        to = ctypes.c_uint()
        kernels.set_order(order)
        kernels.last(ctypes.byref(to))
        kernels.set_order(0)
        return to.value

    assert (last(0), last(1)) == (40302, 0)
    assert len({last(2) for _ in range(8)}) > 2
