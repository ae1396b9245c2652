// First launch: the banded matrices, one row per thread. Second: a block makes kRows x kColumns pixels of one channel;
// a thread owns kPerThread columns, resamples cell rows to them one by one, and adds each to all of its kRows pixels
// with the dense weights that the block keeps in shared memory. The full-size maps are written once, or, for peaks,
// never: then each block contributes its maximum with one atomic, whose result does not depend on the order.
#include "fuse_multiscale.h"
#include "launch.h"

namespace cpm {
namespace {

constexpr int kThreads = 128;
constexpr int kBlocksAtLeast = 4;  // per multiprocessor: up to 128 registers a thread; left alone, ptxas takes 72 and spills
constexpr int kPerThread = 2;
constexpr int kColumns = kThreads * kPerThread;
constexpr int kRows = 16;
constexpr int kCellRows = 16;  // cell rows whose weights are in shared memory at a time

// Where each table lies in the workspace. Weights are (image, taps) per scale, first cells are stored as int bits.
struct Tables {
  float* base;
  long long weights[2], cover[2], first[2];  // offsets of axis y, x
  int taps[2];                               // the widest over the scales; narrower rows are padded with zeros
};

Tables lay_out(const FuseParams& p, float* base, long long* total) {
  Tables t;
  t.base = base;
  long long used = 0;
  for (int axis = 0; axis < 2; ++axis) {
    const long long rows = (long long)p.scales * (axis == 0 ? p.image_h : p.image_w);
    t.taps[axis] = 1;
    for (int s = 0; s < p.scales; ++s) {
      const int taps = chain_taps(chain_axis(p, s, axis));
      t.taps[axis] = taps > t.taps[axis] ? taps : t.taps[axis];
    }
    t.weights[axis] = used;
    t.cover[axis] = used + rows * t.taps[axis];
    t.first[axis] = t.cover[axis] + rows;
    used = t.first[axis] + rows;
  }
  *total = used;
  return t;
}

__global__ void __launch_bounds__(kThreads, kBlocksAtLeast) tables_kernel(FuseParams p, Tables t) {
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
__device__ void cell_range(const FuseParams& p, const Tables& t, int scale, int y0, int* first, int* last) {
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
__device__ void load_weights(const FuseParams& p, const Tables& t, int scale, int y0, int first, float* dense) {
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
__device__ float resample(const FuseParams& p, const Tables& t, const float* cells, int scale, int x) {
  const long long row = (long long)scale * p.image_w + x;
  const float* weights = t.base + t.weights[1] + row * t.taps[1];
  const int first = reinterpret_cast<const int*>(t.base)[t.first[1] + row];
  float sum = 0.0f;
  for (int k = 0; k < t.taps[1] && first + k < p.w; ++k) sum = multiply_add(weights[k], cells[first + k], sum);
  return sum;
}

// Sums of the thread's pixels: sum[c][r] is image row y0 + r, column x0 + c * kThreads + thread.
__device__ void fuse_pixels(const FuseParams& p, const Tables& t, int channel, int y0, int x0, float* dense, float (*sum)[kRows]) {
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
__device__ void add_border(const FuseParams& p, const Tables& t, int y0, int x0, float (*sum)[kRows]) {
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
__device__ unsigned long long peak_key(float value, unsigned int rank) {
  const unsigned int bits = float_bits(value);
  const unsigned int ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return (unsigned long long)ordered << 32 | (unsigned int)~rank;
}

template <bool kPeaks>
__global__ void __launch_bounds__(kThreads, kBlocksAtLeast) fuse_kernel(FuseParams p, Tables t, unsigned long long* best) {
  __shared__ float dense[kCellRows * kRows];
  __shared__ unsigned long long keys[kThreads];
  const long long tiles_x = (p.image_w + kColumns - 1) / kColumns, tiles_y = (p.image_h + kRows - 1) / kRows;
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

__global__ void clear_kernel(unsigned long long* best, int channels) {
  for (int c = (int)threadIdx.x; c < channels; c += (int)blockDim.x) best[c] = 0;
}

__global__ void unpack_kernel(FuseParams p, const unsigned long long* best, float* xy, float* score) {
  for (int c = (int)threadIdx.x; c < p.channels; c += (int)blockDim.x) {
    const unsigned int ordered = (unsigned int)(best[c] >> 32), rank = ~(unsigned int)best[c];
    union {
      unsigned int u;
      float f;
    } pun;
    pun.u = best[c] == 0 ? 0xff800000u : ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered;
    const unsigned int place = best[c] == 0 ? 0 : rank;  // nothing but NaN: pixel 0, minus infinity
    const unsigned int y = p.row_major ? place / (unsigned int)p.image_w : place % (unsigned int)p.image_h;
    const unsigned int x = p.row_major ? place % (unsigned int)p.image_w : place / (unsigned int)p.image_h;
    xy[2 * c] = (float)x;
    xy[2 * c + 1] = (float)y;
    score[c] = pun.f;
  }
}

const char* launch_tables(const FuseParams& p, const Tables& t, void* stream) {
  const int longest = p.image_h > p.image_w ? p.image_h : p.image_w;
  const unsigned int blocks = (unsigned int)((longest - 1) / kThreads + 1);
  CPM_LAUNCH(tables_kernel, dim3(blocks, (unsigned int)p.scales, 2), kThreads, 0, stream, p, t);
  return launch_error();
}

template <bool kPeaks>
const char* launch_fuse(const FuseParams& p, const Tables& t, unsigned long long* best, void* stream) {
  const long long tiles_x = (p.image_w - 1) / kColumns + 1, tiles_y = (p.image_h - 1) / kRows + 1;
  const long long tiles = tiles_x * tiles_y * p.channels;
  CPM_LAUNCH((fuse_kernel<kPeaks>), (unsigned int)(tiles < (1ll << 30) ? tiles : (1ll << 30)), kThreads, 0, stream, p, t, best);
  return launch_error();
}

const char* launch_clear(unsigned long long* best, int channels, void* stream) {
  CPM_LAUNCH(clear_kernel, 1, kThreads, 0, stream, best, channels);
  return launch_error();
}

const char* launch_unpack(const FuseParams& p, const unsigned long long* best, float* xy, float* score, void* stream) {
  CPM_LAUNCH(unpack_kernel, 1, kThreads, 0, stream, p, best, xy, score);
  return launch_error();
}

}  // namespace

long long fuse_workspace_floats(const FuseParams& p) {
  long long total;
  lay_out(p, nullptr, &total);
  return total;
}

const char* launch_fuse_multiscale(const FuseParams& p, float* workspace, void* stream) {
  long long total;
  const Tables t = lay_out(p, workspace, &total);
  const char* error = launch_tables(p, t, stream);
  return error != nullptr ? error : launch_fuse<false>(p, t, nullptr, stream);
}

const char* launch_fuse_multiscale_peaks(const FuseParams& p, float* workspace, unsigned long long* best, float* xy, float* score,
                                         void* stream) {
  long long total;
  const Tables t = lay_out(p, workspace, &total);
  const char* error = launch_clear(best, p.channels, stream);
  if (error == nullptr) error = launch_tables(p, t, stream);
  if (error == nullptr) error = launch_fuse<true>(p, t, best, stream);
  return error != nullptr ? error : launch_unpack(p, best, xy, score, stream);
}

}  // namespace cpm
