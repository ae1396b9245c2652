// First the columns: every cell row that the tile needs is resampled to the tile's pixels. Then the rows: an image
// row is a weighted sum of those, over all scales at once. Each pixel's sum has one order, whatever the tile and the thread.
#include "fuse_tile.h"

#include <algorithm>

#include "clones.h"
#ifdef CPM_X86
#include <immintrin.h>
#endif

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

// Widths at which the sums of a block of pixels stay in registers.
constexpr int kWide = 8, kNarrow = 2;

template <int kVectors>
CPM_ALWAYS_INLINE void weighted_block(const float* const* terms, const float* factors, int count, int x, float* out) {
  Lanes sum[kVectors] = {};
  for (int k = 0; k < count; ++k) {
    const Lanes* term = reinterpret_cast<const Lanes*>(terms[k] + x);
    for (int v = 0; v < kVectors; ++v) sum[v] = factors[k] * term[v] + sum[v];
  }
  for (int v = 0; v < kVectors; ++v) reinterpret_cast<Lanes*>(out + x)[v] = sum[v];
}

void weighted_sum_plain(const float* const* terms, const float* factors, int count, int width, float* out) {
  int x = 0;
  for (; x + kWide * kLanes <= width; x += kWide * kLanes) weighted_block<kWide>(terms, factors, count, x, out);
  for (; x + kNarrow * kLanes <= width; x += kNarrow * kLanes) weighted_block<kNarrow>(terms, factors, count, x, out);
  for (; x + kLanes <= width; x += kLanes) weighted_block<1>(terms, factors, count, x, out);
  if (x < width && width >= kLanes) weighted_block<1>(terms, factors, count, width - kLanes, out);  // some twice: the same values
  for (; x < width && width < kLanes; ++x) {
    float sum = 0.0f;
    for (int k = 0; k < count; ++k) sum = multiply_add(factors[k], terms[k][x], sum);
    out[x] = sum;
  }
}

#ifdef CPM_X86
// The same with fused multiply-adds: twice as fast, other last bits (the tolerance of this operator allows it).
template <int kVectors>
__attribute__((target("avx2,fma"))) inline void weighted_block_fma(const float* const* terms, const float* factors, int count, int x, float* out) {
  __m256 sum[kVectors];
  for (int v = 0; v < kVectors; ++v) sum[v] = _mm256_setzero_ps();
  for (int k = 0; k < count; ++k) {
    const __m256 factor = _mm256_broadcast_ss(factors + k);
    for (int v = 0; v < kVectors; ++v) sum[v] = _mm256_fmadd_ps(factor, _mm256_loadu_ps(terms[k] + x + v * kLanes), sum[v]);
  }
  for (int v = 0; v < kVectors; ++v) _mm256_storeu_ps(out + x + v * kLanes, sum[v]);
}

__attribute__((target("avx2,fma"))) void weighted_sum_fma(const float* const* terms, const float* factors, int count, int width, float* out) {
  int x = 0;
  for (; x + kWide * kLanes <= width; x += kWide * kLanes) weighted_block_fma<kWide>(terms, factors, count, x, out);
  for (; x + kNarrow * kLanes <= width; x += kNarrow * kLanes) weighted_block_fma<kNarrow>(terms, factors, count, x, out);
  for (; x + kLanes <= width; x += kLanes) weighted_block_fma<1>(terms, factors, count, x, out);
  if (x < width && width >= kLanes) weighted_block_fma<1>(terms, factors, count, width - kLanes, out);
  for (; x < width && width < kLanes; ++x) {
    float sum = 0.0f;
    for (int k = 0; k < count; ++k) sum = __builtin_fmaf(factors[k], terms[k][x], sum);
    out[x] = sum;
  }
}

const bool has_fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif

void weighted_sum(const float* const* terms, const float* factors, int count, int width, float* out) {
#ifdef CPM_X86
  if (has_fma) return weighted_sum_fma(terms, factors, count, width, out);
#endif
  weighted_sum_plain(terms, factors, count, width, out);
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

void fuse_tile(const FuseParams& p, const FuseTables& tables, int channel, const Tile& tile, float* out, long long pitch,
               TileScratch& scratch) {
  const int width = tile.x1 - tile.x0;
  resample_columns(p, tables, channel, tile, scratch);
  const bool background = p.background && channel == p.channels - 1;
  size_t most = 0;
  for (const BandTable& table : tables.y) most += (size_t)table.taps;
  if (scratch.terms.size() < most) {
    scratch.terms.resize(most);
    scratch.factors.resize(most);
  }
  const float* cells = scratch.rows.data();
  const float** terms = scratch.terms.data();
  float* factors = scratch.factors.data();
  for (int y = tile.y0; y < tile.y1; ++y) {
    size_t count = 0;
    for (int s = 0; s < p.scales; ++s) {
      const BandTable& table = tables.y[s];
      const float* row = cells + scratch.start[s] + (size_t)(table.first[y] - scratch.first_cell[s]) * width;
      const float* weights = table.weights.data() + (size_t)y * table.taps;
      for (int t = 0; t < table.taps; ++t, ++count) {
        terms[count] = row + (size_t)t * width;
        factors[count] = weights[t];
      }
    }
    float* line = out + (y - tile.y0) * pitch;
    weighted_sum(terms, factors, (int)count, width, line);
    if (background) add_uncovered(p, tables, y, tile.x0, tile.x1, line);
  }
}

}  // namespace cpm
