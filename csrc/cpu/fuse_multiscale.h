#pragma once

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

// The first maximum of a channel.
Peak find_peak_cpu(const FuseParams& params, const FuseTables& tables, const PeakTables& peaks, int channel, PeakScratch& scratch);

// Its position, refined if params ask for it: x, y.
void peak_position(const FuseParams& params, const FuseTables& tables, int channel, const Peak& peak, float* xy);

}  // namespace cpm
