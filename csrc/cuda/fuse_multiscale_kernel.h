// The kernels of the fusion, without their launches: nvcc compiles them into the extension, NVRTC for CuPy.
//
// First launch: the banded matrices, one row per thread, and the same weights once more by groups of rows (of kRows or
// kColumns neighbouring pixels): zeros filled in, so that a group's weights for one cell lie side by side.
// Second: a warp makes kRows x (32 * kColumns) pixels of one channel. A thread owns kColumns neighbouring columns; it
// resamples cell rows to them one by one and adds each to all of its rows. All its sums are in registers, nothing is
// shared and nothing waits. The full-size maps are written once, or, for peaks, never: then each warp contributes its
// maximum with one atomic, whose result does not depend on the order.
#pragma once

#include "../math/fuse.h"

namespace cpm {
namespace fuse_kernels {

constexpr int kThreads = 32;         // a block is one warp
constexpr int kBlocksAtLeast = 12;   // per multiprocessor: up to 168 registers a thread
constexpr int kColumns = 4;          // of a thread
constexpr int kTileColumns = kThreads * kColumns;
constexpr int kRows = 16;
constexpr int kWindow = 6;           // cells of a row whose weights a thread keeps in registers
constexpr int kTableThreads = 128, kTableBlocksAtLeast = 4;  // left alone, ptxas takes 72 registers and spills
constexpr int kCross = 5, kLanes = 32;  // a maximum with its neighbours; threads that share one of those pixels

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

// One cell row resampled to image column x.
inline __device__ float resample(const FuseParams& p, const Tables& t, const float* cells, int scale, int x) {
  const long long row = (long long)scale * p.image_w + x;
  const float* weights = t.base + t.weights[1] + row * t.taps[1];
  const int first = reinterpret_cast<const int*>(t.base)[t.first[1] + row];
  float sum = 0.0f;
  for (int k = 0; k < t.taps[1] && first + k < p.w; ++k) sum = multiply_add(weights[k], cells[first + k], sum);
  return sum;
}

// Sums of the thread's pixels: sum[r][c] is image row y0 + r, column x + c. kHeld: cells of a row whose weights are held
// at a time; any number divides t.depth[1], and t.depth[1] is not more than the cells of a row.
template <int kHeld>
__device__ __forceinline__ void fuse_pixels(const FuseParams& p, const Tables& t, int channel, int y0, int x, float (*sum)[kColumns]) {
  const int last_group = (int)groups_of(p, 1) - 1, group_x = x / kColumns < last_group ? x / kColumns : last_group;
#pragma unroll 1
  for (int scale = 0; scale < p.scales; ++scale) {
    const long long down = scale * groups_of(p, 0) + y0 / kRows, right = (long long)scale * (last_group + 1) + group_x;
    const int count = table_int(t, t.count[0] + down);
    const float* plane = p.maps + ((long long)scale * p.channels + channel) * p.h * p.w + (long long)table_int(t, t.low[0] + down) * p.w +
                         table_int(t, t.low[1] + right);
#pragma unroll 1
    for (int window = 0; window < t.depth[1]; window += kHeld) {
      Four across[kHeld];
#pragma unroll
      for (int k = 0; k < kHeld; ++k) across[k] = load_four(t.base + t.dense[1] + (right * t.depth[1] + window + k) * kColumns);
      const float* cells = plane + window;
      const float* weights = t.base + t.dense[0] + down * t.depth[0] * kRows;
#pragma unroll 1
      for (int row = 0; row < count; ++row) {
        float value[kColumns] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
        for (int k = 0; k < kHeld; ++k) {
#pragma unroll
          for (int c = 0; c < kColumns; ++c) value[c] = multiply_add(across[k].of[c], cells[k], value[c]);
        }
#pragma unroll
        for (int r = 0; r < kRows; r += 4) {
          const Four weight = load_four(weights + r);
#pragma unroll
          for (int k = 0; k < 4; ++k) {
#pragma unroll
            for (int c = 0; c < kColumns; ++c) sum[r + k][c] = multiply_add(weight.of[k], value[c], sum[r + k][c]);
          }
        }
        cells += p.w;
        weights += kRows;
      }
    }
  }
}

// The background's share where the network's input did not reach.
inline __device__ void add_border(const FuseParams& p, const Tables& t, int y0, int x, float (*sum)[kColumns]) {
#pragma unroll 1
  for (int scale = 0; scale < p.scales; ++scale) {
    const float* cover_y = t.base + t.cover[0] + (long long)scale * p.image_h;
    const float* cover_x = t.base + t.cover[1] + (long long)scale * p.image_w;
    float column[kColumns];
    for (int c = 0; c < kColumns; ++c) column[c] = cover_x[x + c < p.image_w ? x + c : p.image_w - 1];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float row = cover_y[y0 + r < p.image_h ? y0 + r : p.image_h - 1];
#pragma unroll
      for (int c = 0; c < kColumns; ++c) sum[r][c] = multiply_add(p.weight[scale], uncovered(row, column[c]), sum[r][c]);
    }
  }
}

inline __device__ void write_pixels(const FuseParams& p, int channel, int y0, int x, const float (*sum)[kColumns]) {
  float* out = p.out + ((long long)channel * p.image_h + y0) * p.image_w + x;
  const bool whole = p.image_w % 4 == 0 && (unsigned long long)p.out % sizeof(Four) == 0;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (y0 + r >= p.image_h) return;
    if (whole && x < p.image_w) {
      Four four;
      for (int c = 0; c < kColumns; ++c) four.of[c] = sum[r][c];
      *reinterpret_cast<Four*>(out) = four;
    } else {
      for (int c = 0; c < kColumns; ++c) {
        if (x + c < p.image_w) out[c] = sum[r][c];
      }
    }
    out += p.image_w;
  }
}

