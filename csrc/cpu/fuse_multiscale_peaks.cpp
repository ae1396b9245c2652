// Branch and bound, exact. What a tile can reach at most follows from the largest and smallest cells under it: that
// leaves few tiles where a bump stands out. Where none does (the background; a part that is not in the picture) the map
// is made at every step-th pixel; between those it cannot leave the straight line by more than the bend of the weights
// times the range of the cells, and only the steps that could hide the maximum are made pixel by pixel.
#include <algorithm>
#include <limits>

#include "fuse_multiscale.h"

namespace cpm {
namespace {

constexpr double kRounding = 1e-5;   // relative; covers the float32 sums with room to spare
constexpr size_t kPlainTiles = 8;    // are made before anything else is tried
constexpr size_t kWorthCoarse = 48;  // tiles still in question that make the coarse map worth its cost
constexpr int kLargestTile = 48;     // pixels; the tables' tiles are at most this
constexpr int kStripWidth = 48;      // coarse pixels made at a time
constexpr int kLevels = 65534;       // of a coarse map that is kept in 16 bits
constexpr int kBandTiles = 100;      // that make a band worth its own search
constexpr int kMostBands = 8;
constexpr float kLargestCell = 1e37f;  // beyond it float32 sums can be infinite on their way to one that is not
constexpr double kUnbounded = std::numeric_limits<double>::infinity();
constexpr double kMerge = 1.5;       // patches are made together when that is at most so much more work

struct Candidate {
  double bound;
  int row, column;  // of tiles
};

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

// The search for the first maximum of one channel, in some rows of tiles.
class Search {
 public:
  Search(const FuseParams& p, const FuseTables& tables, const PeakTables& peaks, int channel, CellRange rows, Reached& reached, PeakScratch& scratch)
      : p_(p), tables_(tables), peaks_(peaks), channel_(channel), reached_(reached), scratch_(scratch), first_(rows.first), last_(rows.last),
        columns_(peak_tiles(p.image_w, peaks)), background_(p.background && channel == p.channels - 1) {}

  Peak run() {
    const std::vector<Candidate> all = candidates();
    size_t k = 0;
    for (; k < all.size() && !(all[k].bound < reached_.value()); ++k) {
      const bool undecided = k == kPlainTiles && k + kWorthCoarse < all.size() && !(all[k + kWorthCoarse].bound < reached_.value());
      if (undecided && peaks_.step > 1 && all.front().bound < kUnbounded && all_finite()) return through_coarse(all, k);
      const int y = all[k].row * peaks_.tile, x = all[k].column * peaks_.tile;
      look_at({y, std::min(y + peaks_.tile, p_.image_h), x, std::min(x + peaks_.tile, p_.image_w)});
    }
    return best_;
  }

 private:
  const float* plane(int scale) const { return p_.maps + ((long long)scale * p_.channels + channel_) * p_.h * p_.w; }
  CellSpan& span(int scale, int row, int column) { return scratch_.spans[((size_t)scale * (last_ - first_) + row - first_) * columns_ + column]; }

  // Tiles by what they can reach, the most promising first; keeps the spans of the cells under them.
  std::vector<Candidate> candidates() {
    require(scratch_.spans, (size_t)p_.scales * (last_ - first_) * columns_);
    std::vector<Candidate> all;
    all.reserve((size_t)(last_ - first_) * columns_);
    // The background's uncovered border adds at most the scale's weight; cover may overshoot a little at a seam.
    for (int i = first_; i < last_; ++i) {
      for (int j = 0; j < columns_; ++j) all.push_back({background_ ? 2.0 : 0.0, i, j});
    }
    std::vector<float> high(p_.w), low(p_.w);
    for (int s = 0; s < p_.scales; ++s) {
      for (int i = first_; i < last_; ++i) {
        column_extremes(plane(s), p_.w, peaks_.y[s].cells[i], high.data(), low.data());
        for (int j = 0; j < columns_; ++j) {
          const CellRange cells = peaks_.x[s].cells[j];
          CellSpan& under = span(s, i, j);
          under.high = *std::max_element(high.data() + cells.first, high.data() + cells.last);
          under.low = *std::min_element(low.data() + cells.first, low.data() + cells.last);
          all[(size_t)(i - first_) * columns_ + j].bound += scale_bound(s, i, j, under);
        }
      }
    }
    std::sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) { return a.bound > b.bound; });
    return all;
  }

