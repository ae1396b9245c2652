// Test-only: runs CUDA kernels on the CPU, and refuses what a GPU refuses or gets wrong. What kernels use of CUDA is here;
// what none of them uses is not, so that it does not compile.
#pragma once

#include <math.h>

#include "block.h"
#include "warp.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __restrict__

typedef void* cudaStream_t;

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { stand_in::barrier(file, line); }

template <typename T>
inline T atomicMax(T* address, T value) {
  T old = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (old < value && !__atomic_compare_exchange_n(address, &old, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return old;
}

#define CPM_MULTIPLY_HALVES(left, right0, right1, sum) stand_in::multiply_halves(left, right0, right1, sum)

#define CPM_LAUNCH(kernel, blocks, threads, shared_bytes, stream, ...) \
  stand_in::launch(dim3(blocks), dim3(threads), shared_bytes, [&] { kernel(__VA_ARGS__); })
