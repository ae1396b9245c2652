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
  long long rank;  // scan_rank of the pixel
};

// The search for a channel's first maximum is cut into this many tasks; task piece * C + channel writes peaks[task].
constexpr int kPeakPieces = 2;
void fuse_multiscale_peaks_cpu(const FuseParams& params, const FuseTables& tables, long long first, long long last, Peak* peaks);

// The best of a channel's tasks: its position, refined if asked for, goes to xy, its value is the result.
float finish_peak(const FuseParams& params, const FuseTables& tables, int channel, const Peak* peaks, float* xy);

}  // namespace cpm
