// What every header in csrc/math may rely on. No includes under NVRTC, no std::, no int64_t:
// the same text is compiled by g++, nvcc and NVRTC.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define CPM_HD __host__ __device__ __forceinline__
#else
#include <math.h>
#define CPM_HD inline
#endif

namespace cpm {

CPM_HD int clamp_int(double value, int low, int high) {
  // Compares before it converts: a double outside int's range must never be cast.
  if (!(value > low)) return low;
  if (value >= high) return high;
  return (int)value;
}

}  // namespace cpm
