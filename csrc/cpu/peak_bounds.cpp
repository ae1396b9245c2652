#include "peak_bounds.h"

#include <algorithm>

namespace cpm {

PeakTables make_peak_tables(const FuseParams& p) {
  PeakTables peaks;
  peaks.y.resize(p.scales);
  peaks.x.resize(p.scales);
  return peaks;
}

void fill_peak_table(const FuseParams& p, const FuseTables& tables, PeakTables& peaks, int number) {
  const int scale = number / 2, axis = number % 2, length = axis == 0 ? p.image_h : p.image_w;
  const BandTable& table = axis == 0 ? tables.y[scale] : tables.x[scale];
  AxisBounds& bounds = axis == 0 ? peaks.y[scale] : peaks.x[scale];
  for (int a = 0; a < length; a += kPeakTile) {
    const int b = std::min(a + kPeakTile, length);
    float positive = 0.0f, negative = 0.0f;
    for (int i = a; i < b; ++i) {
      float sums[2] = {0.0f, 0.0f};
      for (int t = 0; t < table.taps; ++t) {
        const float weight = table.weights[(size_t)i * table.taps + t];
        sums[0] += std::max(weight, 0.0f);
        sums[1] += std::max(-weight, 0.0f);
      }
      positive = std::max(positive, sums[0]);
      negative = std::max(negative, sums[1]);
    }
    bounds.cells.push_back(cells_under(table, a, b));
    bounds.positive.push_back(positive);
    bounds.negative.push_back(negative);
  }
}

}  // namespace cpm
