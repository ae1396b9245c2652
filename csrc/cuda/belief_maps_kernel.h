// The belief-map kernel itself, without its launch: nvcc compiles it into the extension, NVRTC for CuPy.
//
// One thread makes kVector neighbouring cells of all planes of a sample, so that every value is written once
// and nothing is read but the joints, which all threads of a warp share. Write bandwidth is the limit.
#pragma once

#include "../math/belief.h"

namespace cpm {
namespace {

constexpr int kThreads = 256;

template <typename T, int kVector>
struct alignas(sizeof(T) * kVector) Packed {
  T values[kVector];
};

template <typename T, int kVector>
__device__ void write(T* to, const float* from) {
  Packed<T, kVector> packed;
  for (int i = 0; i < kVector; ++i) packed.values[i] = convert(from[i], T());
  *reinterpret_cast<Packed<T, kVector>*>(to) = packed;
}

template <typename T, int kVector>
__device__ void label_cells(const BeliefParams& p, long long n, long long first) {
  const long long cells = (long long)p.h * p.w;
  const Bump bump = make_bump(p.sigma, 1);
  float x[kVector], y[kVector], self_background[kVector], all_background[kVector];
  for (int i = 0; i < kVector; ++i) {
    x[i] = cell_pixel((int)((first + i) % p.w), p.stride);
    y[i] = cell_pixel((int)((first + i) / p.w), p.stride);
    self_background[i] = all_background[i] = 1.0f;
  }
  T* self_out = static_cast<T*>(p.label) + n * 2 * (p.parts + 1) * cells + first;
  T* all_out = self_out + (p.parts + 1) * cells;
  for (int part = 0; part < p.parts; ++part) {
    float self[kVector], all[kVector];
    for (int i = 0; i < kVector; ++i) self[i] = all[i] = 0.0f;
    for (int person = 0; person < p.people; ++person) {
      float cx, cy;
      if (drawn_joint(p, n, person, part, cx, cy)) {
        for (int i = 0; i < kVector; ++i) all[i] = add_bump(all[i], squared_distance(x[i], y[i], cx, cy), bump);
      }
      if (person == 0) {
        for (int i = 0; i < kVector; ++i) self[i] = all[i];
      }
    }
    for (int i = 0; i < kVector; ++i) {
      self_background[i] = fminf(self_background[i], background_under(self[i]));
      all_background[i] = fminf(all_background[i], background_under(all[i]));
    }
    write<T, kVector>(self_out + part * cells, self);
    write<T, kVector>(all_out + part * cells, all);
  }
  write<T, kVector>(self_out + p.parts * cells, self_background);
  write<T, kVector>(all_out + p.parts * cells, all_background);
}

template <typename T, int kVector>
__device__ void center_cells(const BeliefParams& p, long long n, long long first) {
  const Bump bump = make_bump(p.center_sigma, p.center_cutoff);
  const float cx = p.center[2 * n], cy = p.center[2 * n + 1];
  const bool drawn = is_finite(cx) && is_finite(cy);
  float value[kVector];
  for (int i = 0; i < kVector; ++i) {
    const float x = cell_pixel((int)((first + i) % p.center_w), 1.0f);
    const float y = cell_pixel((int)((first + i) / p.center_w), 1.0f);
    value[i] = drawn ? add_bump(0.0f, squared_distance(x, y, cx, cy), bump) : 0.0f;
  }
  write<T, kVector>(static_cast<T*>(p.center_map) + n * p.center_h * p.center_w + first, value);
}

// Vectors 0..label_vectors-1 of a sample belong to the label grid, the rest to the centre map.
template <typename T, int kVector>
__device__ void belief_maps_body(const BeliefParams& p, long long label_vectors, long long vectors) {
  const long long total = p.samples * vectors;
  const long long step = (long long)gridDim.x * blockDim.x;
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < total; i += step) {
    const long long n = i / vectors, vector = i % vectors;
    if (vector < label_vectors) {
      label_cells<T, kVector>(p, n, vector * kVector);
    } else {
      center_cells<T, kVector>(p, n, (vector - label_vectors) * kVector);
    }
  }
}

}  // namespace
}  // namespace cpm
