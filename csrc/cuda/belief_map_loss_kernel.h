// The kernels of the stage losses, without their launches: nvcc compiles them into the extension, NVRTC for CuPy.
//
// Forward: a block sums the squares of one plane of all stages, a second small launch adds the planes in one fixed
// order, so the result is the same in every run. Backward: one thread per cell writes all stages' gradients.
#pragma once

#include "../math/loss.h"

namespace cpm {
namespace loss_kernels {

constexpr int kThreads = 256, kBlocksAtLeast = 3;  // left alone, ptxas takes few registers and spills
constexpr int kStagesAtOnce = 8;  // sums that a thread keeps in registers
constexpr long long kCellsAtOnce = 256ll * kThreads;  // then into double precision: longer float32 sums lose small squares

// Sum over the block's threads, in a fixed order; valid in thread 0.
inline __device__ double block_sum(double value, double* shared) {
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
__device__ __forceinline__ void loss_planes_body(const LossParams& p, int first_stage) {
  __shared__ double shared[kThreads];
  const BeliefParams& b = p.target;
  const long long cells = (long long)b.h * b.w, planes = b.samples * (b.parts + 1);
  for (long long plane = blockIdx.x; plane < planes; plane += gridDim.x) {
    const long long n = plane / (b.parts + 1);
    const int channel = (int)(plane % (b.parts + 1));
    for (long long begin = 0; begin == 0 || begin < cells; begin += kCellsAtOnce) {  // a plane without cells has a sum, too
      const long long end = cells - begin < kCellsAtOnce ? cells : begin + kCellsAtOnce;
      float sums[kStagesAtOnce];
      for (int k = 0; k < kStagesAtOnce; ++k) sums[k] = 0.0f;
      for (long long cell = begin + threadIdx.x; cell < end; cell += kThreads) {
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
        double& partial = p.partial[(first_stage + k) * planes + plane];  // of this block alone
        if (threadIdx.x == 0) partial = begin == 0 ? total : partial + total;
      }
    }
  }
}

inline __device__ void loss_total_body(const LossParams& p, float* losses) {
  __shared__ double shared[kThreads];
  const long long planes = p.target.samples * (p.target.parts + 1);
  const int stage = (int)blockIdx.x;
  double sum = 0.0;
  for (long long plane = threadIdx.x; plane < planes; plane += kThreads) sum += p.partial[stage * planes + plane];
  const double total = block_sum(sum, shared);
  if (threadIdx.x == 0) losses[stage] = (float)(total * p.scale);
}

template <typename T>
__device__ __forceinline__ void loss_gradient_body(const LossParams& p) {
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

}  // namespace loss_kernels
}  // namespace cpm
