// The belief-map kernel itself, without its launch: nvcc compiles it into the extension, NVRTC for CuPy.
//
// Every value is written once, kVector neighbouring cells at a time, and nothing is read but the joints, which all
// threads of a warp share: write bandwidth is the limit. Places on the grid are 32-bit (a map has fewer than 2^31
// cells), since a 64-bit division costs more than the cell it finds.
#pragma once

#include "../math/belief.h"

namespace cpm {
namespace {

constexpr int kThreads = 256;
constexpr int kCenterSteps = 8;  // vectors of the centre map that a thread makes, one after the other

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

// The pixels of kVector neighbouring cells from cell `first` of a map `width` cells wide; they may run into the next row.
template <int kVector>
__device__ void cell_pixels(unsigned int first, int width, float stride, float* x, float* y) {
  int row = (int)(first / (unsigned int)width), column = (int)(first - (unsigned int)row * (unsigned int)width);
  for (int i = 0; i < kVector; ++i) {
    x[i] = cell_pixel(column, stride);
    y[i] = cell_pixel(row, stride);
    if (++column == width) {
      column = 0;
      ++row;
    }
  }
}

// Both groups' planes of sample n over kVector cells. A thread makes them all, for it needs all parts for the background.
template <typename T, int kVector>
__device__ void label_cells(const BeliefParams& p, long long n, unsigned int first) {
  const long long cells = (long long)p.h * p.w;
  const Bump bump = make_bump(p.sigma, 1);
  float x[kVector], y[kVector], self_background[kVector], all_background[kVector];
  cell_pixels<kVector>(first, p.w, p.stride, x, y);
  for (int i = 0; i < kVector; ++i) self_background[i] = all_background[i] = 1.0f;
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
    write<T, kVector>(self_out, self);
    write<T, kVector>(all_out, all);
    self_out += cells;
    all_out += cells;
  }
  write<T, kVector>(self_out, self_background);
  write<T, kVector>(all_out, all_background);
}

// kVector neighbouring cells of one row of a centre map, or of two rows where the first ends.
template <int kVector>
__device__ void center_values(int row, int column, int width, float cx, float cy, const Bump& bump, float* value) {
  const float x = cell_pixel(column, 1.0f), y = cell_pixel(row, 1.0f);
  float d2[kVector];
  bool near = false;
  for (int i = 0; i < kVector; ++i) {
    const bool below = column + i >= width;  // never so where the width is a multiple of kVector
    d2[i] = squared_distance(below ? x + (float)(i - width) : x + (float)i, below ? y + 1.0f : y, cx, cy);
    near |= d2[i] <= bump.limit;
    value[i] = 0.0f;
  }
  for (int i = 0; i < kVector && near; ++i) value[i] = add_bump(0.0f, d2[i], bump);
}

// kCenterSteps * kThreads vectors of sample n's centre map, from vector `first`.
template <typename T, int kVector>
__device__ void center_cells(const BeliefParams& p, long long n, unsigned int first) {
  const Bump bump = make_bump(p.center_sigma, p.center_cutoff);
  const float cx = p.center[2 * n], cy = p.center[2 * n + 1];
  const bool drawn = is_finite(cx) && is_finite(cy);
  const unsigned int width = (unsigned int)p.center_w, cells = (unsigned int)p.center_h * width, step = kThreads * kVector;
  const unsigned int step_rows = step / width, step_columns = step - step_rows * width;
  unsigned int cell = (first + threadIdx.x) * kVector, row = cell / width, column = cell - row * width;
  T* out = static_cast<T*>(p.center_map) + n * cells;
  for (int k = 0; k < kCenterSteps && cell < cells; ++k, cell += step) {
    float value[kVector];
    for (int i = 0; i < kVector; ++i) value[i] = 0.0f;
    if (drawn) center_values<kVector>((int)row, (int)column, p.center_w, cx, cy, bump, value);
    write<T, kVector>(out + cell, value);
    row += step_rows;
    column += step_columns;
    if (column < width) continue;
    column -= width;
    ++row;
  }
}

// Blocks that a sample's label and its centre map take.
struct BeliefBlocks {
  unsigned int label, center;
};

inline __host__ __device__ BeliefBlocks belief_blocks(const BeliefParams& p, int vector) {
  const long long label = (long long)p.h * p.w / vector, center = (long long)p.center_h * p.center_w / vector;
  BeliefBlocks blocks;
  blocks.label = p.label ? (unsigned int)((label + kThreads - 1) / kThreads) : 0;
  blocks.center = p.center_map ? (unsigned int)((center + kCenterSteps * kThreads - 1) / (kCenterSteps * kThreads)) : 0;
  return blocks;
}

// One block per kThreads vectors of a label or kCenterSteps * kThreads of a centre map; labels, which take longer, first.
template <typename T, int kVector>
__device__ void belief_maps_body(const BeliefParams& p) {
  const BeliefBlocks blocks = belief_blocks(p, kVector);
  const unsigned int labels = (unsigned int)p.samples * blocks.label;
  if (blockIdx.x < labels) {
    const unsigned int n = blockIdx.x / blocks.label;
    const unsigned int first = ((blockIdx.x - n * blocks.label) * kThreads + threadIdx.x) * kVector;
    if (first < (unsigned int)p.h * (unsigned int)p.w) label_cells<T, kVector>(p, n, first);
  } else {
    const unsigned int block = blockIdx.x - labels, n = block / blocks.center;
    center_cells<T, kVector>(p, n, (block - n * blocks.center) * (kCenterSteps * kThreads));
  }
}

}  // namespace
}  // namespace cpm
