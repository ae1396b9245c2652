#pragma once

#include <atomic>
#include <limits>

#include "fuse_tile.h"
#include "peak_bounds.h"

namespace cpm {

// The full-size maps are cut into this many tiles over all channels.
long long fuse_tiles(const FuseParams& params);

// Writes tiles first..last-1.
void fuse_multiscale_cpu(const FuseParams& params, const FuseTables& tables, long long first, long long last);

struct Peak {
  float value;
  int y, x;
  long long rank;  // scan_rank of the pixel
};

// Largest and smallest of some cells.
struct CellSpan {
  float high, low;
  double middle() const { return 0.5 * ((double)high + (double)low); }
  double radius() const { return 0.5 * ((double)high - (double)low); }
};

// Space that is used again from channel to channel; one per thread.
struct PeakScratch {
  TileScratch tile;
  std::vector<float> strip;     // the map at every step-th pixel, some columns of it
  std::vector<unsigned short> coarse;  // at all of them, rounded up to 16 bits: half of the memory
  std::vector<CellSpan> spans;  // (S, tile rows, tile columns)
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

// In how many bands of tile rows a channel is searched, so that threads can share its search: the background's is as
// long as that of all parts together.
int peak_bands(const FuseParams& params, const PeakTables& peaks, int channel);

// The first maximum of band number `band` of `bands` of a channel; if another one's is higher, perhaps any pixel.
Peak find_peak_cpu(const FuseParams& params, const FuseTables& tables, const PeakTables& peaks, int channel, int band, int bands, Reached& reached, PeakScratch& scratch);

// The first of the higher ones.
inline const Peak& higher(const Peak& a, const Peak& b) { return b.value > a.value || (b.value == a.value && b.rank < a.rank) ? b : a; }

// Its position, refined if params ask for it: x, y.
void peak_position(const FuseParams& params, const FuseTables& tables, int channel, const Peak& peak, float* xy);

}  // namespace cpm
