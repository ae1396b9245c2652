// Image rows as weighted sums of cell rows, over all scales: nearly all of the fusion's arithmetic.
#pragma once

#include <vector>

namespace cpm {

// What one scale adds to a tile: cell rows at the tile's pixels, `pitch` apart, and each image row's weights of them.
struct Strip {
  const float* cells;
  const float* weights;  // (image, taps)
  const int* first;      // (image,) cell row
  int taps, first_cell, pitch;

  const float* row_of(int y) const { return cells + (long long)(first[y] - first_cell) * pitch; }
};

// Writes image rows y0..y1-1, `pitch` apart. Each pixel's sum has one order: scale by scale, cell row by cell row.
void weighted_rows(const std::vector<Strip>& strips, int y0, int y1, int width, float* out, long long pitch);

}  // namespace cpm
