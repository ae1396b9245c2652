// Powers of two that keep the fusion's numbers within the range of halves, which end at 65504 and keep fewer digits below 6e-5.
//
// Before they become halves, weights are multiplied by kWeightUp, and what the cells of a channel were resampled to by the
// power of two that brings its largest cell just below 2^kLargestPower. Weights stay below 2 and resampling makes no more than
// twice the largest cell of them, so that both stay below 2^15.
#pragma once

#include "../math/fuse.h"

namespace cpm {
namespace fuse_kernels {

constexpr int kLargestPower = 14;
constexpr float kWeightUp = 8192.0f, kWeightDown = 1.0f / kWeightUp;

// The largest magnitude of each of a scale's planes, of what is finite: as bits, which rank like the numbers.
template <int kBlockThreads>
inline __device__ void largest_cells(const FuseParams& p, int scale, unsigned int* largest) {
  __shared__ unsigned int most;
  const long long cells = (long long)p.h * p.w;
  for (long long channel = blockIdx.x; channel < p.channels; channel += gridDim.x) {
    const long long number = (long long)scale * p.channels + channel;
    const float* plane = p.maps + number * cells;
    if (threadIdx.x == 0) most = 0;
    __syncthreads();
    unsigned int mine = 0;
    for (long long i = threadIdx.x; i < cells; i += kBlockThreads) {
      const unsigned int magnitude = float_bits(plane[i]) & 0x7fffffffu;
      mine = magnitude < 0x7f800000u && magnitude > mine ? magnitude : mine;
    }
    atomicMax(&most, mine);
    __syncthreads();
    if (threadIdx.x == 0) largest[number] = most;
    __syncthreads();
  }
}

// The power of two for a channel, out of what largest_cells found; its inverse is a number too. Scales without weight are not
// looked at.
inline __device__ float scale_up(const FuseParams& p, const unsigned int* largest, int channel) {
  unsigned int most = 0;
#pragma unroll 4  // several loads at a time
  for (int scale = 0; scale < p.scales; ++scale) {
    const unsigned int bits = largest[(long long)scale * p.channels + channel];
    most = bits > most && p.weight[scale] != 0.0f ? bits : most;
  }
  const int up = 127 + 127 + kLargestPower - 1 - (int)(most >> 23);
  return bits_float((unsigned int)(up < 253 ? up : 253) << 23);
}

}  // namespace fuse_kernels
}  // namespace cpm
