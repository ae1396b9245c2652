// Branch and bound: what a tile can reach at most follows from the largest and smallest cells under it. Tiles are
// evaluated from the most promising down, until none can reach the best value any more.
#include <algorithm>
#include <limits>

#include "fuse_multiscale.h"

namespace cpm {
namespace {

constexpr int kTile = 32;
constexpr double kRounding = 1e-5;  // relative; covers the float32 sums of the tiles with room to spare

struct Candidate {
  double bound;
  Tile tile;
};

// Largest positive and negative sums of weights over the pixels of each tile along one axis of one scale.
struct AxisBound {
  CellRange cells;
  double positive, negative;
};

std::vector<AxisBound> axis_bounds(const BandTable& table, int length) {
  std::vector<AxisBound> bounds;
  for (int a = 0; a < length; a += kTile) {
    const int b = std::min(a + kTile, length);
    AxisBound bound;
    bound.cells = cells_under(table, a, b);
    bound.positive = *std::max_element(table.positive.begin() + a, table.positive.begin() + b);
    bound.negative = *std::max_element(table.negative.begin() + a, table.negative.begin() + b);
    bounds.push_back(bound);
  }
  return bounds;
}

// Largest and smallest value of each column over some cell rows.
void column_extremes(const float* plane, int w, CellRange rows, float* high, float* low) {
  std::fill_n(high, w, -std::numeric_limits<float>::infinity());
  std::fill_n(low, w, std::numeric_limits<float>::infinity());
  for (int r = rows.first; r < rows.last; ++r) {
    for (int c = 0; c < w; ++c) {
      high[c] = std::max(high[c], plane[r * (long long)w + c]);
      low[c] = std::min(low[c], plane[r * (long long)w + c]);
    }
  }
}

// Adds what scale s can contribute at most to the bounds of one row of tiles.
void add_scale_bound(const AxisBound& y, const std::vector<AxisBound>& columns, const float* high, const float* low,
                     Candidate* row) {
  for (size_t k = 0; k < columns.size(); ++k) {
    const AxisBound& x = columns[k];
    const double top = *std::max_element(high + x.cells.first, high + x.cells.last);
    const double bottom = *std::min_element(low + x.cells.first, low + x.cells.last);
    const double gain = (y.positive * x.positive + y.negative * x.negative) * std::max(top, 0.0);
    const double rest = (y.positive * x.negative + y.negative * x.positive) * std::max(-bottom, 0.0);
    row[k].bound += (gain + rest) * (1.0 + kRounding);
  }
}

std::vector<Candidate> candidates(const FuseParams& p, const FuseTables& tables, int channel) {
  const int rows = (p.image_h + kTile - 1) / kTile, columns = (p.image_w + kTile - 1) / kTile;
  std::vector<Candidate> all((size_t)rows * columns);
  // The background's uncovered border adds at most the scale's weight; cover may overshoot a little at a seam.
  const double border = p.background && channel == p.channels - 1 ? 2.0 : 0.0;
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < columns; ++j) {
      Candidate& one = all[(size_t)i * columns + j];
      one.bound = border;
      one.tile = {i * kTile, std::min((i + 1) * kTile, p.image_h), j * kTile, std::min((j + 1) * kTile, p.image_w)};
    }
  }
  std::vector<float> high(p.w), low(p.w);
  for (int s = 0; s < p.scales; ++s) {
    const float* plane = p.maps + ((long long)s * p.channels + channel) * p.h * p.w;
    const std::vector<AxisBound> y = axis_bounds(tables.y[s], p.image_h), x = axis_bounds(tables.x[s], p.image_w);
    for (int i = 0; i < rows; ++i) {
      column_extremes(plane, p.w, y[i].cells, high.data(), low.data());
      add_scale_bound(y[i], x, high.data(), low.data(), all.data() + (size_t)i * columns);
    }
  }
  return all;
}

// Best of every kPeakPieces-th candidate from the `piece`-th on: the pieces of a channel see equally promising tiles.
Peak find_peak(const FuseParams& p, const FuseTables& tables, int channel, int piece, TileScratch& scratch) {
  std::vector<Candidate> all = candidates(p, tables, channel);
  std::sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) { return a.bound > b.bound; });
  Peak best{-std::numeric_limits<float>::infinity(), 0, 0, std::numeric_limits<long long>::max()};
  float values[kTile * kTile];
  for (size_t k = (size_t)piece; k < all.size(); k += kPeakPieces) {
    const Candidate& one = all[k];
    if (one.bound < best.value) break;
    const Tile& tile = one.tile;
    fuse_tile(p, tables, channel, tile, values, kTile, scratch);
    for (int y = tile.y0; y < tile.y1; ++y) {
      for (int x = tile.x0; x < tile.x1; ++x) {
        const float value = values[(y - tile.y0) * kTile + x - tile.x0];
        if (!(value >= best.value)) continue;  // also when the value is NaN
        const long long rank = scan_rank(y, x, p.image_h, p.image_w, p.row_major);
        if (value > best.value || rank < best.rank) best = {value, y, x, rank};
      }
    }
  }
  return best;
}

// The larger one; of equal ones the one that is found first.
Peak better_peak(const Peak& a, const Peak& b) {
  if (a.value != b.value) return a.value > b.value ? a : b;
  return a.rank < b.rank ? a : b;
}

// One fused pixel by itself, for the few that refine a position.
float fused_value(const FuseParams& p, const FuseTables& tables, int channel, int y, int x) {
  float sum = 0.0f;
  for (int s = 0; s < p.scales; ++s) {
    const BandTable &rows = tables.y[s], &columns = tables.x[s];
    const float* plane = p.maps + ((long long)s * p.channels + channel) * p.h * p.w;
    for (int r = 0; r < rows.taps; ++r) {
      const float* cells = plane + (long long)(rows.first[y] + r) * p.w + columns.first[x];
      float line = 0.0f;
      for (int c = 0; c < columns.taps; ++c) line += columns.weights[(size_t)x * columns.taps + c] * cells[c];
      sum += rows.weights[(size_t)y * rows.taps + r] * line;
    }
    if (p.background && channel == p.channels - 1) sum += p.weight[s] * uncovered(rows.cover[y], columns.cover[x]);
  }
  return sum;
}

}  // namespace

void fuse_multiscale_peaks_cpu(const FuseParams& p, const FuseTables& tables, long long first, long long last, Peak* peaks) {
  TileScratch scratch;
  for (long long task = first; task < last; ++task) {
    peaks[task] = find_peak(p, tables, (int)(task % p.channels), (int)(task / p.channels), scratch);
  }
}

float finish_peak(const FuseParams& p, const FuseTables& tables, int channel, const Peak* peaks, float* xy) {
  Peak best = peaks[channel];
  for (int piece = 1; piece < kPeakPieces; ++piece) best = better_peak(best, peaks[piece * p.channels + channel]);
  xy[0] = (float)best.x;
  xy[1] = (float)best.y;
  if (!p.subpixel) return best.value;
  const float here = fused_value(p, tables, channel, best.y, best.x);
  if (best.x > 0 && best.x + 1 < p.image_w) {
    xy[0] += parabola_top(fused_value(p, tables, channel, best.y, best.x - 1), here, fused_value(p, tables, channel, best.y, best.x + 1));
  }
  if (best.y > 0 && best.y + 1 < p.image_h) {
    xy[1] += parabola_top(fused_value(p, tables, channel, best.y - 1, best.x), here, fused_value(p, tables, channel, best.y + 1, best.x));
  }
  return best.value;
}

}  // namespace cpm
