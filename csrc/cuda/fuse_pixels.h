// A block's pixels: their sums over scales, cells down and cells across.
//
// A block makes kBlockRows x kTileColumns pixels of one channel. Scale by scale its threads resample the cell rows that it
// depends on to its columns, in float32, and leave them in shared memory as pairs of halves. From there each warp adds them
// to its kRows rows of pixels, kSlice cell rows at a time, on tensor cores. The sums are in registers. Two buffers take
// turns, so that a barrier between making one and using it is enough.
#pragma once

#include "fuse_tables.h"

namespace cpm {
namespace fuse_kernels {

constexpr int kThreads = 128;
static_assert(kThreads / kWarp * kRows == kBlockRows, "a warp makes kRows rows");
constexpr int kBlocksAtLeast = 3;                         // per multiprocessor: up to 168 registers a thread
constexpr int kTileColumns = 64;                          // of a block
constexpr int kAcross = kTileColumns / kRight;            // matrix products side by side
constexpr int kWindow = 6;                                // cells of a row whose weights a thread holds at a time
constexpr int kCellRows = 24;                             // that a buffer holds
constexpr int kStride = kTileColumns + 8;                 // of a buffer's rows: the lanes of a warp read from 32 banks
constexpr int kRowThreads = kTileColumns / kColumns;      // that make a cell row
constexpr int kRowsAtOnce = kThreads / kRowThreads, kPasses = kCellRows / kRowsAtOnce;

// sum[tile][right] are the thread's sums of one product: see PixelPlace.
typedef float Sums[kTiles][kAcross][kSums];

// Cell rows at a block's columns, as pairs of halves.
struct alignas(16) Buffer {
  unsigned int words[kCellRows * kStride];
};

// A block's channel and first pixel.
struct Block {
  int channel, y0, x0;
};

// Image row and column of the thread's sum [tile][right][index].
struct PixelPlace {
  int y, x;
};

inline __device__ PixelPlace pixel_place(const Block& block, int tile, int right, int index) {
  const int warp = (int)threadIdx.x / kWarp;
  const SumPlace place = sum_place((int)threadIdx.x % kWarp, index);
  return {block.y0 + warp * kRows + tile * kLeft + place.row, block.x0 + right * kRight + place.column};
}

// Where a thread reads what it needs of one scale.
struct Reading {
  const float* plane;        // the channel's cells
  const Span* columns;       // of the thread's columns
  const float* across;       // and their weights
  const Span *block, *rows;  // of the block, and of the warp
  const unsigned int* down;  // the warp's weights
};

inline __device__ Reading first_reading(const FuseParams& p, const Tables& t, const Block& block) {
  const long long last_group = groups_of(p, 1) - 1, own = (block.x0 + (int)threadIdx.x % kRowThreads * kColumns) / kColumns;
  const long long columns = own < last_group ? own : last_group;
  const long long rows = block.y0 / kRows + (int)threadIdx.x / kWarp;
  return {p.maps + (long long)block.channel * p.h * p.w,
          reinterpret_cast<const Span*>(t.base + t.spans[1]) + columns,
          t.base + t.dense[1] + columns * kColumns,
          reinterpret_cast<const Span*>(t.base + t.blocks) + block.y0 / kBlockRows,
          reinterpret_cast<const Span*>(t.base + t.spans[0]) + rows,
          reinterpret_cast<const unsigned int*>(t.base + t.dense[0]) + rows * t.depth[0] * kRows};
}

// What lies between two scales.
struct Strides {
  long long plane, columns, across, block, rows, down;
};

inline __device__ Strides strides_of(const FuseParams& p, const Tables& t) {
  const long long columns = groups_of(p, 1), rows = groups_of(p, 0);
  return {(long long)p.channels * p.h * p.w, columns, columns * t.depth[1] * kColumns, blocks_of(p), rows, rows * t.depth[0] * kRows};
}

inline __device__ void next_scale(const Strides& by, Reading& from) {
  from.plane += by.plane;
  from.columns += by.columns;
  from.across += by.across;
  from.block += by.block;
  from.rows += by.rows;
  from.down += by.down;
}

// Makes rows first .. first + kCellRows - 1 of a buffer, as far as they are below `end`; beyond the map they are zeros.
// kHeld: cells of a row whose weights are held at a time; it divides t.depth[1], which is not more than the cells of a row.
template <int kHeld>
__device__ __forceinline__ void make_rows(const FuseParams& p, const Tables& t, const Reading& from, int first, int end, float up,
                                          unsigned int* buffer) {
  const int own = (int)threadIdx.x / kRowThreads, column = (int)threadIdx.x % kRowThreads * kColumns;
  const int row = first + own, last = end < p.h ? end : p.h;
  const float* cells = from.plane + from.columns->first + (long long)row * p.w;
  const long long next_cell = groups_of(p, 1) * kColumns;
  float value[kPasses][kColumns] = {};
#pragma unroll 1
  for (int window = 0; window < t.depth[1]; window += kHeld) {
    Four across[kHeld];
#pragma unroll
    for (int k = 0; k < kHeld; ++k) across[k] = *reinterpret_cast<const Four*>(from.across + (window + k) * next_cell);
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      if (row + pass * kRowsAtOnce >= last) break;
      const float* of_row = cells + window + (long long)pass * kRowsAtOnce * p.w;
#pragma unroll
      for (int k = 0; k < kHeld; ++k) {
        const float cell = of_row[k];
#pragma unroll
        for (int c = 0; c < kColumns; ++c) value[pass][c] = multiply_add(across[k].of[c], cell, value[pass][c]);
      }
    }
  }
#pragma unroll
  for (int pass = 0; pass < kPasses; ++pass) {
    if (row + pass * kRowsAtOnce >= end) break;
    FourWords words;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) words.of[c] = half_pair(value[pass][c] * up);
    *reinterpret_cast<FourWords*>(buffer + (own + pass * kRowsAtOnce) * kStride + column) = words;
  }
}

