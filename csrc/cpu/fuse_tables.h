// The banded matrices of multi-scale fusion as tables, one per scale and axis.
#pragma once

#include <vector>

#include "../math/fuse.h"

namespace cpm {

struct BandTable {
  int taps = 0;
  std::vector<float> weights;  // (image, taps)
  std::vector<int> first;      // (image,) first cell
  std::vector<float> cover;    // (image,) share of the pixel inside the network's input
};

struct FuseTables {
  std::vector<BandTable> y, x;  // (S,) each; the y weights are already multiplied by the scale's weight
};

FuseTables make_fuse_tables(const FuseParams& params);

// Fills table (scale, axis); tables are numbered 2 * scale + axis, axis 0 = y.
void fill_fuse_table(const FuseParams& params, FuseTables& tables, int number);

}  // namespace cpm
