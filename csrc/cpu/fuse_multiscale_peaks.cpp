// Exact. Where a bump stands out, branch and bound: what a tile can reach at most follows from the largest and smallest
// cells under it, and few tiles can reach the bump. Where none does (the background, a part that is not in the picture)
// pixels are made as in the fusion, some rows of a strip at a time, and never leave the cache.
#include <algorithm>
#include <limits>

#include "clones.h"
#include "fuse_multiscale.h"

namespace cpm {
namespace {

constexpr double kRounding = 1.2e-7;   // of a float32 sum for each of its terms, relative to their magnitudes
constexpr double kDenormals = 1.2e-38;  // more than the rounding of a sum's terms below 2^-126, which is not relative
constexpr size_t kPlainTiles = 8;      // are made before anything else is tried
constexpr size_t kWorthStrips = 48;    // tiles still in question that make strips cheaper
constexpr float kLargestCell = 1e37f;  // beyond it float32 sums can be infinite on their way to one that is not
constexpr float kLowest = -std::numeric_limits<float>::infinity();
constexpr double kUnbounded = std::numeric_limits<double>::infinity();

struct Candidate {
  double bound;
  int row, column;  // of tiles
};

// Largest and smallest value of each column over some cell rows.
CPM_CLONES
void column_extremes(const float* plane, int w, CellRange rows, float* high, float* low) {
  std::fill_n(high, w, kLowest);
  std::fill_n(low, w, -kLowest);
  for (int r = rows.first; r < rows.last; ++r) {
    for (int c = 0; c < w; ++c) {
      high[c] = std::max(high[c], plane[r * (long long)w + c]);
      low[c] = std::min(low[c], plane[r * (long long)w + c]);
    }
  }
}

// Of the values that are numbers.
CPM_CLONES
float largest(const float* values, int count) {
  constexpr int kLanes = 32;
  float lanes[kLanes], most = kLowest;
  for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = kLowest;
  int k = 0;
  for (; k + kLanes <= count; k += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = values[k + lane] > lanes[lane] ? values[k + lane] : lanes[lane];
  }
  for (; k < count; ++k) most = values[k] > most ? values[k] : most;
  for (int lane = 0; lane < kLanes; ++lane) most = lanes[lane] > most ? lanes[lane] : most;
  return most;
}

// The search for the first maximum of one channel.
class Search {
 public:
  Search(const FuseParams& p, const FuseTables& tables, const PeakTables& peaks, int channel, Reached& reached, PeakScratch& scratch)
      : p_(p), tables_(tables), peaks_(peaks), channel_(channel), reached_(reached), scratch_(scratch),
        rows_(peak_tiles(p.image_h)), columns_(peak_tiles(p.image_w)) {
    int across = 0, down = 0;
    for (int s = 0; s < p.scales; ++s) {
      across = std::max(across, tables.x[s].taps);
      down += tables.y[s].taps;
    }
    rounded_up_ = 1.0 + kRounding * (across + down);
  }

  // Of a part: the most promising tiles first.
  Peak of_part() {
    fill_bounds();
    std::vector<Candidate> all;
    all.reserve(scratch_.bounds.size());
    for (int i = 0; i < rows_; ++i) {
      for (int j = 0; j < columns_; ++j) all.push_back({bound(i, j), i, j});
    }
    std::sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) { return a.bound > b.bound; });
    for (size_t k = 0; k < all.size() && !(all[k].bound < reached_.value()); ++k) {
      const bool undecided = k == kPlainTiles && k + kWorthStrips < all.size() && !(all[k + kWorthStrips].bound < reached_.value());
      if (undecided) return in_strips();
      look_at_tile(all[k].row, all[k].column);
    }
    return best_;
  }

  // Of one tile of the fusion, of a channel without bounds.
  Peak of_piece(int piece) {
    look_at_strip(fusion_tile(p_, piece), [](int, int, int) { return true; });
    return best_;
  }

 private:
  double& bound(int row, int column) { return scratch_.bounds[(size_t)row * columns_ + column]; }

  // What the tiles of a part can reach.
  void fill_bounds() {
    scratch_.bounds.assign((size_t)rows_ * columns_, 0.0);
    std::vector<float> high(p_.w), low(p_.w);
    for (int s = 0; s < p_.scales; ++s) {
      const float* plane = p_.maps + ((long long)s * p_.channels + channel_) * p_.h * p_.w;
      for (int i = 0; i < rows_; ++i) {
        column_extremes(plane, p_.w, peaks_.y[s].cells[i], high.data(), low.data());
        for (int j = 0; j < columns_; ++j) {
          const CellRange cells = peaks_.x[s].cells[j];
          const float most = *std::max_element(high.data() + cells.first, high.data() + cells.last);
          const float least = *std::min_element(low.data() + cells.first, low.data() + cells.last);
          bound(i, j) += scale_bound(s, i, j, most, least);
        }
      }
    }
  }

