// The fusion's first launch: the banded matrices of every scale and axis. kTapLanes threads make a row, for it is a long
// chain of double arithmetic and the second launch waits for it. The same weights are laid out once more by groups of
// rows, kRows or kColumns neighbouring pixels, with zeros filled in, so that a group's weights for one cell lie side by
// side.
#pragma once

#include "../math/fuse.h"

namespace cpm {
namespace fuse_kernels {

constexpr int kColumns = 4;    // of a thread of the second launch
constexpr int kRows = 16;      // likewise
constexpr int kWindow = 6;     // cells of a row whose weights such a thread keeps in registers
constexpr int kTapLanes = 8;   // threads that make one row
constexpr int kTableRows = 16; // rows of a block: one group, or several
constexpr int kTableThreads = kTapLanes * kTableRows;
constexpr int kTableBlocksAtLeast = 4;  // left alone, ptxas takes few registers and spills

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

// What the threads of a block tell one another about its rows.
struct TableRows {
  Phases phases;
  double sum[kTableRows][kTapLanes], cover[kTableRows][kTapLanes];
  int lowest[kTableRows][kTapLanes];
  int cell[kTableRows][kTapLanes][kPhaseTaps];
  float weight[kTableRows][kTapLanes][kPhaseTaps];
  int low[kTableRows], high[kTableRows];  // cells with weight, of each row
};

inline __device__ void fill_phases(const ChainAxis& chain, Phases* phases) {
  const int count = chain.opencv ? 0 : chain.stride * kPhaseTaps;
  for (int k = (int)threadIdx.x; k < count; k += kTableThreads) fill_phase_raw(chain, k / kPhaseTaps, k % kPhaseTaps, phases);
  __syncthreads();
  double normal[(kMaxStride * kPhaseTaps + kTableThreads - 1) / kTableThreads];
#pragma unroll
  for (int n = 0; n * kTableThreads < kMaxStride * kPhaseTaps; ++n) {
    const int k = (int)threadIdx.x + n * kTableThreads;
    normal[n] = k < count ? phases->weight[k] / phase_sum(*phases, k / kPhaseTaps) : 0.0;
  }
  __syncthreads();
#pragma unroll
  for (int n = 0; n * kTableThreads < kMaxStride * kPhaseTaps; ++n) {
    const int k = (int)threadIdx.x + n * kTableThreads;
    if (k < count) phases->weight[k] = normal[n];
  }
  __syncthreads();
}

// matlab_row by kTapLanes threads: each takes every kTapLanes-th scaled pixel, then every kTapLanes-th cell.
// A row that is not kept is made for the barriers' sake and written nowhere.
inline __device__ float matlab_row_together(const ChainAxis& chain, TableRows& rows, int i, bool kept, int taps, float* weights, int* first) {
  const int r = (int)threadIdx.x / kTapLanes, lane = (int)threadIdx.x % kTapLanes;
  const ResizeAxis outer = image_axis(chain);
  const int outer_taps = resize_taps(outer);
  const double start = resize_first(outer, i);
  double sum = 0.0, cover = 0.0;
  int lowest = chain.cells;
  const ChainTap own = chain_tap(chain, outer, i, start + lane);
  for (int p = lane; p < outer_taps; p += kTapLanes) {
    const ChainTap tap = p == lane ? own : chain_tap(chain, outer, i, start + p);
    const int cell = lowest_cell(chain, rows.phases, tap);
    sum += tap.weight;
    cover += tap.covered ? tap.weight : 0.0;
    lowest = cell < lowest ? cell : lowest;
  }
  rows.sum[r][lane] = sum;
  rows.cover[r][lane] = cover;
  rows.lowest[r][lane] = lowest;
  __syncthreads();
  sum = cover = 0.0;
  for (int k = 0; k < kTapLanes; ++k) {
    sum += rows.sum[r][k];
    cover += rows.cover[r][k];
    lowest = rows.lowest[r][k] < lowest ? rows.lowest[r][k] : lowest;
  }
  *first = lowest < chain.cells - taps ? lowest : chain.cells - taps;
  for (int t = lane; kept && t < taps; t += kTapLanes) weights[t] = 0.0f;
  for (int chunk = 0; chunk < outer_taps; chunk += kTapLanes) {
    const ChainTap tap = chunk == 0 ? own : chain_tap(chain, outer, i, start + chunk + lane);
    const bool counts = tap.covered && chunk + lane < outer_taps;
    const double weight = tap.weight / sum;
    __syncthreads();
    for (int q = 0; q < kPhaseTaps; ++q) {
      rows.cell[r][lane][q] = counts ? tap_cell(chain, rows.phases, tap, q) - *first : -1;
      rows.weight[r][lane][q] = counts ? (float)(weight * tap_weight(rows.phases, tap, q)) : 0.0f;
    }
    __syncthreads();
    for (int t = lane; kept && t < taps; t += kTapLanes) {
      float value = weights[t];
      for (int k = 0; k < kTapLanes; ++k) {
        for (int q = 0; q < kPhaseTaps; ++q) value += rows.cell[r][k][q] == t ? rows.weight[r][k][q] : 0.0f;
      }
      weights[t] = value;
    }
  }
  return (float)(cover / sum);
}

// The block's rows of the banded matrix, and which of their cells have weight.
inline __device__ void table_row(const FuseParams& p, const Tables& t, const ChainAxis& chain, int scale, int axis, int start, TableRows& rows) {
  const int r = (int)threadIdx.x / kTapLanes, lane = (int)threadIdx.x % kTapLanes, taps = t.taps[axis];
  const bool kept = start + r < chain.image;
  const int i = kept ? start + r : chain.image - 1;
  const long long row = (long long)scale * chain.image + i;
  float* weights = t.base + t.weights[axis] + row * taps;
  int first = 0;
  float cover = 0.0f;
  if (!chain.opencv) {
    cover = matlab_row_together(chain, rows, i, kept, taps, weights, &first);
  } else if (lane == 0 && kept) {
    cover = opencv_row(chain, i, taps, weights, &first);
  }
  __syncthreads();
  if (lane != 0) return;
  rows.low[r] = chain.cells;
  rows.high[r] = -1;
  if (!kept) return;
  for (int k = 0; k < taps; ++k) {
    if (weights[k] == 0.0f) continue;
    if (rows.high[r] < 0) rows.low[r] = first + k;
    rows.high[r] = first + k;
  }
  t.base[t.cover[axis] + row] = cover;
  reinterpret_cast<int*>(t.base)[t.first[axis] + row] = first;
}

// The groups of a block's rows: lowest cells, counts, and weights with zeros filled in.
inline __device__ void table_groups(const FuseParams& p, const Tables& t, const ChainAxis& chain, int scale, int axis, int start, const TableRows& rows) {
  const int each = group_pixels(axis), depth = t.depth[axis];
  const long long first_group = scale * groups_of(p, axis) + start / each;
  for (int k = (int)threadIdx.x; k < kTableRows * depth; k += kTableThreads) {
    const int pixel = k % each, cell = k / each % depth, group = k / (each * depth), i = start + group * each + pixel;
    if (start + group * each >= chain.image) break;
    int low = chain.cells, high = -1;
    for (int n = group * each; n < (group + 1) * each; ++n) {
      low = rows.low[n] < low ? rows.low[n] : low;
      high = rows.high[n] > high ? rows.high[n] : high;
    }
    const bool empty = high < low;
    low = low + depth > chain.cells ? chain.cells - depth : low;
    const long long row = (long long)scale * chain.image + i;
    float weight = 0.0f;
    if (i < chain.image) {
      const int tap = low + cell - table_int(t, t.first[axis] + row);
      if (tap >= 0 && tap < t.taps[axis]) weight = t.base[t.weights[axis] + row * t.taps[axis] + tap];
      if (axis == 0) weight *= p.weight[scale];
    }
    t.base[t.dense[axis] + ((first_group + group) * depth + cell) * each + pixel] = weight;
    if (pixel != 0 || cell != 0) continue;
    reinterpret_cast<int*>(t.base)[t.low[axis] + first_group + group] = low;
    reinterpret_cast<int*>(t.base)[t.count[axis] + first_group + group] = empty ? 0 : high - low + 1;
  }
}

__device__ __forceinline__ void tables_body(const FuseParams& p, const Tables& t) {
  __shared__ TableRows rows;
  const int scale = (int)blockIdx.y, axis = (int)blockIdx.z;
  const ChainAxis chain = chain_axis(p, scale, axis);
  if ((long long)blockIdx.x * kTableRows >= chain.image) return;
  fill_phases(chain, &rows.phases);
  for (long long start = (long long)blockIdx.x * kTableRows; start < chain.image; start += (long long)gridDim.x * kTableRows) {
    table_row(p, t, chain, scale, axis, (int)start, rows);
    __syncthreads();
    table_groups(p, t, chain, scale, axis, (int)start, rows);
    __syncthreads();
  }
}

}  // namespace fuse_kernels
}  // namespace cpm
