// The banded matrices of every scale and axis, one row per thread, and the same weights once more by groups of rows, of
// kRows or kColumns neighbouring pixels: zeros filled in, so that a group's weights for one cell lie side by side.
#pragma once

#include "../math/fuse.h"

namespace cpm {
namespace fuse_kernels {

constexpr int kColumns = 4;  // of a thread that makes pixels
constexpr int kRows = 12;    // likewise
constexpr int kTableThreads = 96, kTableBlocksAtLeast = 4;  // left alone, ptxas takes 72 registers and spills
constexpr int kHeldTaps = 8;  // of a row while it is made; wider ones, where images shrink, are made in the workspace

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

// A block's rows while they are made: a weight is added to many times, and the workspace is far away.
struct HeldRows {
  float weights[kTableThreads * (kHeldTaps + 1)];  // one more, so that a warp's rows begin in different banks
  int first[kTableThreads], lowest[kTableThreads], highest[kTableThreads];
};

// Weights of the block's row number `mine`, which is row `row` of the table.
inline __device__ float* row_weights(const Tables& t, HeldRows& held, int axis, int mine, long long row) {
  return t.taps[axis] <= kHeldTaps ? held.weights + mine * (kHeldTaps + 1) : t.base + t.weights[axis] + row * t.taps[axis];
}

// Makes one row of the banded matrix, and its first and last cell with weight.
inline __device__ void table_row(const FuseParams& p, const Tables& t, const ChainAxis& chain, const Phases& phases, int scale,
                                 int axis, int i, HeldRows& held) {
  const long long row = (long long)scale * chain.image + i;
  const int mine = (int)threadIdx.x;
  float* weights = row_weights(t, held, axis, mine, row);
  int first, lowest = chain.cells, highest = -1;
  t.base[t.cover[axis] + row] = chain_row(chain, phases, i, t.taps[axis], weights, &first);
  for (int k = 0; k < t.taps[axis]; ++k) {
    const float weight = axis == 0 ? weights[k] * p.weight[scale] : weights[k];
    if (weights[k] != 0.0f) {
      lowest = lowest > first + k ? first + k : lowest;
      highest = first + k;
    }
    weights[k] = t.base[t.weights[axis] + row * t.taps[axis] + k] = weight;
  }
  reinterpret_cast<int*>(t.base)[t.first[axis] + row] = held.first[mine] = first;
  held.lowest[mine] = lowest;
  held.highest[mine] = highest;
}

// Which groups of pixels kTableThreads rows make together. Rows are counted from `start`, the block's first.
struct RowGroups {
  int start, each, count;  // pixels of a group, groups
  long long first;         // number of the first group in the tables
};

inline __device__ RowGroups row_groups(const FuseParams& p, int scale, int axis, int start) {
  const int each = group_pixels(axis);
  return {start, each, kTableThreads / each, scale * groups_of(p, axis) + start / each};
}

// From first and last cells of rows to those of groups: where a group's weights begin, kept in held.lowest, so that all of
// the table's depth lies on the map, and how many of them from there on are not all zero.
inline __device__ void group_cells(const Tables& t, const ChainAxis& chain, int axis, const RowGroups& groups, HeldRows& held) {
  const int depth = t.depth[axis], mine = (int)threadIdx.x;
  int low = chain.cells, high = -1;
  for (int k = 0; k < groups.each && mine < groups.count; ++k) {
    low = held.lowest[mine * groups.each + k] < low ? held.lowest[mine * groups.each + k] : low;
    high = held.highest[mine * groups.each + k] > high ? held.highest[mine * groups.each + k] : high;
  }
  __syncthreads();
  if (mine < groups.count) {
    low = low + depth > chain.cells ? chain.cells - depth : low;
    held.lowest[mine] = low < 0 ? 0 : low;
    if (groups.start + mine * groups.each < chain.image) {
      int* ints = reinterpret_cast<int*>(t.base);
      ints[t.low[axis] + groups.first + mine] = held.lowest[mine];
      ints[t.count[axis] + groups.first + mine] = high < low ? 0 : high - held.lowest[mine] + 1;
    }
  }
}

// The groups' weights, cell by cell: of each the weights of its pixels side by side. A thread makes every kTableThreads-th.
inline __device__ void group_weights(const Tables& t, const ChainAxis& chain, int scale, int axis, const RowGroups& groups, HeldRows& held) {
  const int each = groups.each, depth = t.depth[axis];
  for (int k = (int)threadIdx.x; k < kTableThreads * depth; k += kTableThreads) {
    const int pixel = k % each, cell = k / each % depth, group = k / (each * depth), row = group * each + pixel;
    if (groups.start + group * each >= chain.image) break;
    float weight = 0.0f;
    if (groups.start + row < chain.image) {
      const int tap = held.lowest[group] + cell - held.first[row];
      const float* weights = row_weights(t, held, axis, row, (long long)scale * chain.image + groups.start + row);
      if (tap >= 0 && tap < t.taps[axis]) weight = weights[tap];
    }
    t.base[t.dense[axis] + ((groups.first + group) * depth + cell) * each + pixel] = weight;
  }
}

__device__ __forceinline__ void tables_body(const FuseParams& p, const Tables& t) {
  __shared__ Phases phases;
  __shared__ HeldRows held;
  const int scale = (int)blockIdx.y, axis = (int)blockIdx.z, mine = (int)threadIdx.x;
  const ChainAxis chain = chain_axis(p, scale, axis);
  for (int phase = mine; phase < chain.stride; phase += kTableThreads) fill_phase(chain, phase, &phases);
  for (long long start = (long long)blockIdx.x * kTableThreads; start < chain.image; start += (long long)gridDim.x * kTableThreads) {
    __syncthreads();
    held.lowest[mine] = chain.cells;
    held.highest[mine] = -1;
    const long long i = start + mine;
    if (i < chain.image) table_row(p, t, chain, phases, scale, axis, (int)i, held);
    __syncthreads();
    const RowGroups groups = row_groups(p, scale, axis, (int)start);
    group_cells(t, chain, axis, groups, held);
    __syncthreads();
    group_weights(t, chain, scale, axis, groups, held);
  }
}

}  // namespace fuse_kernels
}  // namespace cpm