// Larger values first, then earlier pixels: so that one unsigned maximum finds the first maximum.
inline __device__ unsigned long long peak_key(float value, unsigned int rank) {
  const unsigned int bits = float_bits(value);
  const unsigned int ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return (unsigned long long)ordered << 32 | (unsigned int)~rank;
}

// The key of the largest of the thread's pixels, or 0 if they cannot matter: all NaN, or below what is known already.
inline __device__ unsigned long long largest_key(const FuseParams& p, int y0, int x, const float (*sum)[kColumns], unsigned long long known) {
  float most = 0.0f;
  bool any = false;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      if (y0 + r >= p.image_h || x + c >= p.image_w || sum[r][c] != sum[r][c]) continue;
      most = any && most > sum[r][c] ? most : sum[r][c];
      any = true;
    }
  }
  if (!any || peak_key(most, 0) <= known) return 0;
  unsigned long long key = 0;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      if (y0 + r >= p.image_h || x + c >= p.image_w || sum[r][c] != most) continue;
      const unsigned long long mine = peak_key(sum[r][c], (unsigned int)scan_rank(y0 + r, x + c, p.image_h, p.image_w, p.row_major));
      key = mine > key ? mine : key;
    }
  }
  return key;
}

template <bool kPeaks, int kHeld>
__device__ __forceinline__ void fuse_body(const FuseParams& p, const Tables& t, unsigned long long* best) {
  __shared__ unsigned long long keys[kThreads];
  const long long tiles_x = (p.image_w - 1) / kTileColumns + 1, tiles_y = groups_of(p, 0);
  const long long tiles = tiles_x * tiles_y * p.channels;
  for (long long tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int channel = (int)(tile / (tiles_x * tiles_y));
    const int y0 = (int)(tile / tiles_x % tiles_y) * kRows, x = (int)(tile % tiles_x) * kTileColumns + (int)threadIdx.x * kColumns;
    const unsigned long long known = kPeaks ? *static_cast<volatile unsigned long long*>(best + channel) : 0;
    float sum[kRows][kColumns];
    for (int r = 0; r < kRows; ++r) {
      for (int c = 0; c < kColumns; ++c) sum[r][c] = 0.0f;
    }
    fuse_pixels<kHeld>(p, t, channel, y0, x, sum);
    if (p.background && channel == p.channels - 1) add_border(p, t, y0, x, sum);
    if (!kPeaks) {
      write_pixels(p, channel, y0, x, sum);
      continue;
    }
    keys[threadIdx.x] = largest_key(p, y0, x, sum, known);
    __syncthreads();
    for (int half = kThreads / 2; half > 0; half /= 2) {
      if ((int)threadIdx.x < half && keys[threadIdx.x + half] > keys[threadIdx.x]) keys[threadIdx.x] = keys[threadIdx.x + half];
      __syncthreads();
    }
    if (threadIdx.x == 0 && keys[0] > known) atomicMax(best + channel, keys[0]);
    __syncthreads();
  }
}

