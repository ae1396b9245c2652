// The kernels of the fusion, without their launches: nvcc compiles them into the extension, NVRTC for CuPy.
//
// First launch: the banded matrices, one row per thread. Second: a block makes kRows x kColumns pixels of one channel;
// a thread owns kPerThread columns, resamples cell rows to them one by one, and adds each to all of its kRows pixels
// with the dense weights that the block keeps in shared memory. The full-size maps are written once, or, for peaks,
// never: then each block contributes its maximum with one atomic, whose result does not depend on the order.
#pragma once

#include "../math/fuse.h"

namespace cpm {
namespace fuse_kernels {

constexpr int kThreads = 128;
constexpr int kBlocksAtLeast = 4;  // per multiprocessor: up to 128 registers a thread; left alone, ptxas takes 72 and spills
constexpr int kPerThread = 2;
constexpr int kColumns = kThreads * kPerThread;
constexpr int kRows = 16;
constexpr int kCross = 5, kLanes = 32;  // a maximum with its neighbours; threads that share one of those pixels
constexpr int kCellRows = 16;  // cell rows whose weights are in shared memory at a time

// Where each table lies in the workspace. Weights are (image, taps) per scale, first cells are stored as int bits.
struct Tables {
  float* base;
  long long weights[2], cover[2], first[2];  // offsets of axis y, x
  int taps[2];                               // the widest over the scales; narrower rows are padded with zeros
};

__device__ __forceinline__ void tables_body(const FuseParams& p, const Tables& t) {
  __shared__ Phases phases;
  const int scale = (int)blockIdx.y, axis = (int)blockIdx.z;
  const ChainAxis chain = chain_axis(p, scale, axis);
  for (int phase = (int)threadIdx.x; phase < chain.stride; phase += kThreads) fill_phase(chain, phase, &phases);
  __syncthreads();
  for (long long i = (long long)blockIdx.x * kThreads + threadIdx.x; i < chain.image; i += (long long)gridDim.x * kThreads) {
    const long long row = (long long)scale * chain.image + i;
    float* weights = t.base + t.weights[axis] + row * t.taps[axis];
    int first;
    t.base[t.cover[axis] + row] = chain_row(chain, phases, (int)i, t.taps[axis], weights, &first);
    reinterpret_cast<int*>(t.base)[t.first[axis] + row] = first;
    if (axis == 0) {
      for (int k = 0; k < t.taps[axis]; ++k) weights[k] *= p.weight[scale];
    }
  }
}

// Cell rows under the block's image rows for one scale.
inline __device__ void cell_range(const FuseParams& p, const Tables& t, int scale, int y0, int* first, int* last) {
  const int* firsts = reinterpret_cast<const int*>(t.base) + t.first[0] + (long long)scale * p.image_h;
  *first = p.h;
  *last = 0;
  for (int r = 0; r < kRows && y0 + r < p.image_h; ++r) {
    const int a = firsts[y0 + r], b = a + t.taps[0] < p.h ? a + t.taps[0] : p.h;
    *first = a < *first ? a : *first;
    *last = b > *last ? b : *last;
  }
}

// Dense weights [cell row][image row] of rows first..first+kCellRows-1, zero where they do not touch.
inline __device__ void load_weights(const FuseParams& p, const Tables& t, int scale, int y0, int first, float* dense) {
  for (int k = (int)threadIdx.x; k < kCellRows * kRows; k += kThreads) {
    const int cell = first + k / kRows, y = y0 + k % kRows;
    const long long row = (long long)scale * p.image_h + y;
    float weight = 0.0f;
    if (y < p.image_h) {
      const int tap = cell - reinterpret_cast<const int*>(t.base)[t.first[0] + row];
      if (tap >= 0 && tap < t.taps[0]) weight = t.base[t.weights[0] + row * t.taps[0] + tap];
    }
    dense[k] = weight;
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

// Sums of the thread's pixels: sum[c][r] is image row y0 + r, column x0 + c * kThreads + thread.
inline __device__ void fuse_pixels(const FuseParams& p, const Tables& t, int channel, int y0, int x0, float* dense, float (*sum)[kRows]) {
  for (int scale = 0; scale < p.scales; ++scale) {
    const float* plane = p.maps + ((long long)scale * p.channels + channel) * p.h * p.w;
    int first, last;
    cell_range(p, t, scale, y0, &first, &last);
    for (int start = first; start < last; start += kCellRows) {
      load_weights(p, t, scale, y0, start, dense);
      __syncthreads();
      for (int cell = start; cell < last && cell < start + kCellRows; ++cell) {
        const float* weights = dense + (cell - start) * kRows;
#pragma unroll
        for (int c = 0; c < kPerThread; ++c) {
          const int x = x0 + c * kThreads + (int)threadIdx.x;
          if (x >= p.image_w) continue;
          const float value = resample(p, t, plane + (long long)cell * p.w, scale, x);
#pragma unroll
          for (int r = 0; r < kRows; ++r) sum[c][r] = multiply_add(weights[r], value, sum[c][r]);
        }
      }
      __syncthreads();
    }
  }
}

// The background's share where the network's input did not reach.
inline __device__ void add_border(const FuseParams& p, const Tables& t, int y0, int x0, float (*sum)[kRows]) {
#pragma unroll 1
  for (int scale = 0; scale < p.scales; ++scale) {
    const float* cover_y = t.base + t.cover[0] + (long long)scale * p.image_h;
    const float* cover_x = t.base + t.cover[1] + (long long)scale * p.image_w;
#pragma unroll
    for (int c = 0; c < kPerThread; ++c) {
      const int x = x0 + c * kThreads + (int)threadIdx.x;
      if (x >= p.image_w) continue;
      const float column = cover_x[x];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int y = y0 + r < p.image_h ? y0 + r : p.image_h - 1;
        sum[c][r] = multiply_add(p.weight[scale], uncovered(cover_y[y], column), sum[c][r]);
      }
    }
  }
}

// Larger values first, then earlier pixels: so that one unsigned maximum finds the first maximum.
inline __device__ unsigned long long peak_key(float value, unsigned int rank) {
  const unsigned int bits = float_bits(value);
  const unsigned int ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return (unsigned long long)ordered << 32 | (unsigned int)~rank;
}

template <bool kPeaks>
__device__ __forceinline__ void fuse_body(const FuseParams& p, const Tables& t, unsigned long long* best) {
  __shared__ float dense[kCellRows * kRows];
  __shared__ unsigned long long keys[kThreads];
  const long long tiles_x = (p.image_w - 1) / kColumns + 1, tiles_y = (p.image_h - 1) / kRows + 1;
  const long long tiles = tiles_x * tiles_y * p.channels;
  for (long long tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int channel = (int)(tile / (tiles_x * tiles_y));
    const int y0 = (int)(tile / tiles_x % tiles_y) * kRows, x0 = (int)(tile % tiles_x) * kColumns;
    float sum[kPerThread][kRows];
    for (int c = 0; c < kPerThread; ++c) {
      for (int r = 0; r < kRows; ++r) sum[c][r] = 0.0f;
    }
    fuse_pixels(p, t, channel, y0, x0, dense, sum);
    if (p.background && channel == p.channels - 1) add_border(p, t, y0, x0, sum);
    unsigned long long key = 0;
#pragma unroll
    for (int c = 0; c < kPerThread; ++c) {
      const int x = x0 + c * kThreads + (int)threadIdx.x;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int y = y0 + r;
        if (x >= p.image_w || y >= p.image_h) continue;
        const float value = sum[c][r];
        if (!kPeaks) {
          p.out[((long long)channel * p.image_h + y) * p.image_w + x] = value;
        } else if (value == value) {
          const unsigned int rank = (unsigned int)scan_rank(y, x, p.image_h, p.image_w, p.row_major);
          const unsigned long long mine = peak_key(value, rank);
          key = mine > key ? mine : key;
        }
      }
    }
    if (!kPeaks) continue;
    keys[threadIdx.x] = key;
    __syncthreads();
    for (int half = kThreads / 2; half > 0; half /= 2) {
      if ((int)threadIdx.x < half && keys[threadIdx.x + half] > keys[threadIdx.x]) keys[threadIdx.x] = keys[threadIdx.x + half];
      __syncthreads();
    }
    if (threadIdx.x == 0) atomicMax(best + channel, keys[0]);
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