// Adds kSlice rows of a buffer to the warp's pixels.
__device__ __forceinline__ void add_slice(const unsigned int* weights, const unsigned int* rows, Sums& sum) {
  const int lane = (int)threadIdx.x % kWarp;
  unsigned int rounded[kTiles][kLeftWords], rest[kTiles][kLeftWords];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    const FourWords pairs = *reinterpret_cast<const FourWords*>(weights + (tile * kWarp + lane) * kLeftWords);
#pragma unroll
    for (int word = 0; word < kLeftWords; ++word) {
      rounded[tile][word] = twice_rounded(pairs.of[word]);
      rest[tile][word] = twice_rest(pairs.of[word]);
    }
  }
  const unsigned int* own = rows + lane % 4 * kStride + lane / 4;
#pragma unroll
  for (int right = 0; right < kAcross; ++right) {
    const unsigned int right0 = own[right * kRight], right1 = own[4 * kStride + right * kRight];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      multiply_halves(rounded[tile], right0, right1, sum[tile][right]);
      multiply_halves(rest[tile], right0, right1, sum[tile][right]);
    }
  }
}

// The sums of a block's pixels, still times scale_up and kWeightUp.
template <int kHeld>
__device__ __forceinline__ void sum_scales(const FuseParams& p, const Tables& t, const Block& block, float up, Sums& sum) {
  __shared__ Buffer buffers[2];
  const bool inside = block.y0 + (int)threadIdx.x / kWarp * kRows < p.image_h;
  Reading from = first_reading(p, t, block);
  const Strides strides = strides_of(p, t);
  int turn = 0;
#pragma unroll 1
  for (int scale = 0; scale < p.scales; ++scale) {
    Span block_rows = *from.block, warp_rows = {0, 0};
    if (inside) warp_rows = *from.rows;
    if (p.weight[scale] == 0.0f) block_rows.end = block_rows.first;
    const unsigned int* weights = from.down;
#pragma unroll 1
    while (block_rows.first < block_rows.end) {
      unsigned int* buffer = buffers[turn].words;
      turn = 1 - turn;
      make_rows<kHeld>(p, t, from, block_rows.first, block_rows.end, up, buffer);
      __syncthreads();
#pragma unroll 1
      for (; warp_rows.first < warp_rows.end && warp_rows.first + kSlice <= block_rows.first + kCellRows; warp_rows.first += kSlice) {
        add_slice(weights, buffer + (warp_rows.first - block_rows.first) * kStride, sum);
        weights += kSliceWords;
      }
      if (block_rows.first + kCellRows >= block_rows.end) break;
      block_rows.first += kCellRows - kSlice + 1;  // the slices that did not fit begin there or later
    }
    next_scale(strides, from);
  }
}

}  // namespace fuse_kernels
}  // namespace cpm