  // What a scale can contribute at most to the pixels of a tile over cells from `least` to `most`.
  double scale_bound(int s, int row, int column, float most, float least) const {
    if (!(most <= kLargestCell && least >= -kLargestCell)) return kUnbounded;
    const AxisBounds &y = peaks_.y[s], &x = peaks_.x[s];
    const double same = (double)y.positive[row] * x.positive[column] + (double)y.negative[row] * x.negative[column];
    const double opposite = (double)y.positive[row] * x.negative[column] + (double)y.negative[row] * x.positive[column];
    return (same * std::max((double)most, 0.0) + opposite * std::max(-(double)least, 0.0)) * rounded_up_ + kDenormals;
  }

  void look_at_tile(int row, int column) {
    const int y = row * kPeakTile, x = column * kPeakTile;
    const Tile tile{y, std::min(y + kPeakTile, p_.image_h), x, std::min(x + kPeakTile, p_.image_w)};
    float values[kPeakTile * kPeakTile];
    fuse_tile(p_, tables_, channel_, tile, values, tile.x1 - tile.x0, scratch_.tile);
    keep_best(tile, values);
  }

  // All tiles that can still be the best, as many side by side as the fusion makes at once.
  Peak in_strips() {
    for (int piece = 0; piece < tiles_per_channel(p_); ++piece) {
      look_at_strip(fusion_tile(p_, piece), [this](int row, int first, int last) {
        for (int j = first; j < last; ++j) {
          if (!(bound(row, j) < reached_.value())) return true;
        }
        return false;
      });
    }
    return best_;
  }

  // Makes a row of tiles of a strip after the other; worth(row, first column, last column + 1) says which.
  template <typename Worth>
  void look_at_strip(const Tile& strip, const Worth& worth) {
    float values[kPeakTile * kTileWidth];
    const int first = strip.x0 / kPeakTile, last = peak_tiles(strip.x1);
    bool resampled = false;
    for (int y = strip.y0; y < strip.y1; y += kPeakTile) {
      if (!worth(y / kPeakTile, first, last)) continue;
      if (!resampled) resample_tile(p_, tables_, channel_, strip, scratch_.tile);
      resampled = true;
      const Tile rows{y, std::min(y + kPeakTile, strip.y1), strip.x0, strip.x1};
      tile_rows(p_, tables_, channel_, rows, values, rows.x1 - rows.x0, scratch_.tile);
      keep_best(rows, values);
    }
  }

  // Keeps the first maximum of a patch if it is the best so far.
  void keep_best(const Tile& tile, const float* values) {
    const int width = tile.x1 - tile.x0;
    const float top = largest(values, width * (tile.y1 - tile.y0));
    if (top < reached_.value()) return;
    if (top == best_.value && scan_rank(tile.y0, tile.x0, p_.image_h, p_.image_w, p_.row_major) > best_.rank) return;
    for (int y = tile.y0; y < tile.y1; ++y) {
      for (int x = tile.x0; x < tile.x1; ++x) {
        if (values[(y - tile.y0) * width + x - tile.x0] != top) continue;
        const long long rank = scan_rank(y, x, p_.image_h, p_.image_w, p_.row_major);
        if (top > best_.value || rank < best_.rank) best_ = {top, y, x, rank};
      }
    }
    reached_.raise(best_.value);
  }

  const FuseParams& p_;
  const FuseTables& tables_;
  const PeakTables& peaks_;
  const int channel_;
  Reached& reached_;
  PeakScratch& scratch_;
  const int rows_, columns_;  // of tiles
  double rounded_up_;         // times what exact sums can reach: what float32 sums can
  Peak best_{kLowest, 0, 0, std::numeric_limits<long long>::max()};
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

bool is_background(const FuseParams& p, int channel) { return p.background && channel == p.channels - 1; }

}  // namespace

int peak_pieces(const FuseParams& p, int channel) { return is_background(p, channel) ? tiles_per_channel(p) : 1; }

Peak find_peak_cpu(const FuseParams& p, const FuseTables& tables, const PeakTables& peaks, int channel, int piece, Reached& reached,
                   PeakScratch& scratch) {
  Search search(p, tables, peaks, channel, reached, scratch);
  return is_background(p, channel) ? search.of_piece(piece) : search.of_part();
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
