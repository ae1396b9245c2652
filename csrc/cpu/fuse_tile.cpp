// First the columns: every cell row that the tile needs is resampled to the tile's pixels. Then the rows: an image
// row is a weighted sum of those, over all scales at once. Each pixel's sum has one order, whatever the tile and the thread.
#include "fuse_tile.h"

#include <algorithm>

#include "clones.h"

namespace cpm {
namespace {

// Eight floats at any address; the compiler splits them where the machine's registers are narrower.
typedef float Lanes __attribute__((vector_size(32), aligned(4), may_alias));
constexpr int kLanes = 8;

// Columns x0..x1-1 of `rows` cell rows. `turned` holds the cells with rows side by side, (w, padded): one pixel's
// weights then serve eight rows at once. Results go to out, whose rows are x1 - x0 wide.
template <int kTaps>
CPM_ALWAYS_INLINE void resample_rows(const float* turned, int padded, const BandTable& table, int x0, int x1, int rows, float* out) {
  const int width = x1 - x0, taps = kTaps > 0 ? kTaps : table.taps;
  for (int x = x0; x < x1; ++x) {
    const float* weights = table.weights.data() + (size_t)x * taps;
    const float* from = turned + (size_t)table.first[x] * padded;
    float* column = out + (x - x0);
    for (int r = 0; r < rows; r += kLanes) {
      Lanes sum = {};
      for (int t = 0; t < taps; ++t) sum = weights[t] * *reinterpret_cast<const Lanes*>(from + (size_t)t * padded + r) + sum;
      float* to = column + (size_t)r * width;
      if (rows - r >= kLanes) {
        for (int lane = 0; lane < kLanes; ++lane) to[(size_t)lane * width] = sum[lane];
      } else {
        for (int lane = 0; lane < rows - r; ++lane) to[(size_t)lane * width] = sum[lane];
      }
    }
  }
}

CPM_CLONES
void resample(const float* turned, int padded, const BandTable& table, int x0, int x1, int rows, float* out) {
  if (table.taps == 4) return resample_rows<4>(turned, padded, table, x0, x1, rows, out);
  if (table.taps == 5) return resample_rows<5>(turned, padded, table, x0, x1, rows, out);
  if (table.taps == 6) return resample_rows<6>(turned, padded, table, x0, x1, rows, out);
  resample_rows<0>(turned, padded, table, x0, x1, rows, out);
}

CPM_CLONES
void add_uncovered(const FuseParams& p, const FuseTables& tables, int y, int x0, int x1, float* out) {
  for (int s = 0; s < p.scales; ++s) {
    const float cover_y = tables.y[s].cover[y];
    const float* cover_x = tables.x[s].cover.data();
    for (int x = x0; x < x1; ++x) out[x - x0] = multiply_add(p.weight[s], uncovered(cover_y, cover_x[x]), out[x - x0]);
  }
}

void resample_columns(const FuseParams& p, const FuseTables& tables, int channel, const Tile& tile, TileScratch& scratch) {
  const int width = tile.x1 - tile.x0;
  scratch.start.resize(p.scales);
  scratch.first_cell.resize(p.scales);
  std::vector<CellRange> ranges;
  size_t total = 0;
  for (int s = 0; s < p.scales; ++s) {
    ranges.push_back(cells_under(tables.y[s], tile.y0, tile.y1));
    scratch.start[s] = total;
    scratch.first_cell[s] = ranges[s].first;
    total += (size_t)(ranges[s].last - ranges[s].first) * width;
  }
  scratch.rows.require(total);
  for (int s = 0; s < p.scales; ++s) {
    const int rows = ranges[s].last - ranges[s].first, padded = (rows + kLanes - 1) / kLanes * kLanes;
    const float* plane = p.maps + (((long long)s * p.channels + channel) * p.h + ranges[s].first) * p.w;
    scratch.turned.require((size_t)padded * p.w);
    float* turned = scratch.turned.data();
    const CellRange columns = cells_under(tables.x[s], tile.x0, tile.x1);
    std::fill_n(turned + (size_t)padded * columns.first, (size_t)padded * (columns.last - columns.first), 0.0f);
    for (int r = 0; r < rows; ++r) {
      for (int c = columns.first; c < columns.last; ++c) turned[(size_t)c * padded + r] = plane[(long long)r * p.w + c];
    }
    resample(turned, padded, tables.x[s], tile.x0, tile.x1, rows, scratch.rows.data() + scratch.start[s]);
  }
}

}  // namespace

CellRange cells_under(const BandTable& table, int a, int b) {
  CellRange range;
  const auto ends = std::minmax_element(table.first.begin() + a, table.first.begin() + b);
  range.first = *ends.first;
  range.last = *ends.second + table.taps;
  return range;
}

void resample_tile(const FuseParams& p, const FuseTables& tables, int channel, const Tile& tile, TileScratch& scratch) {
  resample_columns(p, tables, channel, tile, scratch);
  scratch.strips.clear();
  for (int s = 0; s < p.scales; ++s) {
    const BandTable& table = tables.y[s];
    scratch.strips.push_back({scratch.rows.data() + scratch.start[s], table.weights.data(), table.first.data(), table.taps, scratch.first_cell[s], tile.x1 - tile.x0});
  }
}

void tile_rows(const FuseParams& p, const FuseTables& tables, int channel, const Tile& rows, float* out, long long pitch,
               const TileScratch& scratch) {
  weighted_rows(scratch.strips, rows.y0, rows.y1, rows.x1 - rows.x0, out, pitch);
  if (!p.background || channel != p.channels - 1) return;
  for (int y = rows.y0; y < rows.y1; ++y) add_uncovered(p, tables, y, rows.x0, rows.x1, out + (y - rows.y0) * pitch);
}

void fuse_tile(const FuseParams& p, const FuseTables& tables, int channel, const Tile& tile, float* out, long long pitch,
               TileScratch& scratch) {
  resample_tile(p, tables, channel, tile, scratch);
  tile_rows(p, tables, channel, tile, out, pitch, scratch);
}

}  // namespace cpm
