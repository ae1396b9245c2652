// What patches of a fused map can reach at most, as far as it follows from the weights alone: shared by all channels.
#pragma once

#include <vector>

#include "fuse_tile.h"

namespace cpm {

// One axis of one scale. Tiles are pieces of PeakTables::tile pixels (and the pixel after them), steps pieces of
// PeakTables::step pixels between two coarse ones.
struct AxisBounds {
  std::vector<CellRange> cells;                 // per tile: cells that its pixels depend on
  std::vector<float> positive, negative;        // per tile: largest sums of the weights of each sign
  std::vector<float> bend, drift, cover_drift;  // per step: how far its rows of weights are from the straight line
                                                // between its ends: sum of magnitudes, sum, and the cover's distance
  float norm = 0.0f, sum = 0.0f, cover = 0.0f;  // largest sum of magnitudes, sum, and cover of any pixel
};

struct PeakTables {
  int step = 1;       // pixels between coarse ones; 1: there are none, cells are too small for it
  int tile = 0;       // pixels, a multiple of step
  FuseParams params;  // as if the coarse pixels were the image
  FuseTables coarse;
  std::vector<AxisBounds> y, x;  // (S,) each
};

PeakTables make_peak_tables(const FuseParams& params);

// Fills what belongs to (scale, axis) number 2 * scale + axis, from the finished tables.
void fill_peak_table(const FuseParams& params, const FuseTables& tables, PeakTables& peaks, int number);

// Number of tiles along an axis.
inline int peak_tiles(int length, const PeakTables& peaks) { return (length + peaks.tile - 1) / peaks.tile; }

}  // namespace cpm
