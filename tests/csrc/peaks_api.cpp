// Test-only: the CPU search for peaks beside the full maps that it must agree with, as one plain C entry point.
#include "../../csrc/cpu/fuse_multiscale.h"

// sizes: S, C, h, w, H, W, stride, background, opencv, row_major; geometry: per scale up, left, height, width.
// full is (C, H, W); places is (C, 2) y, x.
extern "C" void peaks(const float* maps, const int* sizes, const int* geometry, const float* weights, float* full, int* places) {
  cpm::FuseParams p{};
  p.maps = maps;
  p.out = full;
  p.scales = sizes[0];
  p.channels = sizes[1];
  p.h = sizes[2];
  p.w = sizes[3];
  p.image_h = sizes[4];
  p.image_w = sizes[5];
  p.stride = sizes[6];
  p.background = sizes[7];
  p.opencv = sizes[8];
  p.row_major = sizes[9];
  for (int s = 0; s < p.scales; ++s) {
    p.pad_y[s] = geometry[4 * s];
    p.pad_x[s] = geometry[4 * s + 1];
    p.scaled_h[s] = geometry[4 * s + 2];
    p.scaled_w[s] = geometry[4 * s + 3];
    p.weight[s] = weights[s];
  }
  cpm::FuseTables tables = cpm::make_fuse_tables(p);
  cpm::PeakTables bounds = cpm::make_peak_tables(p);
  for (int number = 0; number < 2 * p.scales; ++number) {
    cpm::fill_fuse_table(p, tables, number);
    cpm::fill_peak_table(p, tables, bounds, number);
  }
  cpm::fuse_multiscale_cpu(p, tables, 0, cpm::fuse_tiles(p));
  cpm::PeakScratch scratch;
  for (int c = 0; c < p.channels; ++c) {
    cpm::Reached reached;
    cpm::Peak peak = cpm::find_peak_cpu(p, tables, bounds, c, 0, reached, scratch);
    for (int piece = 1; piece < cpm::peak_pieces(p, c); ++piece) {
      peak = cpm::higher(peak, cpm::find_peak_cpu(p, tables, bounds, c, piece, reached, scratch));
    }
    places[2 * c] = peak.y;
    places[2 * c + 1] = peak.x;
  }
}
