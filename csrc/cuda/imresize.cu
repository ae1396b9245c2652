#include "imresize.h"
#include "launch.h"

#include "imresize_kernel.h"

namespace cpm {

using namespace resize_kernels;

namespace {

template <typename T>
__global__ void __launch_bounds__(kThreads, kBlocksAtLeast) resize_axis_kernel(ResizeParams p) {
  resize_axis_body<T>(p);
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
