// The banded matrices of every scale and axis, one row per thread, and the same weights once more by groups of rows, of
// kRows or kColumns neighbouring pixels, with zeros filled in: of kColumns pixels in the order in which neighbouring threads
// read them, of kRows pixels pairs of halves as the lanes of a warp multiply them.
#pragma once

#include "fuse_range.h"
#include "warp_matrix.h"

namespace cpm {
namespace fuse_kernels {

constexpr int kColumns = 4;  // that a thread resamples cells to
constexpr int kRows = 32;    // of a warp that makes pixels
constexpr int kTiles = kRows / kLeft;                // of a warp's rows, one matrix product's each
constexpr int kSliceWords = kTiles * kWarp * kLeftWords;  // of a warp, for one slice of cells
constexpr int kBlockRows = 128;  // of a block that makes pixels, and of one that makes tables
constexpr int kTableThreads = 128, kTableBlocksAtLeast = 4;
static_assert(kTableThreads == kBlockRows, "a block of tables knows all of a block of pixels");
constexpr int kHeldTaps = 8;  // of a row while it is made; wider ones, where images shrink, are made in the workspace

// Where each table lies in the workspace; [0] is of axis y, [1] of axis x. A row is an image row or column. Per scale:
// (rows, taps) weights, (rows) cover and first cells; the groups' weights, of axis y (groups, slices of cells, tiles, lanes,
// kLeftWords) pairs of halves, of axis x (depth, groups, kColumns); (groups) spans of cells, of axis y also (blocks of kBlockRows
// rows); and the largest magnitude of each channel. Cells are int bits.
struct Tables {
  float* base;
  long long weights[2], cover[2], first[2];
  long long dense[2], spans[2];  // multiples of 4 and of 2
  long long blocks, largest;
  int taps[2];                           // the widest over the scales; narrower rows are padded with zeros
  int depth[2];
};

// The cells that a group of pixels depends on: from `first` on, below `end`. Of axis y they are whole slices.
struct alignas(8) Span {
  int first, end;
};

struct alignas(8) Two {
  float of[2];
};

struct alignas(16) Four {
  float of[4];
};

struct alignas(16) FourWords {
  unsigned int of[4];
};

inline __device__ int table_int(const Tables& t, long long at) { return reinterpret_cast<const int*>(t.base)[at]; }

inline __host__ __device__ int group_pixels(int axis) { return axis == 0 ? kRows : kColumns; }

inline __host__ __device__ long long groups_of(const FuseParams& p, int axis) {
  return ((axis == 0 ? p.image_h : p.image_w) - 1) / group_pixels(axis) + 1;
}

inline __host__ __device__ long long blocks_of(const FuseParams& p) { return (p.image_h - 1) / kBlockRows + 1; }

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

// From first and last cells of rows to those of groups. A group's weights begin at its first cell, kept in held.lowest. Along
// x it leaves room on the map for all of the table's depth; along y there are zeros beyond the map.
inline __device__ Span group_span(const Tables& t, const ChainAxis& chain, int axis, const RowGroups& groups, const HeldRows& held) {
  int low = chain.cells, high = -1;
  for (int k = 0; k < groups.each; ++k) {
    const int row = (int)threadIdx.x * groups.each + k;
    low = held.lowest[row] < low ? held.lowest[row] : low;
    high = held.highest[row] > high ? held.highest[row] : high;
  }
  if (axis == 0) return {low, high < low ? low : low + (high - low + kSlice) / kSlice * kSlice};
  low = low + t.depth[1] > chain.cells ? chain.cells - t.depth[1] : low;
  return {low, high < low ? low : high + 1};
}

inline __device__ void group_cells(const Tables& t, const ChainAxis& chain, int axis, const RowGroups& groups, HeldRows& held) {
  const int mine = (int)threadIdx.x;
  Span span = {0, 0};
  if (mine < groups.count) span = group_span(t, chain, axis, groups, held);
  __syncthreads();
  if (mine < groups.count) {
    held.lowest[mine] = span.first;
    held.highest[mine] = span.end;
    if (groups.start + mine * groups.each < chain.image) reinterpret_cast<Span*>(t.base + t.spans[axis])[groups.first + mine] = span;
  }
}

// The cells of all of a block's groups together.
inline __device__ void block_cells(const FuseParams& p, const Tables& t, int scale, const RowGroups& groups, const HeldRows& held) {
  Span span = {p.h, 0};
  for (int group = 0; group < groups.count; ++group) {
    if (held.lowest[group] == held.highest[group]) continue;
    span.first = held.lowest[group] < span.first ? held.lowest[group] : span.first;
    span.end = held.highest[group] > span.end ? held.highest[group] : span.end;
  }
  reinterpret_cast<Span*>(t.base + t.blocks)[scale * blocks_of(p) + groups.start / kBlockRows] = span;
}

// Where the number `k` of a group's weights comes from: which of its pixels, and which of its cells.
struct WeightPlace {
  int pixel, cell;
};

inline __device__ WeightPlace weight_place(int axis, int k) {
  if (axis == 1) return {k % kColumns, k / kColumns};
  const int slice = k / kSliceWords, tile = k % kSliceWords / (kWarp * kLeftWords);
  const LeftPlace place = left_place(k / kLeftWords % kWarp, k % kLeftWords);
  return {tile * kLeft + place.row, slice * kSlice + place.inner};
}

// The groups' weights. A thread makes every kTableThreads-th.
inline __device__ void group_weights(const FuseParams& p, const Tables& t, const ChainAxis& chain, int scale, int axis, const RowGroups& groups, HeldRows& held) {
  const int each = groups.each, depth = t.depth[axis];
  const long long all = groups_of(p, axis);
  for (int k = (int)threadIdx.x; k < kTableThreads * depth; k += kTableThreads) {
    const int group = k / (each * depth);
    if (groups.start + group * each >= chain.image) break;
    const WeightPlace place = weight_place(axis, k % (each * depth));
    const int row = group * each + place.pixel;
    float weight = 0.0f;
    if (groups.start + row < chain.image) {
      const int tap = held.lowest[group] + place.cell - held.first[row];
      const float* weights = row_weights(t, held, axis, row, (long long)scale * chain.image + groups.start + row);
      if (tap >= 0 && tap < t.taps[axis]) weight = weights[tap];
    }
    if (axis == 0) {
      reinterpret_cast<unsigned int*>(t.base)[t.dense[0] + groups.first * each * depth + k] = half_pair(kWeightUp * weight);
    } else {
      const long long cells = (long long)scale * depth + place.cell, column = groups.start / each + group;
      t.base[t.dense[1] + (cells * all + column) * each + place.pixel] = weight;
    }
  }
}

inline __device__ void axis_tables(const FuseParams& p, const Tables& t, int scale, int axis) {
  __shared__ Phases phases;
  __shared__ HeldRows held;
  const int mine = (int)threadIdx.x;
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
    if (axis == 0 && mine == 0) block_cells(p, t, scale, groups, held);
    group_weights(p, t, chain, scale, axis, groups, held);
  }
}

// Blocks (along, scale, what): 0 and 1 make an axis' tables, 2 the magnitudes.
__device__ __forceinline__ void tables_body(const FuseParams& p, const Tables& t) {
  if (blockIdx.z < 2) {
    axis_tables(p, t, (int)blockIdx.y, (int)blockIdx.z);
  } else {
    unsigned int* largest = reinterpret_cast<unsigned int*>(t.base) + t.largest;
    largest_cells<kTableThreads>(p, (int)blockIdx.y, largest);
  }
}

}  // namespace fuse_kernels
}  // namespace cpm
