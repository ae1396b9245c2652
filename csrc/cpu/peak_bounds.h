// What tiles of a fused map can reach at most, as far as it follows from the weights alone: shared by all channels.
#pragma once

#include <vector>

#include "fuse_tile.h"

namespace cpm {

constexpr int kPeakTile = 32;  // pixels, squared; the fusion's tiles are whole numbers of these

// One axis of one scale, per tile.
struct AxisBounds {
  std::vector<CellRange> cells;           // that its pixels depend on
  std::vector<float> positive, negative;  // largest sums of the weights of each sign, both as magnitudes
};

struct PeakTables {
  std::vector<AxisBounds> y, x;  // (S,) each
};

PeakTables make_peak_tables(const FuseParams& params);

// Fills what belongs to (scale, axis) number 2 * scale + axis, from the finished tables.
void fill_peak_table(const FuseParams& params, const FuseTables& tables, PeakTables& peaks, int number);

// Number of tiles along an axis.
inline int peak_tiles(int length) { return (length - 1) / kPeakTile + 1; }

}  // namespace cpm
