// imresize: two passes, the axis with the smaller scale first.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <vector>

#include "../cpu/imresize.h"
#include "grain.h"
#include "tensor_checks.h"
#ifdef CPM_WITH_CUDA
#include "../cuda/imresize.h"
#include "cuda_stream.h"
#endif

namespace cpm {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

void check_imresize_args(const Tensor& image, int64_t height, int64_t width, double scale_y, double scale_x) {
  const ScalarType type = image.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Byte || type == ScalarType::Float || type == ScalarType::Double, "image must be uint8, float32 or float64");
  STD_TORCH_CHECK(image.is_contiguous() && (image.dim() == 2 || image.dim() == 3) && image.numel() > 0, "image must be a contiguous (H, W) or (H, W, C)");
  STD_TORCH_CHECK(fits_int(image.size(0)) && fits_int(image.size(1)) && fits_int(height) && fits_int(width) && height > 0 && width > 0, "sizes must be positive and fit");
  STD_TORCH_CHECK(scale_y > 0 && scale_x > 0, "scales must be positive");
}

// The pass over one axis, as parameters; `size` is the running (H, W, C) and changes with it.
ResizeParams next_pass(const Tensor& from, const Tensor& to, std::vector<int64_t>& size, int axis, int64_t wanted, double scale) {
  ResizeParams p{};
  p.from = from.const_data_ptr();
  p.to = to.mutable_data_ptr();
  p.outer = axis == 0 ? 1 : size[0];
  p.inner = axis == 0 ? size[1] * size[2] : size[2];
  p.axis.in = static_cast<int>(size[axis]);
  p.axis.out = static_cast<int>(wanted);
  p.axis.scale = scale;
  const ScalarType type = from.scalar_type();
  p.type = type == ScalarType::Byte ? kResizeByte : type == ScalarType::Float ? kResizeFloat : kResizeDouble;
  size[axis] = wanted;
  return p;
}

template <typename Pass>
Tensor two_passes(const Tensor& image, int64_t height, int64_t width, double scale_y, double scale_x, const Pass& pass) {
  check_imresize_args(image, height, width, scale_y, scale_x);
  std::vector<int64_t> size{image.size(0), image.size(1), image.dim() == 3 ? image.size(2) : 1};
  const double scales[2] = {scale_y, scale_x};
  const int64_t wanted[2] = {height, width};
  const int first = scale_y <= scale_x ? 0 : 1;
  Tensor from = image;
  for (int axis : {first, 1 - first}) {
    std::vector<int64_t> shape(size.begin(), size.begin() + image.dim());
    shape[axis] = wanted[axis];
    Tensor to = torch::stable::new_empty(image, shape);
    pass(next_pass(from, to, size, axis, wanted[axis], scales[axis]), image);
    from = to;
  }
  return from;
}

constexpr double kValuesPerThread = 1 << 16;  // read and written

Tensor imresize_cpu(const Tensor& image, int64_t height, int64_t width, double scale_y, double scale_x) {
  return two_passes(image, height, width, scale_y, scale_x, [](const ResizeParams& p, const Tensor&) {
    const ResizeTable table = make_resize_table(p.axis);
    const int64_t tasks = resize_tasks(p);
    const double values = 1.0 * p.outer * p.inner * (p.axis.in + p.axis.out);
    torch::stable::parallel_for(0, tasks, grain(tasks, values, kValuesPerThread), [&](int64_t first, int64_t last) { resize_axis_cpu(p, table, first, last); });
  });
}

#ifdef CPM_WITH_CUDA
Tensor imresize_cuda(const Tensor& image, int64_t height, int64_t width, double scale_y, double scale_x) {
  torch::stable::accelerator::DeviceGuard guard(image.get_device_index());
  return two_passes(image, height, width, scale_y, scale_x, [](const ResizeParams& p, const Tensor& on) {
    const char* error = launch_resize_axis(p, current_stream(on));
    STD_TORCH_CHECK(error == nullptr, "imresize launch: ", error);
  });
}
#endif

}  // namespace
}  // namespace cpm

STABLE_TORCH_LIBRARY_IMPL(cpm_repro, CPU, m) { m.impl("imresize", TORCH_BOX(&cpm::imresize_cpu)); }

#ifdef CPM_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(cpm_repro, CUDA, m) { m.impl("imresize", TORCH_BOX(&cpm::imresize_cuda)); }
#endif
