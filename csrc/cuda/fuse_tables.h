// The banded matrices of every scale and axis, one row per thread, and the same weights once more by groups of rows, of
// kRows or kColumns neighbouring pixels: zeros filled in, so that a group's weights for one cell lie side by side.
#pragma once

#include "../math/fuse.h"

namespace cpm {
namespace fuse_kernels {

constexpr int kColumns = 4;  // of a thread that makes pixels
constexpr int kRows = 12;    // likewise
constexpr int kTableThreads = 96, kTableBlocksAtLeast = 4;  // left alone, ptxas takes 72 registers and spills

// Where each table lies in the workspace; [0] is of axis y, [1] of axis x. A row is an image row or column. Per scale:
// (rows, taps) weights, (rows) cover and first cells; (groups, depth, pixels of a group) weights, (groups) lowest
// cells and how many from there on have weight. Cells and counts are int bits.
struct Tables {
  float* base;
  long long weights[2], cover[2], first[2];
  long long dense[2], low[2], count[2];  // dense: multiples of 4
  int taps[2];                           // the widest over the scales; narrower rows are padded with zeros
  int depth[2];
};

struct alignas(16) Four {
  float of[4];
};

inline __device__ Four load_four(const float* from) { return *reinterpret_cast<const Four*>(from); }

inline __device__ int table_int(const Tables& t, long long at) { return reinterpret_cast<const int*>(t.base)[at]; }

inline __host__ __device__ int group_pixels(int axis) { return axis == 0 ? kRows : kColumns; }

inline __host__ __device__ long long groups_of(const FuseParams& p, int axis) {
  return ((axis == 0 ? p.image_h : p.image_w) - 1) / group_pixels(axis) + 1;
}

// One row of the banded matrix, and its first and last cell with weight.
inline __device__ void table_row(const FuseParams& p, const Tables& t, const ChainAxis& chain, const Phases& phases, int scale,
                                 int axis, int i, int* lowest, int* highest) {
  const long long row = (long long)scale * chain.image + i;
  float* weights = t.base + t.weights[axis] + row * t.taps[axis];
  int first;
  t.base[t.cover[axis] + row] = chain_row(chain, phases, i, t.taps[axis], weights, &first);
  reinterpret_cast<int*>(t.base)[t.first[axis] + row] = first;
  for (int k = 0; k < t.taps[axis]; ++k) {
    if (weights[k] == 0.0f) continue;
    if (*lowest > first + k) *lowest = first + k;
    *highest = first + k;
    if (axis == 0) weights[k] *= p.weight[scale];
  }
}

// The groups of kTableThreads rows from `start`; lowest and highest are per row, and become per group.
inline __device__ void group_tables(const FuseParams& p, const Tables& t, const ChainAxis& chain, int scale, int axis, int start,
                                    int* lowest, int* highest) {
  const int each = group_pixels(axis), depth = t.depth[axis], groups = kTableThreads / each, mine = (int)threadIdx.x;
  const long long first_group = scale * groups_of(p, axis) + start / each;
  int low = chain.cells, high = -1;
  for (int k = 0; k < each && mine < groups; ++k) {
    low = lowest[mine * each + k] < low ? lowest[mine * each + k] : low;
    high = highest[mine * each + k] > high ? highest[mine * each + k] : high;
  }
  __syncthreads();
  if (mine < groups) {
    const int count = high < low ? 0 : high - low + 1;
    low = low + depth > chain.cells ? chain.cells - depth : low;
    lowest[mine] = low < 0 ? 0 : low;
    if (start + mine * each < chain.image) {
      reinterpret_cast<int*>(t.base)[t.low[axis] + first_group + mine] = lowest[mine];
      reinterpret_cast<int*>(t.base)[t.count[axis] + first_group + mine] = high < low ? count : high - lowest[mine] + 1;
    }
  }
  __syncthreads();
  for (int k = mine; k < kTableThreads * depth; k += kTableThreads) {
    const int pixel = k % each, cell = k / each % depth, group = k / (each * depth), i = start + group * each + pixel;
    if (start + group * each >= chain.image) break;
    const long long row = (long long)scale * chain.image + i;
    float weight = 0.0f;
    if (i < chain.image) {
      const int tap = lowest[group] + cell - table_int(t, t.first[axis] + row);
      if (tap >= 0 && tap < t.taps[axis]) weight = t.base[t.weights[axis] + row * t.taps[axis] + tap];
    }
    t.base[t.dense[axis] + ((first_group + group) * depth + cell) * each + pixel] = weight;
  }
}

__device__ __forceinline__ void tables_body(const FuseParams& p, const Tables& t) {
  __shared__ Phases phases;
  __shared__ int lowest[kTableThreads], highest[kTableThreads];
  const int scale = (int)blockIdx.y, axis = (int)blockIdx.z, mine = (int)threadIdx.x;
  const ChainAxis chain = chain_axis(p, scale, axis);
  for (int phase = mine; phase < chain.stride; phase += kTableThreads) fill_phase(chain, phase, &phases);
  for (long long start = (long long)blockIdx.x * kTableThreads; start < chain.image; start += (long long)gridDim.x * kTableThreads) {
    __syncthreads();
    lowest[mine] = chain.cells;
    highest[mine] = -1;
    const long long i = start + mine;
    if (i < chain.image) table_row(p, t, chain, phases, scale, axis, (int)i, lowest + mine, highest + mine);
    __syncthreads();
    group_tables(p, t, chain, scale, axis, (int)start, lowest, highest);
  }
}

}  // namespace fuse_kernels
}  // namespace cpm
