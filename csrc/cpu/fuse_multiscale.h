#pragma once

#include <atomic>
#include <limits>

#include "fuse_tile.h"
#include "peak_bounds.h"

namespace cpm {

// Full-size maps are made in tiles. Narrow enough for the rows in use to stay in the first-level cache (7 scales x 6
// taps x 128 floats = 21 KB), and so high that few cell rows are resampled twice.
constexpr int kTileWidth = 128, kTileHeight = 1024;

int tiles_per_channel(const FuseParams& params);
Tile fusion_tile(const FuseParams& params, int number);  // within its channel
inline long long fuse_tiles(const FuseParams& params) { return (long long)params.channels * tiles_per_channel(params); }

// Writes tiles first..last-1 of all channels.
void fuse_multiscale_cpu(const FuseParams& params, const FuseTables& tables, long long first, long long last);

struct Peak {
  float value;
  int y, x;
  long long rank;  // scan_rank of the pixel
};

// Space that is used again from channel to channel; one per thread.
struct PeakScratch {
  TileScratch tile;
  std::vector<double> bounds;  // (tile rows, tile columns) what each can reach
};

// The highest value that any search of a channel has found: what cannot reach it is skipped by all of them.
class Reached {
 public:
  float value() const { return value_.load(std::memory_order_relaxed); }
  void raise(float to) {
    float now = value();
    while (to > now && !value_.compare_exchange_weak(now, to, std::memory_order_relaxed)) {
    }
  }

 private:
  std::atomic<float> value_{-std::numeric_limits<float>::infinity()};
};

// In how many pieces a channel is searched, so that threads can share its search: every pixel of the background has to
// be made.
int peak_pieces(const FuseParams& params, int channel);

// The first maximum of a piece of a channel; if another one's is higher, perhaps any pixel.
Peak find_peak_cpu(const FuseParams& params, const FuseTables& tables, const PeakTables& peaks, int channel, int piece, Reached& reached,
                   PeakScratch& scratch);

// The first of the higher ones.
inline const Peak& higher(const Peak& a, const Peak& b) { return b.value > a.value || (b.value == a.value && b.rank < a.rank) ? b : a; }

// Its position, refined if params ask for it: x, y.
void peak_position(const FuseParams& params, const FuseTables& tables, int channel, const Peak& peak, float* xy);

}  // namespace cpm
