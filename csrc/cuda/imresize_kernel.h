// The kernel of imresize, without its launch: nvcc compiles it into the extension, NVRTC for CuPy.
//
// One thread per output value; neighbouring threads share their weights' inputs through the cache.
#pragma once

#include "../math/resize.h"

namespace cpm {
namespace resize_kernels {

constexpr int kThreads = 256;
constexpr int kBlocksAtLeast = 2;  // per multiprocessor: up to 128 registers a thread; left alone, ptxas takes 64 and spills

template <typename T>
__device__ __forceinline__ void resize_axis_body(const ResizeParams& p) {
  const long long total = p.outer * p.axis.out * p.inner;
  const long long step = (long long)gridDim.x * blockDim.x;
  const int taps = resize_taps(p.axis);
  for (long long k = (long long)blockIdx.x * blockDim.x + threadIdx.x; k < total; k += step) {
    const long long row = k / p.inner, j = k % p.inner;
    const int i = (int)(row % p.axis.out);
    const T* column = static_cast<const T*>(p.from) + row / p.axis.out * p.axis.in * p.inner + j;
    const double start = resize_first(p.axis, i);
    double sum = 0.0, total_weight = 0.0;
    for (int t = 0; t < taps; ++t) total_weight += resize_weight(p.axis, i, start + t);
    for (int t = 0; t < taps; ++t) {
      // Normalised before it is multiplied, as on the CPU: uint8 rounding must see the same sum.
      const double weight = resize_weight(p.axis, i, start + t) / total_weight;
      if (weight != 0.0) sum += weight * (double)column[mirror_index(start + t, p.axis.in) * p.inner];
    }
    store_resized(sum, static_cast<T*>(p.to) + k);
  }
}

}  // namespace resize_kernels
}  // namespace cpm
