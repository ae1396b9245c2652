// Fused values of one patch of one channel; what both fuse_multiscale and fuse_multiscale_peaks are made of.
#pragma once

#include <vector>

#include "fuse_rows.h"
#include "fuse_tables.h"

namespace cpm {

struct Tile {
  int y0, y1, x0, x1;  // image pixels, ends excluded
};

// First and last + 1 cell that pixels a..b-1 of an axis depend on.
struct CellRange {
  int first, last;
};
CellRange cells_under(const BandTable& table, int a, int b);

// At least so many elements, of any value: what was there is given back first, never kept beside its successor.
template <typename T>
void require(std::vector<T>& space, size_t count) {
  if (space.size() >= count) return;
  std::vector<T>().swap(space);
  space.resize(count);
}

// Floats that start on a cache line: vector loads that straddle two lines cost double.
class AlignedFloats {
 public:
  void require(size_t count) { cpm::require(storage_, count + kLine); }
  float* data() {
    const size_t address = reinterpret_cast<size_t>(storage_.data()) / sizeof(float);
    return storage_.data() + (kLine - address % kLine) % kLine;
  }

 private:
  static constexpr size_t kLine = 64 / sizeof(float);
  std::vector<float> storage_;
};

// Space that is used again from tile to tile; one per thread.
struct TileScratch {
  AlignedFloats rows;               // cell rows resampled to the tile's columns, scale after scale
  AlignedFloats turned;             // the cells of one scale, transposed
  std::vector<size_t> start;        // (S,) where each scale's rows start
  std::vector<int> first_cell;      // (S,) cell row that is first there
  std::vector<Strip> strips;        // (S,)
};

// Resamples the cell rows under a tile to its columns, into scratch.
void resample_tile(const FuseParams& params, const FuseTables& tables, int channel, const Tile& tile, TileScratch& scratch);

// Writes some rows, over their whole width, of the tile that was resampled last, as fuse_tile does.
void tile_rows(const FuseParams& params, const FuseTables& tables, int channel, const Tile& rows, float* out, long long pitch,
               const TileScratch& scratch);

// Writes the tile to out, whose rows are `pitch` apart; out[0] is pixel (y0, x0).
void fuse_tile(const FuseParams& params, const FuseTables& tables, int channel, const Tile& tile, float* out,
               long long pitch, TileScratch& scratch);

}  // namespace cpm
