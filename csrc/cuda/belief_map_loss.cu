// Forward: a block sums the squares of one plane of all stages, a second small launch adds the planes in one fixed
// order, so the result is the same in every run. Backward: one thread per cell writes all stages' gradients.
#include "belief_map_loss.h"
#include "launch.h"

namespace cpm {
namespace {

constexpr int kThreads = 256;
constexpr int kStagesAtOnce = 8;  // sums that a thread keeps in registers

// Sum over the block's threads, in a fixed order; valid in thread 0.
__device__ double block_sum(double value, double* shared) {
  shared[threadIdx.x] = value;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if ((int)threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
    __syncthreads();
  }
  const double total = shared[0];
  __syncthreads();
  return total;
}

template <typename T>
__global__ void __launch_bounds__(kThreads) loss_planes_kernel(LossParams p, int first_stage) {
  __shared__ double shared[kThreads];
  const BeliefParams& b = p.target;
  const long long cells = (long long)b.h * b.w, planes = b.samples * (b.parts + 1);
  for (long long plane = blockIdx.x; plane < planes; plane += gridDim.x) {
    const long long n = plane / (b.parts + 1);
    const int channel = (int)(plane % (b.parts + 1));
    float sums[kStagesAtOnce];
    for (int k = 0; k < kStagesAtOnce; ++k) sums[k] = 0.0f;
    for (long long cell = threadIdx.x; cell < cells; cell += kThreads) {
      float target[2];
      target_at(b, n, channel, cell_pixel((int)(cell % b.w), b.stride), cell_pixel((int)(cell / b.w), b.stride), target);
#pragma unroll
      for (int k = 0; k < kStagesAtOnce; ++k) {
        if (first_stage + k >= p.stages) break;
        const T* map = static_cast<const T*>(p.maps[first_stage + k]) + plane * cells;
        const float difference = load(map, cell) - (first_stage + k == 0 ? target[1] : target[0]);
        sums[k] += difference * difference;
      }
    }
#pragma unroll
    for (int k = 0; k < kStagesAtOnce; ++k) {
      if (first_stage + k >= p.stages) break;
      const double total = block_sum((double)sums[k], shared);
      if (threadIdx.x == 0) p.partial[(first_stage + k) * planes + plane] = total;
    }
  }
}

__global__ void __launch_bounds__(kThreads) loss_total_kernel(LossParams p, float* losses) {
  __shared__ double shared[kThreads];
  const long long planes = p.target.samples * (p.target.parts + 1);
  const int stage = (int)blockIdx.x;
  double sum = 0.0;
  for (long long plane = threadIdx.x; plane < planes; plane += kThreads) sum += p.partial[stage * planes + plane];
  const double total = block_sum(sum, shared);
  if (threadIdx.x == 0) losses[stage] = (float)(total * p.scale);
}

template <typename T>
__global__ void __launch_bounds__(kThreads) loss_gradient_kernel(LossParams p) {
  const BeliefParams& b = p.target;
  const long long cells = (long long)b.h * b.w, total = b.samples * (b.parts + 1) * cells;
  const long long step = (long long)gridDim.x * blockDim.x;
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < total; i += step) {
    const long long plane = i / cells, cell = i % cells;
    float target[2];
    target_at(b, plane / (b.parts + 1), (int)(plane % (b.parts + 1)), cell_pixel((int)(cell % b.w), b.stride),
              cell_pixel((int)(cell / b.w), b.stride), target);
    for (int stage = 0; stage < p.stages; ++stage) {
      const float value = load(static_cast<const T*>(p.maps[stage]), i);
      const float goal = stage_group(stage) ? target[1] : target[0];
      static_cast<T*>(p.grads[stage])[i] = convert(loss_gradient(value, goal, p.grad_losses[stage], p.scale), T());
    }
  }
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
