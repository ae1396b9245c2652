// The kernels of the fusion, without their launches: nvcc compiles them into the extension, NVRTC for CuPy.
//
// A first launch makes the tables. In the second a block makes pixels of one channel (fuse_pixels.h). The full-size maps
// are written once, or, for peaks, never: then each block contributes its maximum with one atomic, whose result does not
// depend on the order.
#pragma once

#include "fuse_pixels.h"

namespace cpm {
namespace fuse_kernels {

constexpr int kCross = 5, kLanes = 32;  // a maximum with its neighbours; threads that share one of those pixels

inline __host__ __device__ unsigned int tiles_along(int width) { return (unsigned int)((width - 1) / kTileColumns + 1); }

// One cell row resampled to image column x.
inline __device__ float resample(const FuseParams& p, const Tables& t, const float* cells, int scale, int x) {
  const long long row = (long long)scale * p.image_w + x;
  const float* weights = t.base + t.weights[1] + row * t.taps[1];
  const int first = table_int(t, t.first[1] + row);
  float sum = 0.0f;
  for (int k = 0; k < t.taps[1] && first + k < p.w; ++k) sum = multiply_add(weights[k], cells[first + k], sum);
  return sum;
}

// The background's share where the network's input did not reach.
inline __device__ void add_border(const FuseParams& p, const Tables& t, const Block& block, Sums& sum) {
  __shared__ float rows[kBlockRows], columns[kTileColumns];
  const int thread = (int)threadIdx.x, y = block.y0 + thread, x = block.x0 + thread;
#pragma unroll 1
  for (int scale = 0; scale < p.scales; ++scale) {
    __syncthreads();
    if (y < p.image_h) rows[thread] = t.base[t.cover[0] + (long long)scale * p.image_h + y];
    if (thread < kTileColumns && x < p.image_w) columns[thread] = t.base[t.cover[1] + (long long)scale * p.image_w + x];
    __syncthreads();
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int right = 0; right < kAcross; ++right) {
#pragma unroll
        for (int index = 0; index < kSums; ++index) {
          const PixelPlace at = pixel_place({0, 0, 0}, tile, right, index);
          sum[tile][right][index] = multiply_add(p.weight[scale], uncovered(rows[at.y], columns[at.x]), sum[tile][right][index]);
        }
      }
    }
  }
}

// The pixels of one image row that a thread makes, from column x on. `whole`: two at a time, all of them in the image.
inline __device__ void write_row(const FuseParams& p, const float (&sum)[kAcross][kSums], int index, int x, bool whole, float* to) {
  if (whole) {
#pragma unroll
    for (int right = 0; right < kAcross; ++right) *reinterpret_cast<Two*>(to + right * kRight) = {{sum[right][index], sum[right][index + 1]}};
    return;
  }
#pragma unroll
  for (int right = 0; right < kAcross; ++right) {
    for (int k = 0; k < 2; ++k) {
      if (x + right * kRight + k < p.image_w) to[right * kRight + k] = sum[right][index + k];
    }
  }
}

inline __device__ void write_pixels(const FuseParams& p, const Block& block, const Sums& sum) {
  float* out = p.out + (long long)block.channel * p.image_h * p.image_w;
  const bool aligned = p.image_w % 2 == 0 && (unsigned long long)p.out % sizeof(Two) == 0;
  const bool whole = aligned && block.x0 + kTileColumns <= p.image_w;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int index = 0; index < kSums; index += 2) {
      const PixelPlace at = pixel_place(block, tile, 0, index);
      if (at.y < p.image_h) write_row(p, sum[tile], index, at.x, whole, out + (long long)at.y * p.image_w + at.x);
    }
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
inline __device__ unsigned long long largest_key(const FuseParams& p, const Block& block, const Sums& sum, unsigned long long known) {
  float most = 0.0f;
  bool any = false;
#pragma unroll
  for (int k = 0; k < kTiles * kAcross * kSums; ++k) {
    const int tile = k / (kAcross * kSums), right = k / kSums % kAcross, index = k % kSums;
    const PixelPlace at = pixel_place(block, tile, right, index);
    const float value = sum[tile][right][index];
    if (at.y >= p.image_h || at.x >= p.image_w || value != value) continue;
    most = any && most > value ? most : value;
    any = true;
  }
  if (!any || peak_key(most, 0) <= known) return 0;
  unsigned long long key = 0;
#pragma unroll
  for (int k = 0; k < kTiles * kAcross * kSums; ++k) {
    const int tile = k / (kAcross * kSums), right = k / kSums % kAcross, index = k % kSums;
    const PixelPlace at = pixel_place(block, tile, right, index);
    if (at.y >= p.image_h || at.x >= p.image_w || sum[tile][right][index] != most) continue;
    const unsigned long long mine = peak_key(most, (unsigned int)scan_rank(at.y, at.x, p.image_h, p.image_w, p.row_major));
    key = mine > key ? mine : key;
  }
  return key;
}

// One block per kTileColumns x kBlockRows pixels of a channel.
template <bool kPeaks, int kHeld>
__device__ __forceinline__ void fuse_body(const FuseParams& p, const Tables& t, unsigned long long* best) {
  __shared__ unsigned long long keys[kThreads];
  const unsigned int tiles_x = tiles_along(p.image_w), tiles_y = (unsigned int)blocks_of(p);
  const unsigned int tile_x = blockIdx.x % tiles_x, tile_y = blockIdx.x / tiles_x % tiles_y;
  const Block block = {(int)(blockIdx.x / tiles_x / tiles_y), (int)(tile_y * kBlockRows), (int)(tile_x * kTileColumns)};
  const float up = scale_up(p, reinterpret_cast<const unsigned int*>(t.base) + t.largest, block.channel), down = kWeightDown / up;
  Sums sum = {};
  sum_scales<kHeld>(p, t, block, up, sum);
#pragma unroll
  for (int k = 0; k < kTiles * kAcross * kSums; ++k) sum[k / (kAcross * kSums)][k / kSums % kAcross][k % kSums] *= down;
  if (p.background && block.channel == p.channels - 1) add_border(p, t, block, sum);
  if (!kPeaks) {
    write_pixels(p, block, sum);
    return;
  }
  const unsigned long long known = *static_cast<volatile unsigned long long*>(best + block.channel);
  keys[threadIdx.x] = largest_key(p, block, sum, known);
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if ((int)threadIdx.x < half && keys[threadIdx.x + half] > keys[threadIdx.x]) keys[threadIdx.x] = keys[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0 && keys[0] > known) atomicMax(best + block.channel, keys[0]);
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
  const unsigned int value = best[c] == 0 ? 0xff800000u : ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered;
  xy[2 * c] = (float)x + top_x;
  xy[2 * c + 1] = (float)y + top_y;
  score[c] = bits_float(value);
}

}  // namespace fuse_kernels
}  // namespace cpm
