// Test-only: what a GPU refuses to launch, and the error that is asked for afterwards.
#pragma once

#include <cstdarg>
#include <cstddef>
#include <cstdio>

struct dim3 {
  unsigned int x, y, z;
  dim3(unsigned int x_ = 1, unsigned int y_ = 1, unsigned int z_ = 1) : x(x_), y(y_), z(z_) {}
};

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidConfiguration = 9, cudaErrorLaunchFailure = 719 };

namespace stand_in {

inline cudaError_t last_error = cudaSuccess;
inline char error_words[256];

// Notes what went wrong, and returns false.
inline bool fail(cudaError_t error, const char* format, ...) {
  va_list values;
  va_start(values, format);
  vsnprintf(error_words, sizeof(error_words), format, values);
  va_end(values);
  last_error = error;
  return false;
}

// Limits of every GPU since 2012. Memory shared at launch is not played here: no kernel asks for any, and what kernels
// declare themselves ptxas holds to 48 KB.
inline bool launchable(dim3 grid, dim3 block, size_t shared_bytes) {
  const struct {
    const char* what;
    unsigned long long got, most;
  } numbers[] = {
      {"blocks along x", grid.x, 0x7fffffff},
      {"blocks along y", grid.y, 65535},
      {"blocks along z", grid.z, 65535},
      {"threads along x", block.x, 1024},
      {"threads along y", block.y, 1024},
      {"threads along z", block.z, 64},
      {"threads of a block", (unsigned long long)block.x * block.y * block.z, 1024},
  };
  for (const auto& n : numbers) {
    if (n.got < 1 || n.got > n.most) return fail(cudaErrorInvalidConfiguration, "%s: wanted 1 to %llu, got %llu", n.what, n.most, n.got);
  }
  if (shared_bytes != 0) return fail(cudaErrorInvalidConfiguration, "shared memory of a launch: wanted none, got %zu bytes", shared_bytes);
  return true;
}

}  // namespace stand_in

inline cudaError_t cudaGetLastError() {
  const cudaError_t error = stand_in::last_error;
  stand_in::last_error = cudaSuccess;
  return error;
}

inline const char* cudaGetErrorString(cudaError_t error) { return error == cudaSuccess ? "no error" : stand_in::error_words; }