  // What a scale can contribute at most to the pixels of a tile.
  double scale_bound(int s, int row, int column, const CellSpan& under) const {
    if (!(under.high <= kLargestCell && under.low >= -kLargestCell)) return kUnbounded;
    const AxisBounds &y = peaks_.y[s], &x = peaks_.x[s];
    const double same = (double)y.positive[row] * x.positive[column] + (double)y.negative[row] * x.negative[column];
    const double opposite = (double)y.positive[row] * x.negative[column] + (double)y.negative[row] * x.positive[column];
    return (same * std::max((double)under.high, 0.0) + opposite * std::max(-(double)under.low, 0.0)) * (1.0 + kRounding);
  }

  bool all_finite() const {
    for (int s = 0; s < p_.scales; ++s) {
      for (long long k = 0; k < (long long)p_.h * p_.w; ++k) {
        if (plane(s)[k] - plane(s)[k] != 0.0f) return false;
      }
    }
    return true;
  }

  // Makes a patch of at most kLargestTile + 1 squared pixels and keeps its maximum if it is the best so far.
  void look_at(const Tile& tile) {
    float values[(kLargestTile + 1) * (kLargestTile + 1)];
    const int width = tile.x1 - tile.x0;
    fuse_tile(p_, tables_, channel_, tile, values, width, scratch_.tile);
    for (int y = tile.y0; y < tile.y1; ++y) {
      for (int x = tile.x0; x < tile.x1; ++x) {
        const float value = values[(y - tile.y0) * width + x - tile.x0];
        if (!(value >= best_.value)) continue;  // also when the value is NaN
        const long long rank = scan_rank(y, x, p_.image_h, p_.image_w, p_.row_major);
        if (value > best_.value || rank < best_.rank) best_ = {value, y, x, rank};
      }
    }
    reached_.raise(best_.value);
  }

  Peak through_coarse(const std::vector<Candidate>& all, size_t first) {
    double largest = background_ ? 2.0 : 0.0;  // of what is summed: rounding is relative to it
    for (int s = 0; s < p_.scales; ++s) {
      const float* cells = plane(s);
      const auto ends = std::minmax_element(cells, cells + (long long)p_.h * p_.w);
      largest += (double)peaks_.y[s].norm * peaks_.x[s].norm * std::max(fabs((double)*ends.first), fabs((double)*ends.second));
    }
    const double rounding = kRounding * largest;
    const float highest = make_coarse(largest * (1.0 + kRounding) + (double)std::numeric_limits<float>::min());
    double reached = std::max((double)reached_.value(), (double)highest - rounding);
    for (size_t k = first; k < all.size() && !(all[k].bound < reached); ++k) {
      look_at_steps(all[k].row, all[k].column, reached - rounding);
      reached = std::max(reached, (double)reached_.value());
    }
    return best_;
  }

  // The band's map at every step-th pixel, into scratch, rounded up to levels above -limit; its maximum. No value is beyond
  // the limit.
  float make_coarse(double limit) {
    const FuseParams& c = peaks_.params;
    lowest_ = -limit;
    level_ = 2.0 * limit / kLevels;
    const int top = coarse_row(first_), height = std::min(coarse_row(last_) + 1, c.image_h) - top;
    require(scratch_.coarse, (size_t)height * c.image_w);
    require(scratch_.strip, (size_t)height * kStripWidth);
    float highest = -std::numeric_limits<float>::infinity();
    for (int x = 0; x < c.image_w; x += kStripWidth) {
      const int width = std::min(kStripWidth, c.image_w - x);
      fuse_tile(c, peaks_.coarse, channel_, {top, top + height, x, x + width}, scratch_.strip.data(), width, scratch_.tile);
      for (int y = 0; y < height; ++y) {
        const float* from = scratch_.strip.data() + (size_t)y * width;
        highest = std::max(highest, *std::max_element(from, from + width));
        levels(from, width, scratch_.coarse.data() + (size_t)y * c.image_w + x);
      }
    }
    return highest;
  }

  // The coarse row with which a row of tiles begins.
  int coarse_row(int row) const { return row * (peaks_.tile / peaks_.step); }

  // Levels that lie above the values.
  void levels(const float* values, int count, unsigned short* to) const {
    const double each = 1.0 / level_;
    for (int k = 0; k < count; ++k) to[k] = (unsigned short)(clamp_int(((double)values[k] - lowest_) * each, 0, kLevels) + 1);
  }

  // How far pixels inside a step may lie above the straight line between its ends, for the steps of a tile along one
  // axis. With the cells written as their middle plus a rest: the middle acts through the sums of the weights, which
  // change only where the network's input ends, the rest through their magnitudes.
  void deviations(int row, int column, int axis, int first, int count, double* above) {
    std::fill_n(above, count, 0.0);
    for (int s = 0; s < p_.scales; ++s) {
      const AxisBounds &along = axis == 0 ? peaks_.y[s] : peaks_.x[s], &across = axis == 0 ? peaks_.x[s] : peaks_.y[s];
      const double rest = span(s, row, column).radius() * across.norm, middle = fabs(span(s, row, column).middle()) * across.sum;
      const double border = background_ ? (double)p_.weight[s] * across.cover : 0.0;
      for (int k = 0; k < count; ++k) {
        above[k] += rest * along.bend[first + k] + middle * along.drift[first + k] + border * along.cover_drift[first + k];
      }
    }
  }