// What one lane of kLanes adds to a fused pixel: every kLanes-th pair of scale and cell row.
inline __device__ float pixel_share(const FuseParams& p, const Tables& t, int channel, int y, int x, int lane) {
  float sum = 0.0f;
  for (int pair = lane; pair < p.scales * t.taps[0]; pair += kLanes) {
    const int scale = pair / t.taps[0], tap = pair % t.taps[0];
    const long long row = (long long)scale * p.image_h + y;
    const int cell = reinterpret_cast<const int*>(t.base)[t.first[0] + row] + tap;
    const float* plane = p.maps + ((long long)scale * p.channels + channel) * p.h * p.w;
    if (cell < p.h) sum = multiply_add(t.base[t.weights[0] + row * t.taps[0] + tap], resample(p, t, plane + (long long)cell * p.w, scale, x), sum);
    if (tap == 0 && p.background && channel == p.channels - 1) {
      const float cover_y = t.base[t.cover[0] + row], cover_x = t.base[t.cover[1] + (long long)scale * p.image_w + x];
      sum = multiply_add(p.weight[scale], uncovered(cover_y, cover_x), sum);
    }
  }
  return sum;
}

// Fused values of pixel (y, x) and its neighbours left, right, above and below (its own where there is none), in a
// fixed order of summation; valid in thread 0.
inline __device__ void cross_values(const FuseParams& p, const Tables& t, int channel, int y, int x, float* shares, float* values) {
  const int point = (int)threadIdx.x / kLanes;
  const int other_x = x + (point == 2) - (point == 1), other_y = y + (point == 4) - (point == 3);
  const int px = other_x < 0 || other_x >= p.image_w ? x : other_x, py = other_y < 0 || other_y >= p.image_h ? y : other_y;
  shares[threadIdx.x] = pixel_share(p, t, channel, py, px, (int)threadIdx.x % kLanes);
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int k = 0; k < kCross; ++k) {
    values[k] = 0.0f;
    for (int lane = 0; lane < kLanes; ++lane) values[k] += shares[k * kLanes + lane];
  }
}

inline __device__ void clear_body(unsigned long long* best, int channels) {
  for (int c = (int)threadIdx.x; c < channels; c += (int)blockDim.x) best[c] = 0;
}

// A block per channel: from the key of its maximum to position and value.
__device__ __forceinline__ void unpack_body(const FuseParams& p, const Tables& t, const unsigned long long* best, float* xy, float* score) {
  __shared__ float shares[kCross * kLanes];
  const int c = (int)blockIdx.x;
  const unsigned int ordered = (unsigned int)(best[c] >> 32), rank = ~(unsigned int)best[c];
  const unsigned int place = best[c] == 0 ? 0 : rank;  // nothing but NaN: pixel 0, minus infinity
  const unsigned int height = (unsigned int)p.image_h, width = (unsigned int)p.image_w;
  const int y = (int)(p.row_major ? place / width : place % height), x = (int)(p.row_major ? place % width : place / height);
  float top_x = 0.0f, top_y = 0.0f;
  if (p.subpixel) {
    float values[kCross];
    cross_values(p, t, c, y, x, shares, values);
    if (x > 0 && x + 1 < p.image_w) top_x = parabola_top(values[1], values[0], values[2]);
    if (y > 0 && y + 1 < p.image_h) top_y = parabola_top(values[3], values[0], values[4]);
  }
  if (threadIdx.x != 0) return;
  union {
    unsigned int u;
    float f;
  } pun;
  pun.u = best[c] == 0 ? 0xff800000u : ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered;
  xy[2 * c] = (float)x + top_x;
  xy[2 * c + 1] = (float)y + top_y;
  score[c] = pun.f;
}

}  // namespace fuse_kernels
}  // namespace cpm
