// belief_map_loss and its gradient: from tensors to plain parameters.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <vector>

#include "../cpu/belief_map_loss.h"
#include "grain.h"
#include "tensor_checks.h"
#ifdef CPM_WITH_CUDA
#include "../cuda/belief_map_loss.h"
#include "cuda_stream.h"
#endif

namespace cpm {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

void check_loss_args(const std::vector<Tensor>& maps, const Tensor& joints, const Tensor& visible) {
  STD_TORCH_CHECK(!maps.empty() && maps.size() <= kMaxStages, "maps must hold 1 to ", kMaxStages, " stages");
  STD_TORCH_CHECK(is_plain(joints, ScalarType::Float) && joints.dim() == 4 && joints.size(3) == 2 && joints.size(1) >= 1, "joints must be contiguous float32 (N, P, K, 2)");
  STD_TORCH_CHECK(is_plain(visible, ScalarType::Int) && visible.dim() == 3 && same_device(visible, joints), "visible must be contiguous int32 (N, P, K)");
  for (int i = 0; i < 3; ++i) STD_TORCH_CHECK(visible.size(i) == joints.size(i) && fits_int(joints.size(i)), "visible must fit joints");
  const ScalarType type = maps[0].scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Half || type == ScalarType::BFloat16, "maps must be float32, float16 or bfloat16");
  for (const Tensor& map : maps) {
    STD_TORCH_CHECK(is_plain(map, type) && same_shape(map, maps[0]) && same_device(map, joints), "maps must be contiguous and alike");
  }
  const Tensor& map = maps[0];
  STD_TORCH_CHECK(map.dim() == 4 && map.size(0) == joints.size(0) && map.size(1) == joints.size(2) + 1, "maps must be (N, K+1, h, w)");
  STD_TORCH_CHECK(fits_int(map.size(1)) && fits_int(map.size(2)) && fits_int(map.size(3)), "maps are too large");
}

LossParams loss_params(const std::vector<Tensor>& maps, const Tensor& joints, const Tensor& visible, double stride, double sigma, double scale) {
  check_loss_args(maps, joints, visible);
  STD_TORCH_CHECK(stride > 0 && sigma > 0, "stride and sigma must be positive");
  LossParams p{};
  p.target.joints = static_cast<const float*>(joints.const_data_ptr());
  p.target.visible = static_cast<const int*>(visible.const_data_ptr());
  p.target.samples = joints.size(0);
  p.target.people = static_cast<int>(joints.size(1));
  p.target.parts = static_cast<int>(joints.size(2));
  p.target.h = static_cast<int>(maps[0].size(2));
  p.target.w = static_cast<int>(maps[0].size(3));
  p.target.stride = static_cast<float>(stride);
  p.target.sigma = sigma;
  const ScalarType type = maps[0].scalar_type();
  p.target.type = type == ScalarType::Float ? kFloat32 : type == ScalarType::Half ? kFloat16 : kBFloat16;
  p.stages = static_cast<int>(maps.size());
  p.scale = scale;
  for (size_t i = 0; i < maps.size(); ++i) p.maps[i] = maps[i].const_data_ptr();
  return p;
}

std::vector<Tensor> gradients_like(const std::vector<Tensor>& maps, LossParams& p) {
  std::vector<Tensor> grads;
  for (const Tensor& map : maps) {
    grads.push_back(torch::stable::empty_like(map));
    p.grads[grads.size() - 1] = grads.back().mutable_data_ptr();
  }
  return grads;
}

void check_upstream(const Tensor& grad_losses, const std::vector<Tensor>& maps) {
  STD_TORCH_CHECK(is_plain(grad_losses, ScalarType::Float) && grad_losses.numel() == static_cast<int64_t>(maps.size()) && same_device(grad_losses, maps[0]), "grad_losses must be contiguous float32 (stages,)");
}

constexpr double kValuesPerThread = 1e5;  // of the stages' maps

int64_t planes_per_thread(const LossParams& p, int64_t planes) {
  return grain(planes, 1.0 * planes * p.stages * p.target.h * p.target.w, kValuesPerThread);
}

