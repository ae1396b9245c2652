// The sums of the fusion's pixels. A warp makes kRows x kTileColumns pixels of one channel; the kWarps warps of a block
// take the same pixels of neighbouring channels, and share the weights. A thread owns kColumns neighbouring columns; it
// resamples cell rows to them one by one and adds each to all of its rows, whose sums are in registers.
#pragma once

#include "fuse_tables.h"

namespace cpm {
namespace fuse_kernels {

constexpr int kLanes = 32;
constexpr int kWarps = 4;
constexpr int kThreads = kLanes * kWarps;
constexpr int kTileColumns = kLanes * kColumns;
constexpr int kPiece = 8;   // rows of cells that are worked off at a time
constexpr int kUnits = 4;   // scales, or parts of scales, that are in shared memory at a time
constexpr int kStage = 48;  // cells of a row that fit there; wider maps are read where they lie

// What a warp adds in one go: the cells of at most kPiece rows and kHeld columns of one scale's maps. With a scale's
// usual few cells under a tile, that is the whole scale. kStaged: each warp's rows are brought here, all at once: read
// one by one where they lie, every row would wait for the second-level cache.
template <int kHeld, bool kStaged>
struct Unit {
  Four across[kHeld][kLanes];  // weights of a cell for a thread's columns
  Four down[kPiece][kRows / 4];
  float cells[kStaged ? kWarps : 1][kStaged ? kPiece : 1][kStaged ? kStage : 1];
  long long plane;             // where the scale's first channel begins
  int left[kLanes];            // first cell of each thread
  int top, rows;
};

struct UnitOrder {
  int windows, pieces, units;
};

inline __device__ UnitOrder unit_order(const FuseParams& p, const Tables& t, int held) {
  UnitOrder order;
  order.windows = t.depth[1] / held;
  order.pieces = (t.depth[0] - 1) / kPiece + 1;
  order.units = p.scales * order.windows * order.pieces;
  return order;
}

// A unit's place: its scale, first window, its first row among the rows under the tile and among all, and how many rows there are.
struct UnitPlace {
  int scale, window, piece, top, rows;
};

inline __device__ UnitPlace unit_place(const FuseParams& p, const Tables& t, const UnitOrder& order, int number, int held, int y0) {
  UnitPlace place;
  place.scale = number / (order.windows * order.pieces);
  place.window = number / order.pieces % order.windows * held;
  place.piece = number % order.pieces * kPiece;
  const long long down = place.scale * groups_of(p, 0) + y0 / kRows;
  const int below = table_int(t, t.count[0] + down) - place.piece;
  place.rows = below < kPiece ? below : kPiece;
  place.top = table_int(t, t.low[0] + down) + place.piece;
  return place;
}

template <int kHeld, bool kStaged>
__device__ __forceinline__ void load_unit(const FuseParams& p, const Tables& t, const UnitPlace& place, int channel, int y0, int x0,
                                          Unit<kHeld, kStaged>* unit) {
  const int mine = (int)threadIdx.x, lane = mine % kLanes, warp = mine / kLanes, last_group = (int)groups_of(p, 1) - 1;
  const long long down = place.scale * groups_of(p, 0) + y0 / kRows, right = (long long)place.scale * (last_group + 1);
  const long long plane = (long long)place.scale * p.channels * p.h * p.w;
  if (kStaged && channel < p.channels) {
    const float* from = p.maps + plane + ((long long)channel * p.h + place.top) * p.w + lane;
    float near[kPiece], far[kPiece];  // all loads first, that they wait together
#pragma unroll
    for (int row = 0; row < kPiece; ++row) {
      near[row] = row < place.rows && lane < p.w ? from[row * p.w] : 0.0f;
      far[row] = row < place.rows && lane + kLanes < p.w ? from[row * p.w + kLanes] : 0.0f;
    }
#pragma unroll
    for (int row = 0; row < kPiece; ++row) {
      unit->cells[warp][row][lane] = near[row];
      if (lane + kLanes < kStage) unit->cells[warp][row][lane + kLanes] = far[row];
    }
  }
#pragma unroll
  for (int n = 0; n * kThreads < kHeld * kLanes; ++n) {
    const int k = mine + n * kThreads, cell = k / kLanes;
    const int group = x0 / kColumns + lane < last_group ? x0 / kColumns + lane : last_group;
    if (k >= kHeld * kLanes) break;
    unit->across[cell][lane] = load_four(t.base + t.dense[1] + ((right + group) * t.depth[1] + place.window + cell) * kColumns);
    if (cell == 0) unit->left[lane] = table_int(t, t.low[1] + right + group) + place.window;
  }
  if (mine < place.rows * (kRows / 4)) {
    unit->down[mine / (kRows / 4)][mine % (kRows / 4)] =
        load_four(t.base + t.dense[0] + (down * t.depth[0] + place.piece) * kRows + mine * 4);
  }
  if (mine == 0) {
    unit->plane = plane;
    unit->top = place.top;
    unit->rows = place.rows;
  }
}

// Adds one unit to the thread's pixels; cells: the thread's first, in rows `pitch` apart.
template <int kHeld, bool kStaged>
__device__ __forceinline__ void add_unit(const Unit<kHeld, kStaged>& unit, const float* cells, int pitch, float (*sum)[kColumns]) {
  Four across[kHeld];
#pragma unroll
  for (int k = 0; k < kHeld; ++k) across[k] = unit.across[k][threadIdx.x % kLanes];
#pragma unroll 1
  for (int row = 0; row < unit.rows; ++row) {
    float value[kColumns] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int k = 0; k < kHeld; ++k) {
      const float cell = cells[k];
#pragma unroll
      for (int c = 0; c < kColumns; ++c) value[c] = multiply_add(across[k].of[c], cell, value[c]);
    }
#pragma unroll
    for (int r = 0; r < kRows; r += 4) {
      const Four weight = unit.down[row][r / 4];
#pragma unroll
      for (int k = 0; k < 4; ++k) {
#pragma unroll
        for (int c = 0; c < kColumns; ++c) sum[r + k][c] = multiply_add(weight.of[k], value[c], sum[r + k][c]);
      }
    }
    cells += pitch;
  }
}

// Sums of the thread's pixels: sum[r][c] is image row y0 + r, column x0 + lane * kColumns + c. kHeld divides t.depth[1],
// and t.depth[1] is not more than the cells of a row. All threads of the block come here, those without a channel too.
template <int kHeld, bool kStaged>
__device__ __forceinline__ void fuse_pixels(const FuseParams& p, const Tables& t, int channel, int y0, int x0, Unit<kHeld, kStaged>* shared,
                                            float (*sum)[kColumns]) {
  const UnitOrder order = unit_order(p, t, kHeld);
  const int lane = (int)threadIdx.x % kLanes, warp = (int)threadIdx.x / kLanes;
#pragma unroll 1
  for (int first = 0; first < order.units; first += kUnits) {
    const int units = order.units - first < kUnits ? order.units - first : kUnits;
    UnitPlace places[kUnits];
#pragma unroll
    for (int k = 0; k < kUnits; ++k) places[k] = unit_place(p, t, order, first + (k < units ? k : 0), kHeld, y0);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kUnits; ++k) {
      if (k < units) load_unit(p, t, places[k], channel, y0, x0, shared + k);
    }
    __syncthreads();
    if (channel >= p.channels) continue;
#pragma unroll 1
    for (int k = 0; k < units; ++k) {
      const Unit<kHeld, kStaged>& unit = shared[k];
      if (kStaged) {
        add_unit(unit, &unit.cells[kStaged ? warp : 0][0][0] + unit.left[lane], kStage, sum);
      } else {
        add_unit(unit, p.maps + unit.plane + ((long long)channel * p.h + unit.top) * p.w + unit.left[lane], p.w, sum);
      }
    }
  }
}

}  // namespace fuse_kernels
}  // namespace cpm
