// fuse_multiscale and fuse_multiscale_peaks: from tensors to plain parameters.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <tuple>
#include <vector>

#include "../cpu/fuse_multiscale.h"
#include "tensor_checks.h"
#ifdef CPM_WITH_CUDA
#include "../cuda/fuse_multiscale.h"
#include "cuda_stream.h"
#endif

namespace cpm {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

void check_fuse_args(const Tensor& maps, const std::vector<int64_t>& geometry, const std::vector<double>& weights, int64_t stride, int64_t height, int64_t width) {
  STD_TORCH_CHECK(is_plain(maps, ScalarType::Float) && maps.dim() == 4 && maps.numel() > 0, "maps must be a contiguous, non-empty float32 (S, C, h, w)");
  const size_t scales = static_cast<size_t>(maps.size(0));
  STD_TORCH_CHECK(scales <= kMaxScales && weights.size() == scales && geometry.size() == 4 * scales, "geometry and weights must fit the scales");
  STD_TORCH_CHECK(stride >= 1 && stride <= kMaxStride, "stride must be 1 to ", kMaxStride);
  STD_TORCH_CHECK(fits_int(maps.size(1)) && fits_int(maps.size(2) * stride) && fits_int(maps.size(3) * stride), "maps are too large");
  STD_TORCH_CHECK(fits_int(height) && fits_int(width) && height > 0 && width > 0, "the image must be positive and fit");
  for (int64_t value : geometry) STD_TORCH_CHECK(fits_int(value < 0 ? -value : value), "pads and sizes are too large");
  for (size_t s = 0; s < scales; ++s) STD_TORCH_CHECK(geometry[4 * s + 2] > 0 && geometry[4 * s + 3] > 0, "sizes must be positive");
}

// geometry: per scale up, left, height, width.
FuseParams fuse_params(const Tensor& maps, const std::vector<int64_t>& geometry, const std::vector<double>& weights, int64_t stride, bool background, bool opencv, int64_t height, int64_t width) {
  check_fuse_args(maps, geometry, weights, stride, height, width);
  FuseParams p{};
  p.maps = static_cast<const float*>(maps.const_data_ptr());
  p.scales = static_cast<int>(maps.size(0));
  p.channels = static_cast<int>(maps.size(1));
  p.h = static_cast<int>(maps.size(2));
  p.w = static_cast<int>(maps.size(3));
  p.image_h = static_cast<int>(height);
  p.image_w = static_cast<int>(width);
  p.stride = static_cast<int>(stride);
  p.background = background;
  p.opencv = opencv;
  for (int s = 0; s < p.scales; ++s) {
    p.pad_y[s] = static_cast<int>(geometry[4 * s]);
    p.pad_x[s] = static_cast<int>(geometry[4 * s + 1]);
    p.scaled_h[s] = static_cast<int>(geometry[4 * s + 2]);
    p.scaled_w[s] = static_cast<int>(geometry[4 * s + 3]);
    p.weight[s] = static_cast<float>(weights[s]);
  }
  return p;
}

FuseTables tables_in_parallel(const FuseParams& p) {
  FuseTables tables = make_fuse_tables(p);
  torch::stable::parallel_for(0, 2 * p.scales, 1, [&](int64_t first, int64_t last) {
    for (int64_t number = first; number < last; ++number) fill_fuse_table(p, tables, static_cast<int>(number));
  });
  return tables;
}

void check_fuse_out(const Tensor& out, const Tensor& maps) {
  STD_TORCH_CHECK(is_plain(out, ScalarType::Float) && out.dim() == 3 && out.size(0) == maps.size(1) && same_device(out, maps), "out must be a contiguous float32 (C, H, W)");
}

void fuse_multiscale_cpu_op(const Tensor& maps, std::vector<int64_t> geometry, std::vector<double> weights, int64_t stride, bool background, bool opencv, Tensor out) {
  check_fuse_out(out, maps);
  FuseParams p = fuse_params(maps, geometry, weights, stride, background, opencv, out.size(1), out.size(2));
  p.out = static_cast<float*>(out.mutable_data_ptr());
  const FuseTables tables = tables_in_parallel(p);
  torch::stable::parallel_for(0, fuse_tiles(p), 1, [&](int64_t first, int64_t last) { fuse_multiscale_cpu(p, tables, first, last); });
}

std::tuple<Tensor, Tensor> fuse_multiscale_peaks_cpu_op(const Tensor& maps, std::vector<int64_t> geometry, std::vector<double> weights, int64_t stride, bool background, bool opencv, int64_t height, int64_t width, bool row_major) {
  FuseParams p = fuse_params(maps, geometry, weights, stride, background, opencv, height, width);
  p.row_major = row_major;
  const FuseTables tables = tables_in_parallel(p);
  std::vector<Peak> peaks(static_cast<size_t>(kPeakPieces) * p.channels);
  torch::stable::parallel_for(0, static_cast<int64_t>(peaks.size()), 1, [&](int64_t first, int64_t last) {
    fuse_multiscale_peaks_cpu(p, tables, first, last, peaks.data());
  });
  for (size_t task = p.channels; task < peaks.size(); ++task) peaks[task % p.channels] = better_peak(peaks[task % p.channels], peaks[task]);
  Tensor xy = torch::stable::new_empty(maps, {p.channels, 2});
  Tensor score = torch::stable::new_empty(maps, {p.channels});
  for (int c = 0; c < p.channels; ++c) {
    static_cast<float*>(xy.mutable_data_ptr())[2 * c] = static_cast<float>(peaks[c].x);
    static_cast<float*>(xy.mutable_data_ptr())[2 * c + 1] = static_cast<float>(peaks[c].y);
    static_cast<float*>(score.mutable_data_ptr())[c] = peaks[c].value;
  }
  return {xy, score};
}

#ifdef CPM_WITH_CUDA
void fuse_multiscale_cuda_op(const Tensor& maps, std::vector<int64_t> geometry, std::vector<double> weights, int64_t stride, bool background, bool opencv, Tensor out) {
  check_fuse_out(out, maps);
  FuseParams p = fuse_params(maps, geometry, weights, stride, background, opencv, out.size(1), out.size(2));
  torch::stable::accelerator::DeviceGuard guard(maps.get_device_index());
  Tensor workspace = torch::stable::new_empty(maps, {fuse_workspace_floats(p)});
  p.out = static_cast<float*>(out.mutable_data_ptr());
  const char* error = launch_fuse_multiscale(p, static_cast<float*>(workspace.mutable_data_ptr()), current_stream(maps));
  STD_TORCH_CHECK(error == nullptr, "fuse_multiscale launch: ", error);
}

std::tuple<Tensor, Tensor> fuse_multiscale_peaks_cuda_op(const Tensor& maps, std::vector<int64_t> geometry, std::vector<double> weights, int64_t stride, bool background, bool opencv, int64_t height, int64_t width, bool row_major) {
  FuseParams p = fuse_params(maps, geometry, weights, stride, background, opencv, height, width);
  STD_TORCH_CHECK(height * width < (1ll << 32), "the image must have fewer than 2^32 pixels");
  p.row_major = row_major;
  torch::stable::accelerator::DeviceGuard guard(maps.get_device_index());
  Tensor xy = torch::stable::new_empty(maps, {p.channels, 2});
  Tensor score = torch::stable::new_empty(maps, {p.channels});
  Tensor best = torch::stable::new_empty(maps, {p.channels}, ScalarType::Long);
  Tensor workspace = torch::stable::new_empty(maps, {fuse_workspace_floats(p)});
  const char* error = launch_fuse_multiscale_peaks(
      p, static_cast<float*>(workspace.mutable_data_ptr()), static_cast<unsigned long long*>(best.mutable_data_ptr()),
      static_cast<float*>(xy.mutable_data_ptr()), static_cast<float*>(score.mutable_data_ptr()), current_stream(maps));
  STD_TORCH_CHECK(error == nullptr, "fuse_multiscale_peaks launch: ", error);
  return {xy, score};
}
#endif

}  // namespace
}  // namespace cpm

STABLE_TORCH_LIBRARY_IMPL(cpm_repro, CPU, m) {
  m.impl("fuse_multiscale_out", TORCH_BOX(&cpm::fuse_multiscale_cpu_op));
  m.impl("fuse_multiscale_peaks", TORCH_BOX(&cpm::fuse_multiscale_peaks_cpu_op));
}

#ifdef CPM_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(cpm_repro, CUDA, m) {
  m.impl("fuse_multiscale_out", TORCH_BOX(&cpm::fuse_multiscale_cuda_op));
  m.impl("fuse_multiscale_peaks", TORCH_BOX(&cpm::fuse_multiscale_peaks_cuda_op));
}
#endif
