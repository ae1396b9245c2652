#include "fuse_multiscale.h"

#include <algorithm>

namespace cpm {
namespace {

int pieces(int length, int piece) { return (length + piece - 1) / piece; }

}  // namespace

int tiles_per_channel(const FuseParams& p) { return pieces(p.image_h, kTileHeight) * pieces(p.image_w, kTileWidth); }

Tile fusion_tile(const FuseParams& p, int number) {
  const int columns = pieces(p.image_w, kTileWidth), y = number / columns * kTileHeight, x = number % columns * kTileWidth;
  return {y, std::min(y + kTileHeight, p.image_h), x, std::min(x + kTileWidth, p.image_w)};
}

void fuse_multiscale_cpu(const FuseParams& p, const FuseTables& tables, long long first, long long last) {
  const int per_channel = tiles_per_channel(p);
  TileScratch scratch;
  for (long long number = first; number < last; ++number) {
    const int channel = (int)(number / per_channel);
    const Tile tile = fusion_tile(p, (int)(number % per_channel));
    float* out = p.out + ((long long)channel * p.image_h + tile.y0) * p.image_w + tile.x0;
    fuse_tile(p, tables, channel, tile, out, p.image_w, scratch);
  }
}

}  // namespace cpm
