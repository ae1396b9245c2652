#include "fuse_multiscale.h"

#include <algorithm>

namespace cpm {
namespace {

// Narrow enough for the rows in use to stay in the first-level cache (7 scales x 6 taps x 128 floats = 21 KB),
// and so high that few cell rows are resampled twice.
constexpr int kTileWidth = 128;
constexpr int kTileHeight = 1024;

int pieces(int length, int piece) { return (length + piece - 1) / piece; }

}  // namespace

long long fuse_tiles(const FuseParams& p) {
  return (long long)p.channels * pieces(p.image_h, kTileHeight) * pieces(p.image_w, kTileWidth);
}

void fuse_multiscale_cpu(const FuseParams& p, const FuseTables& tables, long long first, long long last) {
  const int columns = pieces(p.image_w, kTileWidth);
  const int per_channel = pieces(p.image_h, kTileHeight) * columns;
  TileScratch scratch;
  for (long long number = first; number < last; ++number) {
    const int channel = (int)(number / per_channel), place = (int)(number % per_channel);
    Tile tile;
    tile.y0 = place / columns * kTileHeight;
    tile.x0 = place % columns * kTileWidth;
    tile.y1 = std::min(tile.y0 + kTileHeight, p.image_h);
    tile.x1 = std::min(tile.x0 + kTileWidth, p.image_w);
    float* out = p.out + ((long long)channel * p.image_h + tile.y0) * p.image_w + tile.x0;
    fuse_tile(p, tables, channel, tile, out, p.image_w, scratch);
  }
}

}  // namespace cpm
