#pragma once

#include "fuse_tile.h"

namespace cpm {

// The full-size maps are cut into this many tiles over all channels.
long long fuse_tiles(const FuseParams& params);

// Writes tiles first..last-1.
void fuse_multiscale_cpu(const FuseParams& params, const FuseTables& tables, long long first, long long last);

struct Peak {
  float value;
  int y, x;
};

// The first maximum of each channel first..last-1, into peaks[channel].
void fuse_multiscale_peaks_cpu(const FuseParams& params, const FuseTables& tables, int first, int last, Peak* peaks);

}  // namespace cpm
