// First the columns: every cell row that the tile needs is resampled to the tile's pixels. Then the rows: an image
// row is a weighted sum of those, over all scales at once. Each pixel's sum has one order, whatever the tile.
#include "fuse_tile.h"

#include <algorithm>

// The inner loops are compiled for several instruction sets, and the loader takes the best one there is. None of
// them contracts (-ffp-contract=off), so all give the same bits.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && !defined(CPM_NO_CLONES)
#define CPM_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CPM_CLONES
#endif

namespace cpm {
namespace {

// Eight floats at any address; the compiler splits them where the machine's registers are narrower.
typedef float Lanes __attribute__((vector_size(32), aligned(4), may_alias));
constexpr int kLanes = 8;

// Columns x0..x1-1 of `rows` cell rows. `turned` holds the cells with rows side by side, (w, padded): one pixel's
// weights then serve eight rows at once. Results go to out, whose rows are x1 - x0 wide.
CPM_CLONES
void resample(const float* turned, int padded, const BandTable& table, int x0, int x1, int rows, float* out) {
  const int width = x1 - x0, taps = table.taps;
  for (int x = x0; x < x1; ++x) {
    const float* weights = table.weights.data() + (size_t)x * taps;
    const float* from = turned + (size_t)table.first[x] * padded;
    float* column = out + (x - x0);
    for (int r = 0; r < rows; r += kLanes) {
      Lanes sum = {};
      for (int t = 0; t < taps; ++t) sum = weights[t] * *reinterpret_cast<const Lanes*>(from + (size_t)t * padded + r) + sum;
      const int some = std::min(kLanes, rows - r);
      for (int lane = 0; lane < some; ++lane) column[(size_t)(r + lane) * width] = sum[lane];
    }
  }
}

// kVectors * 8 pixels whose sums stay in registers.
template <int kVectors>
inline __attribute__((always_inline)) void weighted_block(const float* const* terms, const float* factors, int count, int x, float* out) {
  Lanes sum[kVectors] = {};
  for (int k = 0; k < count; ++k) {
    const Lanes* term = reinterpret_cast<const Lanes*>(terms[k] + x);
    for (int v = 0; v < kVectors; ++v) sum[v] = factors[k] * term[v] + sum[v];
  }
  for (int v = 0; v < kVectors; ++v) reinterpret_cast<Lanes*>(out + x)[v] = sum[v];
}

CPM_CLONES
void weighted_sum(const float* const* terms, const float* factors, int count, int width, float* out) {
  int x = 0;
  for (; x + 64 <= width; x += 64) weighted_block<8>(terms, factors, count, x, out);
  for (; x + 16 <= width; x += 16) weighted_block<2>(terms, factors, count, x, out);
  for (; x < width; ++x) {
    float sum = 0.0f;
    for (int k = 0; k < count; ++k) sum = multiply_add(factors[k], terms[k][x], sum);
    out[x] = sum;
  }
}

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
  size_t total = 0;
  for (int s = 0; s < p.scales; ++s) {
    const CellRange range = cells_under(tables.y[s], tile.y0, tile.y1);
    scratch.start[s] = total;
    scratch.first_cell[s] = range.first;
    total += (size_t)(range.last - range.first) * width;
    if (scratch.rows.size() < total) scratch.rows.resize(total);
    const int rows = range.last - range.first, padded = (rows + kLanes - 1) / kLanes * kLanes;
    const float* plane = p.maps + (((long long)s * p.channels + channel) * p.h + range.first) * p.w;
    scratch.turned.assign((size_t)padded * p.w, 0.0f);
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < p.w; ++c) scratch.turned[(size_t)c * padded + r] = plane[(long long)r * p.w + c];
    }
    float* to = scratch.rows.data() + scratch.start[s];
    resample(scratch.turned.data(), padded, tables.x[s], tile.x0, tile.x1, rows, to);
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

void fuse_tile(const FuseParams& p, const FuseTables& tables, int channel, const Tile& tile, float* out, long long pitch,
               TileScratch& scratch) {
  const int width = tile.x1 - tile.x0;
  resample_columns(p, tables, channel, tile, scratch);
  const bool background = p.background && channel == p.channels - 1;
  for (int y = tile.y0; y < tile.y1; ++y) {
    scratch.terms.clear();
    scratch.factors.clear();
    for (int s = 0; s < p.scales; ++s) {
      const BandTable& table = tables.y[s];
      const float* row = scratch.rows.data() + scratch.start[s] + (size_t)(table.first[y] - scratch.first_cell[s]) * width;
      for (int t = 0; t < table.taps; ++t) {
        scratch.terms.push_back(row + (size_t)t * width);
        scratch.factors.push_back(table.weights[(size_t)y * table.taps + t]);
      }
    }
    float* line = out + (y - tile.y0) * pitch;
    weighted_sum(scratch.terms.data(), scratch.factors.data(), (int)scratch.terms.size(), width, line);
    if (background) add_uncovered(p, tables, y, tile.x0, tile.x1, line);
  }
}

}  // namespace cpm
