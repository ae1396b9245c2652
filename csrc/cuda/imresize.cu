// One thread per output value; neighbouring threads share their weights' inputs through the cache.
#include "imresize.h"
#include "launch.h"

namespace cpm {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocksAtLeast = 2;  // per multiprocessor: up to 128 registers a thread; left alone, ptxas takes 64 and spills

template <typename T>
__global__ void __launch_bounds__(kThreads, kBlocksAtLeast) resize_axis_kernel(ResizeParams p) {
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

template <typename T>
const char* launch(const ResizeParams& p, void* stream) {
  const long long total = p.outer * p.axis.out * p.inner;
  if (total == 0) return nullptr;
  const long long blocks = (total + kThreads - 1) / kThreads;
  const unsigned int grid = (unsigned int)(blocks < (1ll << 30) ? blocks : (1ll << 30));
  CPM_LAUNCH((resize_axis_kernel<T>), grid, kThreads, 0, stream, p);
  return launch_error();
}

}  // namespace

const char* launch_resize_axis(const ResizeParams& p, void* stream) {
  if (p.type == kResizeByte) return launch<unsigned char>(p, stream);
  if (p.type == kResizeFloat) return launch<float>(p, stream);
  return launch<double>(p, stream);
}

}  // namespace cpm
