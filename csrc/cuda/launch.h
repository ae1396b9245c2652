// Launching kernels: every launch is followed by a check, and its message is the function's result
// (null = success). The tests bring their own cuda_runtime.h that runs the kernels on the CPU.
#pragma once

#include <cuda_runtime.h>

#ifndef CPM_LAUNCH
#define CPM_LAUNCH(kernel, blocks, threads, shared_bytes, stream, ...) \
  kernel<<<(blocks), (threads), (shared_bytes), (cudaStream_t)(stream)>>>(__VA_ARGS__)
#endif

namespace cpm {

inline const char* launch_error() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace cpm
