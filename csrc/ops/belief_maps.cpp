// belief_maps_out and center_map_out: from tensors to plain parameters. The Python front has named any mistake
// already; the checks here repeat only what keeps memory safe.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>

#include "../cpu/belief_maps.h"
#include "grain.h"
#include "tensor_checks.h"
#ifdef CPM_WITH_CUDA
#include "../cuda/belief_maps.h"
#include "cuda_stream.h"
#endif

namespace cpm {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

int belief_type(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float: return kFloat32;
    case ScalarType::Half: return kFloat16;
    case ScalarType::BFloat16: return kBFloat16;
    default: STD_TORCH_CHECK(false, "outputs must be float32, float16 or bfloat16");
  }
  return kFloat32;
}

void check_center_args(const Tensor& center, const Tensor& out, int64_t samples) {
  STD_TORCH_CHECK(is_plain(center, ScalarType::Float), "center must be contiguous float32");
  STD_TORCH_CHECK(center.dim() == 2 && center.size(0) == samples && center.size(1) == 2, "center must be (N, 2)");
  STD_TORCH_CHECK(out.is_contiguous() && out.dim() == 4 && out.size(0) == samples && out.size(1) == 1, "center_map must be (N, 1, H, W)");
  STD_TORCH_CHECK(fits_int(out.size(2)) && fits_int(out.size(3)), "center_map is too large");
  STD_TORCH_CHECK(same_device(center, out), "center and center_map must share a device");
}

void check_label_args(const Tensor& joints, const Tensor& visible, const Tensor& label) {
  STD_TORCH_CHECK(is_plain(joints, ScalarType::Float), "joints must be contiguous float32");
  STD_TORCH_CHECK(is_plain(visible, ScalarType::Int), "visible must be contiguous int32");
  STD_TORCH_CHECK(joints.dim() == 4 && joints.size(3) == 2 && joints.size(1) >= 1, "joints must be (N, P, K, 2)");
  STD_TORCH_CHECK(visible.dim() == 3 && visible.numel() * 2 == joints.numel(), "visible must be (N, P, K)");
  for (int i = 0; i < 3; ++i) STD_TORCH_CHECK(visible.size(i) == joints.size(i), "visible must be (N, P, K)");
  STD_TORCH_CHECK(label.is_contiguous() && label.dim() == 4, "label must be a contiguous (N, 2(K+1), h, w)");
  STD_TORCH_CHECK(label.size(0) == joints.size(0) && label.size(1) == 2 * (joints.size(2) + 1), "label must be (N, 2(K+1), h, w)");
  for (int i = 1; i < 4; ++i) STD_TORCH_CHECK(fits_int(label.size(i)) && fits_int(joints.size(i)), "too large");
  STD_TORCH_CHECK(same_device(visible, joints) && same_device(label, joints), "joints, visible and label must share a device");
}

void fill_center(BeliefParams& p, const Tensor& center, double sigma, bool cutoff, const Tensor& out) {
  check_center_args(center, out, center.size(0));
  p.center = static_cast<const float*>(center.const_data_ptr());
  p.center_map = out.mutable_data_ptr();
  p.samples = center.size(0);
  p.center_h = static_cast<int>(out.size(2));
  p.center_w = static_cast<int>(out.size(3));
  p.center_sigma = sigma;
  p.center_cutoff = cutoff;
  p.type = belief_type(out);
}

BeliefParams label_params(const Tensor& joints, const Tensor& visible, const std::optional<Tensor>& center, double stride,
                          double sigma, double center_sigma, const Tensor& label, const std::optional<Tensor>& center_map) {
  check_label_args(joints, visible, label);
  STD_TORCH_CHECK(stride > 0 && sigma > 0 && center_sigma > 0, "stride and sigmas must be positive");
  BeliefParams p{};
  STD_TORCH_CHECK(center.has_value() == center_map.has_value(), "center and center_map come together");
  if (center.has_value()) {
    fill_center(p, *center, center_sigma, true, *center_map);
    STD_TORCH_CHECK(p.samples == joints.size(0) && p.type == belief_type(label), "center_map must match label");
    STD_TORCH_CHECK(same_device(*center, joints), "center and joints must share a device");
  }
  p.joints = static_cast<const float*>(joints.const_data_ptr());
  p.visible = static_cast<const int*>(visible.const_data_ptr());
  p.label = label.mutable_data_ptr();
  p.samples = joints.size(0);
  p.people = static_cast<int>(joints.size(1));
  p.parts = static_cast<int>(joints.size(2));
  p.h = static_cast<int>(label.size(2));
  p.w = static_cast<int>(label.size(3));
  p.stride = static_cast<float>(stride);
  p.sigma = sigma;
  p.type = belief_type(label);
  return p;
}

constexpr double kBytesPerThread = 256 << 10;  // 10 us; twice what torch's own operations give a thread of such outputs

void run_cpu(const BeliefParams& p) {
  const int64_t tasks = p.samples * belief_tasks_per_sample(p);
  if (tasks == 0) return;
  const double label = p.label ? 2.0 * (p.parts + 1) * p.h * p.w : 0.0, center = p.center_map ? 1.0 * p.center_h * p.center_w : 0.0;
  const double bytes = p.samples * (label + center) * (p.type == kFloat32 ? 4 : 2);
  torch::stable::parallel_for(0, tasks, grain(tasks, bytes, kBytesPerThread), [&](int64_t first, int64_t last) { belief_maps_cpu(p, first, last); });
}

BeliefParams center_params(const Tensor& center, double sigma, bool cutoff, const Tensor& out) {
  STD_TORCH_CHECK(sigma > 0, "sigma must be positive");
  BeliefParams p{};
  fill_center(p, center, sigma, cutoff, out);
  return p;
}

void belief_maps_out_cpu(const Tensor& joints, const Tensor& visible, std::optional<Tensor> center, double stride, double sigma,
                         double center_sigma, Tensor label, std::optional<Tensor> center_map) {
  run_cpu(label_params(joints, visible, center, stride, sigma, center_sigma, label, center_map));
}

void center_map_out_cpu(const Tensor& center, double sigma, bool cutoff, Tensor out) {
  run_cpu(center_params(center, sigma, cutoff, out));
}

#ifdef CPM_WITH_CUDA
void run_cuda(const BeliefParams& p, const Tensor& on) {
  torch::stable::accelerator::DeviceGuard guard(on.get_device_index());
  const char* error = launch_belief_maps(p, current_stream(on));
  STD_TORCH_CHECK(error == nullptr, "belief_maps launch: ", error);
}

void belief_maps_out_cuda(const Tensor& joints, const Tensor& visible, std::optional<Tensor> center, double stride, double sigma,
                          double center_sigma, Tensor label, std::optional<Tensor> center_map) {
  run_cuda(label_params(joints, visible, center, stride, sigma, center_sigma, label, center_map), label);
}

void center_map_out_cuda(const Tensor& center, double sigma, bool cutoff, Tensor out) {
  run_cuda(center_params(center, sigma, cutoff, out), out);
}
#endif

}  // namespace
}  // namespace cpm

STABLE_TORCH_LIBRARY_IMPL(cpm_repro, CPU, m) {
  m.impl("belief_maps_out", TORCH_BOX(&cpm::belief_maps_out_cpu));
  m.impl("center_map_out", TORCH_BOX(&cpm::center_map_out_cpu));
}

#ifdef CPM_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(cpm_repro, CUDA, m) {
  m.impl("belief_maps_out", TORCH_BOX(&cpm::belief_maps_out_cuda));
  m.impl("center_map_out", TORCH_BOX(&cpm::center_map_out_cuda));
}
#endif
