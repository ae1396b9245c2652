// The belief-map kernel itself, without its launch: nvcc compiles it into the extension, NVRTC for CuPy.
//
// Every value is written once, kVector neighbouring cells at a time, and nothing is read but the joints: write bandwidth
// is the limit. What a thread does between two writes must stay below it, so that a bump that ends before its cells, as
// most do, costs two comparisons. Places on the grid are 32-bit (a map has fewer than 2^31 cells), since a 64-bit division
// costs more than the cell it finds.
#pragma once

#include "../math/belief.h"

namespace cpm {
namespace {

constexpr int kThreads = 256;
constexpr int kStagedJoints = 1024;  // of a sample, in shared memory; those beyond are read where they lie
constexpr int kMostJoints = 536870912;  // of a sample, 2^29: also a person or a block on, the next place fits 32 bits
constexpr int kMostSlices = 8;       // of a label's block: each is a warp then, whose threads all go the same way
constexpr int kMostSteps = 8;        // vectors of a centre map that a thread makes, one after the other
constexpr int kEnoughBlocks = 528;   // four for each of a large card's 132 multiprocessors

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

// How a sample is shared out. Many samples take few threads each, which prepare once for much; of few samples a thread
// makes little, since nothing hides how long it takes. The results are the same.
struct BeliefGrid {
  unsigned int label_blocks, center_blocks;  // of one sample
  int slices;  // of a label's block: each makes other parts of the same kThreads / slices vectors
  int steps;   // vectors of the centre map for each thread
};

CPM_HD BeliefGrid belief_grid(const BeliefParams& p, int vector) {
  const long long label = p.label ? (long long)p.h * p.w / vector : 0;
  const long long center = p.center_map ? (long long)p.center_h * p.center_w / vector : 0;
  BeliefGrid grid;
  for (grid.slices = 1;; grid.slices *= 2) {
    const int vectors = kThreads / grid.slices;
    grid.label_blocks = (unsigned int)((label + vectors - 1) / vectors);
    if (p.samples * grid.label_blocks >= kEnoughBlocks || grid.slices == kMostSlices || grid.slices >= p.parts) break;
  }
  for (grid.steps = kMostSteps;; grid.steps /= 2) {
    const int vectors = kThreads * grid.steps;
    grid.center_blocks = (unsigned int)((center + vectors - 1) / vectors);
    if (p.samples * grid.center_blocks >= kEnoughBlocks || grid.steps == 1) break;
  }
  return grid;
}

inline __device__ unsigned int thread_of_block() { return threadIdx.y * blockDim.x + threadIdx.x; }

// In pixels. One that is not drawn has no number for x, and so lies within no distance of any cell.
struct alignas(8) Joint {
  float x, y;
};

// Joint i of sample n, counted over people and parts.
inline __device__ Joint load_joint(const BeliefParams& p, long long n, int i) {
  Joint joint;
  if (!drawn_joint(p, n, 0, i, joint.x, joint.y)) joint.x = nanf("");
  return joint;
}

// The pixels of kVector neighbouring cells from (row, column) on; they may run into the next rows.
template <int kVector>
__device__ void cell_pixels(int row, int column, int width, float stride, float* x, float* y) {
  for (int i = 0; i < kVector; ++i) {
    x[i] = cell_pixel(column, stride);
    y[i] = cell_pixel(row, stride);
    if (++column == width) {
      column = 0;
      ++row;
    }
  }
}

// How far from the first of kVector neighbouring cells a joint may lie for its bump to touch any of them.
struct Reach {
  float x, y;
};

// `across`, `down`: how far from the first one's pixel the others' lie at most. Subtracting and adding round, each by 2^-24.
inline __device__ Reach vector_reach(const Bump& bump, float across, float down) {
  const float reach = bump_reach(bump), beyond_roundings = 1.0f + 1e-6f;
  return {(reach + across) * beyond_roundings, (reach + down) * beyond_roundings};
}

// Of cells that cell_pixels made. Their pixels tell more than their numbers: fine grids have rows with equal pixels, wide
// ones columns that float32 rounds apart. In the next row x may lie anywhere, y only further down.
template <int kVector>
__device__ Reach pixels_reach(const Bump& bump, const float* x, const float* y) {
  float across = 0.0f;
  for (int i = 1; i < kVector; ++i) across = fmaxf(across, fabsf(x[i] - x[0]));
  return vector_reach(bump, across, y[kVector - 1] - y[0]);
}

// Of any cells of a map with a cell per pixel, whose places float32 rounds by 2^-24.
template <int kVector>
__device__ Reach map_reach(const Bump& bump, int height, int width) {
  const bool one_row = width % kVector == 0;
  const float across = (float)(one_row ? kVector - 1 : width), down = one_row ? 0.0f : kVector - 1.0f;
  return vector_reach(bump, across + (float)width * 0x1p-23f, down + (float)height * 0x1p-23f);
}

inline __device__ bool within(const Reach& reach, float x, float y, Joint joint) {
  return (fabsf(x - joint.x) <= reach.x) & (fabsf(y - joint.y) <= reach.y);
}

// As add_bump, for kVector cells and without branches: the double arithmetic of all goes side by side.
template <int kVector>
__device__ void draw(const float* x, const float* y, Joint joint, const Bump& bump, float* value) {
  for (int i = 0; i < kVector; ++i) {
    const float d2 = squared_distance(x[i], y[i], joint.x, joint.y), exponent = bump_exponent(d2, bump);
    const bool inside = (d2 <= bump.limit) & !(bump.cutoff && exponent > kBeliefCutoffFloat);
    const float sum = add_exponent(value[i], exponent);
    value[i] = inside ? sum : value[i];
  }
}

// What the threads of a label's block share: joints, and each one's backgrounds under the bumps that it drew.
template <int kVector>
struct Shared {
  Joint joints[kStagedJoints];
  Packed<float, kVector> self_background[kThreads], all_background[kThreads];
};

template <int kVector>
__device__ void lower(Packed<float, kVector>& background, const float* value) {
  for (int i = 0; i < kVector; ++i) background.values[i] = fminf(background.values[i], background_under(value[i]));
}

// Both groups' planes of every blockDim.y-th part over kVector cells of sample n; `plane`: the sample's first, at these cells.
template <typename T, int kVector>
__device__ void part_planes(const BeliefParams& p, long long n, unsigned int first, Shared<kVector>& shared, T* plane) {
  const unsigned int thread = thread_of_block();
  const long long cells = (long long)p.h * p.w;
  const int row = (int)(first / (unsigned int)p.w), column = (int)(first - (unsigned int)row * (unsigned int)p.w);
  const Bump bump = make_bump(p.sigma, 1);
  float x[kVector], y[kVector];
  cell_pixels<kVector>(row, column, p.w, p.stride, x, y);
  const Reach reach = pixels_reach<kVector>(bump, x, y);
  plane += threadIdx.y * cells;
#pragma unroll 1
  for (int part = threadIdx.y; part < p.parts; part += blockDim.y, plane += blockDim.y * cells) {
    float value[kVector] = {};
    const auto add = [&](int i, Packed<float, kVector>& background) {
      const Joint joint = i < kStagedJoints ? shared.joints[i] : load_joint(p, n, i);
      if (!within(reach, x[0], y[0], joint)) return;
      draw<kVector>(x, y, joint, bump, value);
      lower<kVector>(background, value);
    };
    if (p.people > 0) add(part, shared.self_background[thread]);
    write<T, kVector>(plane, value);
#pragma unroll 1
    for (int i = part + p.parts; i < p.people * p.parts; i += p.parts) add(i, shared.all_background[thread]);
    write<T, kVector>(plane + (p.parts + 1) * cells, value);
  }
}

// A block's share of sample n's label. Threads of one column (threadIdx.x) have the same cells, of different parts; at the
// end one of them for each group looks how far all have lowered its background.
template <typename T, int kVector>
__device__ void label_cells(const BeliefParams& p, long long n, unsigned int block) {
  __shared__ Shared<kVector> shared;
  const unsigned int thread = thread_of_block(), cells = (unsigned int)p.h * (unsigned int)p.w;
  const unsigned int first = (block * blockDim.x + threadIdx.x) * kVector;
#pragma unroll 1
  for (int i = thread; i < p.people * p.parts && i < kStagedJoints; i += kThreads) shared.joints[i] = load_joint(p, n, i);
  for (int i = 0; i < kVector; ++i) shared.self_background[thread].values[i] = shared.all_background[thread].values[i] = 1.0f;
  __syncthreads();
  T* out = static_cast<T*>(p.label) + n * 2 * (p.parts + 1) * cells + first;
  if (first < cells) part_planes<T, kVector>(p, n, first, shared, out);
  __syncthreads();
  for (int group = threadIdx.y; group < 2 && first < cells; group += blockDim.y) {
    Packed<float, kVector> lowest = shared.self_background[threadIdx.x];  // everybody's lies below it, too
#pragma unroll 1
    for (unsigned int other = threadIdx.x; other < kThreads; other += blockDim.x) {
      const Packed<float, kVector> self = shared.self_background[other], all = shared.all_background[other];
      for (int i = 0; i < kVector; ++i) {
        lowest.values[i] = fminf(lowest.values[i], group == 0 ? self.values[i] : fminf(self.values[i], all.values[i]));
      }
    }
    write<T, kVector>(out + (group * (p.parts + 1) + p.parts) * (long long)cells, lowest.values);
  }
}

// A block's share of sample n's centre map: steps * kThreads vectors.
template <typename T, int kVector>
__device__ void center_cells(const BeliefParams& p, int steps, long long n, unsigned int block) {
  Joint center;
  center.x = p.center[2 * n];
  center.y = p.center[2 * n + 1];
  const Bump bump = make_bump(p.center_sigma, p.center_cutoff);
  const Reach reach = map_reach<kVector>(bump, p.center_h, p.center_w);
  const unsigned int width = (unsigned int)p.center_w, cells = (unsigned int)p.center_h * width, step = kThreads * kVector;
  const unsigned int step_rows = step / width, step_columns = step - step_rows * width;
  const unsigned int start = block * steps * step, end = start + steps * step < cells ? start + steps * step : cells;
  unsigned int cell = start + thread_of_block() * kVector, row = cell / width, column = cell - row * width;
  T* out = static_cast<T*>(p.center_map) + n * cells;
#pragma unroll 1
  for (; cell < end; cell += step) {
    float value[kVector] = {};
    if (within(reach, cell_pixel((int)column, 1.0f), cell_pixel((int)row, 1.0f), center)) {
      float x[kVector], y[kVector];
      cell_pixels<kVector>((int)row, (int)column, p.center_w, 1.0f, x, y);
      draw<kVector>(x, y, center, bump, value);
    }
    write<T, kVector>(out + cell, value);
    row += step_rows;
    column += step_columns;
    if (column >= width) {
      column -= width;
      ++row;
    }
  }
}

// All labels' blocks, which take longer, come before all centre maps'. A block's threads: (kThreads / slices, slices).
template <typename T, int kVector>
__device__ void belief_maps_body(const BeliefParams& p, const BeliefGrid& grid) {
  const unsigned int labels = (unsigned int)p.samples * grid.label_blocks;
  if (blockIdx.x < labels) {
    const unsigned int n = blockIdx.x / grid.label_blocks;
    label_cells<T, kVector>(p, n, blockIdx.x - n * grid.label_blocks);
  } else {
    const unsigned int block = blockIdx.x - labels, n = block / grid.center_blocks;
    center_cells<T, kVector>(p, grid.steps, n, block - n * grid.center_blocks);
  }
}

}  // namespace
}  // namespace cpm