Tensor belief_map_loss_cpu_op(std::vector<Tensor> maps, const Tensor& joints, const Tensor& visible, double stride, double sigma, double scale) {
  LossParams p = loss_params(maps, joints, visible, stride, sigma, scale);
  Tensor losses = torch::stable::new_empty(joints, {p.stages}, ScalarType::Float);
  const int64_t planes = p.target.samples * (p.target.parts + 1);
  std::vector<double> partial(static_cast<size_t>(p.stages * planes));
  p.partial = partial.data();
  if (planes > 0) {
    torch::stable::parallel_for(0, planes, planes_per_thread(p, planes), [&](int64_t first, int64_t last) { belief_map_loss_cpu(p, first, last); });
  }
  float* out = static_cast<float*>(losses.mutable_data_ptr());
  for (int stage = 0; stage < p.stages; ++stage) {
    double total = 0.0;  // one order, whatever the number of threads
    for (int64_t plane = 0; plane < planes; ++plane) total += partial[stage * planes + plane];
    out[stage] = static_cast<float>(total * scale);
  }
  return losses;
}

std::vector<Tensor> belief_map_loss_backward_cpu_op(const Tensor& grad_losses, std::vector<Tensor> maps, const Tensor& joints, const Tensor& visible, double stride, double sigma, double scale) {
  LossParams p = loss_params(maps, joints, visible, stride, sigma, scale);
  check_upstream(grad_losses, maps);
  p.grad_losses = static_cast<const float*>(grad_losses.const_data_ptr());
  std::vector<Tensor> grads = gradients_like(maps, p);
  const int64_t planes = p.target.samples * (p.target.parts + 1);
  if (planes > 0) {
    torch::stable::parallel_for(0, planes, planes_per_thread(p, planes), [&](int64_t first, int64_t last) { belief_map_loss_backward_cpu(p, first, last); });
  }
  return grads;
}

#ifdef CPM_WITH_CUDA
Tensor belief_map_loss_cuda_op(std::vector<Tensor> maps, const Tensor& joints, const Tensor& visible, double stride, double sigma, double scale) {
  LossParams p = loss_params(maps, joints, visible, stride, sigma, scale);
  torch::stable::accelerator::DeviceGuard guard(joints.get_device_index());
  Tensor losses = torch::stable::new_empty(joints, {p.stages}, ScalarType::Float);
  Tensor partial = torch::stable::new_empty(joints, {p.stages, p.target.samples * (p.target.parts + 1)}, ScalarType::Double);
  p.partial = static_cast<double*>(partial.mutable_data_ptr());
  const char* error = launch_belief_map_loss(p, static_cast<float*>(losses.mutable_data_ptr()), current_stream(joints));
  STD_TORCH_CHECK(error == nullptr, "belief_map_loss launch: ", error);
  return losses;
}

std::vector<Tensor> belief_map_loss_backward_cuda_op(const Tensor& grad_losses, std::vector<Tensor> maps, const Tensor& joints, const Tensor& visible, double stride, double sigma, double scale) {
  LossParams p = loss_params(maps, joints, visible, stride, sigma, scale);
  check_upstream(grad_losses, maps);
  torch::stable::accelerator::DeviceGuard guard(joints.get_device_index());
  p.grad_losses = static_cast<const float*>(grad_losses.const_data_ptr());
  std::vector<Tensor> grads = gradients_like(maps, p);
  const char* error = launch_belief_map_loss_backward(p, current_stream(joints));
  STD_TORCH_CHECK(error == nullptr, "belief_map_loss_backward launch: ", error);
  return grads;
}
#endif

}  // namespace
}  // namespace cpm

STABLE_TORCH_LIBRARY_IMPL(cpm_repro, CPU, m) {
  m.impl("belief_map_loss", TORCH_BOX(&cpm::belief_map_loss_cpu_op));
  m.impl("belief_map_loss_backward", TORCH_BOX(&cpm::belief_map_loss_backward_cpu_op));
}

#ifdef CPM_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(cpm_repro, CUDA, m) {
  m.impl("belief_map_loss", TORCH_BOX(&cpm::belief_map_loss_cuda_op));
  m.impl("belief_map_loss_backward", TORCH_BOX(&cpm::belief_map_loss_backward_cuda_op));
}
#endif