  // Makes the steps of a tile that could reach `wanted`: row by row the stretch that holds them, rows with like
  // stretches together.
  void look_at_steps(int row, int column, double wanted) {
    const int steps = peaks_.tile / peaks_.step, pitch = peaks_.params.image_w;
    const int y = coarse_row(row), x = column * steps;
    const int height = std::min(steps, peaks_.params.image_h - 1 - y), width = std::min(steps, pitch - 1 - x);
    if (height <= 0 || width <= 0) return;  // a last tile of one pixel: its neighbour looks at that
    double above_y[kLargestTile], above_x[kLargestTile];
    deviations(row, column, 0, y, height, above_y);
    deviations(row, column, 1, x, width, above_x);
    Tile box{0, 0, 0, 0};  // in steps
    for (int i = 0; i < height; ++i) {
      const unsigned short* top = scratch_.coarse.data() + (size_t)(y - coarse_row(first_) + i) * pitch + x;
      int first = width, last = 0;
      for (int j = 0; j < width; ++j) {
        const int corner = std::max(std::max(top[j], top[j + 1]), std::max(top[pitch + j], top[pitch + j + 1]));
        if (lowest_ + corner * level_ + above_y[i] + above_x[j] < wanted) continue;
        first = std::min(first, j);
        last = j + 1;
      }
      if (first >= last) continue;
      const Tile both{box.y0, i + 1, std::min(box.x0, first), std::max(box.x1, last)};
      if (box.y1 == i && area(both) <= kMerge * (area(box) + last - first)) {
        box = both;
        continue;
      }
      look_at_box(y, x, box);
      box = {i, i + 1, first, last};
    }
    look_at_box(y, x, box);
  }

  static double area(const Tile& box) { return (double)(box.y1 - box.y0) * (box.x1 - box.x0); }

  // Makes a box of steps, relative to step (y, x), with the pixels at both ends.
  void look_at_box(int y, int x, const Tile& box) {
    if (area(box) == 0.0) return;
    const int step = peaks_.step;
    look_at({(y + box.y0) * step, std::min((y + box.y1) * step + 1, p_.image_h), (x + box.x0) * step, std::min((x + box.x1) * step + 1, p_.image_w)});
  }

  const FuseParams& p_;
  const FuseTables& tables_;
  const PeakTables& peaks_;
  const int channel_;
  Reached& reached_;
  PeakScratch& scratch_;
  const int first_, last_, columns_;  // of tiles
  const bool background_;
  double lowest_ = 0.0, level_ = 0.0;  // of the coarse map: level 0, and what a level adds
  Peak best_{-std::numeric_limits<float>::infinity(), 0, 0, std::numeric_limits<long long>::max()};
};

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

int peak_bands(const FuseParams& p, const PeakTables& peaks, int channel) {
  const int rows = peak_tiles(p.image_h, peaks), columns = peak_tiles(p.image_w, peaks);
  if (!p.background || channel != p.channels - 1) return 1;
  return std::max(std::min({(int)((long long)rows * columns / kBandTiles), rows, kMostBands}), 1);
}

Peak find_peak_cpu(const FuseParams& p, const FuseTables& tables, const PeakTables& peaks, int channel, int band, int bands, Reached& reached, PeakScratch& scratch) {
  const long long rows = peak_tiles(p.image_h, peaks);
  return Search(p, tables, peaks, channel, {(int)(rows * band / bands), (int)(rows * (band + 1) / bands)}, reached, scratch).run();
}

void peak_position(const FuseParams& p, const FuseTables& tables, int channel, const Peak& peak, float* xy) {
  xy[0] = (float)peak.x;
  xy[1] = (float)peak.y;
  if (!p.subpixel) return;
  const float here = fused_value(p, tables, channel, peak.y, peak.x);
  if (peak.x > 0 && peak.x + 1 < p.image_w) {
    xy[0] += parabola_top(fused_value(p, tables, channel, peak.y, peak.x - 1), here, fused_value(p, tables, channel, peak.y, peak.x + 1));
  }
  if (peak.y > 0 && peak.y + 1 < p.image_h) {
    xy[1] += parabola_top(fused_value(p, tables, channel, peak.y - 1, peak.x), here, fused_value(p, tables, channel, peak.y + 1, peak.x));
  }
}

}  // namespace cpm
