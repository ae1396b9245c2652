// The kernels of the fusion, without their launches: nvcc compiles them into the extension, NVRTC for CuPy.
//
// A first launch makes the tables. In the second a warp makes kRows x kTileColumns pixels of one channel. A thread owns
// kColumns neighbouring columns; it resamples cell rows to them one by one and adds each to all of its rows. All its sums
// are in registers, and warps need nothing of one another; those of a block make pixels one below the other, so that
// weights of columns and most cells are in the first-level cache for all but the first of them. The full-size maps are
// written once, or, for peaks, never: then each block contributes its maximum with one atomic, whose result does not
// depend on the order.
#pragma once

#include "fuse_tables.h"

namespace cpm {
namespace fuse_kernels {

constexpr int kThreads = 128, kWarp = 32, kWarps = kThreads / kWarp;
constexpr int kBlocksAtLeast = 4;  // per multiprocessor: up to 128 registers a thread
constexpr int kTileColumns = kWarp * kColumns, kTileRows = kWarps * kRows;  // of a block
constexpr int kWindow = 6;         // cells of a row whose weights a thread keeps in registers
constexpr int kCross = 5, kLanes = 32;  // a maximum with its neighbours; threads that share one of those pixels

inline __host__ __device__ unsigned int tiles_along(int length, int tile) { return (unsigned int)((length - 1) / tile + 1); }

// One cell row resampled to image column x.
inline __device__ float resample(const FuseParams& p, const Tables& t, const float* cells, int scale, int x) {
  const long long row = (long long)scale * p.image_w + x;
  const float* weights = t.base + t.weights[1] + row * t.taps[1];
  const int first = table_int(t, t.first[1] + row);
  float sum = 0.0f;
  for (int k = 0; k < t.taps[1] && first + k < p.w; ++k) sum = multiply_add(weights[k], cells[first + k], sum);
  return sum;
}

// Sums of the thread's pixels: sum[r][c] is image row y0 + r, column x + c. kHeld: cells of a row whose weights are held
// at a time; it divides t.depth[1], which is not more than the cells of a row.
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

// Larger values first, then earlier pixels: so that one unsigned maximum finds the first maximum. Zeros of both signs are
// the same value.
inline __device__ unsigned long long peak_key(float value, unsigned int rank) {
  const unsigned int bits = float_bits(value + 0.0f);
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

// One block per kTileColumns x kTileRows pixels of a channel.
template <bool kPeaks, int kHeld>
__device__ __forceinline__ void fuse_body(const FuseParams& p, const Tables& t, unsigned long long* best) {
  __shared__ unsigned long long keys[kThreads];
  const unsigned int tiles_x = tiles_along(p.image_w, kTileColumns), tiles_y = tiles_along(p.image_h, kTileRows);
  const unsigned int tile_x = blockIdx.x % tiles_x, tile_y = blockIdx.x / tiles_x % tiles_y;
  const int channel = (int)(blockIdx.x / tiles_x / tiles_y);
  const int y0 = (int)(tile_y * kTileRows + threadIdx.x / kWarp * kRows), x = (int)(tile_x * kTileColumns + threadIdx.x % kWarp * kColumns);
  const bool inside = y0 < p.image_h;
  const unsigned long long known = kPeaks ? *static_cast<volatile unsigned long long*>(best + channel) : 0;
  float sum[kRows][kColumns];
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) sum[r][c] = 0.0f;
  }
  if (inside) {
    fuse_pixels<kHeld>(p, t, channel, y0, x, sum);
    if (p.background && channel == p.channels - 1) add_border(p, t, y0, x, sum);
  }
  if (!kPeaks) {
    if (inside) write_pixels(p, channel, y0, x, sum);
    return;
  }
  keys[threadIdx.x] = inside ? largest_key(p, y0, x, sum, known) : 0;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if ((int)threadIdx.x < half && keys[threadIdx.x + half] > keys[threadIdx.x]) keys[threadIdx.x] = keys[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0 && keys[0] > known) atomicMax(best + channel, keys[0]);
}

// What one lane of kLanes adds to a fused pixel: every kLanes-th pair of scale and cell row.
inline __device__ float pixel_share(const FuseParams& p, const Tables& t, int channel, int y, int x, int lane) {
  float sum = 0.0f;
  for (int pair = lane; pair < p.scales * t.taps[0]; pair += kLanes) {
    const int scale = pair / t.taps[0], tap = pair % t.taps[0];
    const long long row = (long long)scale * p.image_h + y;
    const int cell = table_int(t, t.first[0] + row) + tap;
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
