#include "belief_map_loss.h"
#include "launch.h"

#include "belief_map_loss_kernel.h"

namespace cpm {

using namespace loss_kernels;

namespace {

template <typename T>
__global__ void __launch_bounds__(kThreads, kBlocksAtLeast) loss_planes_kernel(LossParams p, int first_stage) {
  loss_planes_body<T>(p, first_stage);
}

__global__ void __launch_bounds__(kThreads, kBlocksAtLeast) loss_total_kernel(LossParams p, float* losses) { loss_total_body(p, losses); }

template <typename T>
__global__ void __launch_bounds__(kThreads, kBlocksAtLeast) loss_gradient_kernel(LossParams p) {
  loss_gradient_body<T>(p);
}

unsigned int blocks_for(long long wanted) { return (unsigned int)(wanted < (1ll << 30) ? wanted : (1ll << 30)); }

template <typename T>
const char* launch_planes(const LossParams& p, int first_stage, void* stream) {
  const long long planes = p.target.samples * (p.target.parts + 1);
  CPM_LAUNCH((loss_planes_kernel<T>), blocks_for(planes), kThreads, 0, stream, p, first_stage);
  return launch_error();
}

const char* launch_total(const LossParams& p, float* losses, void* stream) {
  CPM_LAUNCH((loss_total_kernel), (unsigned int)p.stages, kThreads, 0, stream, p, losses);
  return launch_error();
}

template <typename T>
const char* launch_gradient(const LossParams& p, void* stream) {
  const long long total = p.target.samples * (p.target.parts + 1) * p.target.h * p.target.w;
  if (total == 0) return nullptr;
  CPM_LAUNCH((loss_gradient_kernel<T>), blocks_for((total + kThreads - 1) / kThreads), kThreads, 0, stream, p);
  return launch_error();
}

}  // namespace

const char* launch_belief_map_loss(const LossParams& p, float* losses, void* stream) {
  const char* error = nullptr;
  const bool empty = p.target.samples == 0;
  for (int stage = 0; stage < p.stages && !empty && error == nullptr; stage += kStagesAtOnce) {
    error = p.target.type == kFloat32   ? launch_planes<float>(p, stage, stream)
            : p.target.type == kFloat16 ? launch_planes<Half>(p, stage, stream)
                                        : launch_planes<BFloat16>(p, stage, stream);
  }
  return error != nullptr ? error : launch_total(p, losses, stream);
}

const char* launch_belief_map_loss_backward(const LossParams& p, void* stream) {
  if (p.target.type == kFloat32) return launch_gradient<float>(p, stream);
  if (p.target.type == kFloat16) return launch_gradient<Half>(p, stream);
  return launch_gradient<BFloat16>(p, stream);
}

}  // namespace cpm
