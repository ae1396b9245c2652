// Test-only: random sizes, positions and geometry through the CPU loops, on exactly sized heap buffers, for
// AddressSanitizer and UndefinedBehaviorSanitizer. Prints how many cases ran.
#include <cstdio>
#include <cstdlib>

#include "../../csrc/cpu/belief_map_loss.h"
#include "../../csrc/cpu/belief_maps.h"
#include "../../csrc/cpu/fuse_multiscale.h"
#include "../../csrc/cpu/imresize.h"
#include "random_cases.h"

namespace {

void beliefs() {
  cases::Beliefs beliefs(cases::between(0, 19) == 0);
  cpm::belief_maps_cpu(beliefs.p, 0, beliefs.p.samples * cpm::belief_tasks_per_sample(beliefs.p));
  cases::Losses losses(beliefs);
  const long long planes = beliefs.p.samples * (beliefs.p.parts + 1);
  cpm::belief_map_loss_cpu(losses.p, 0, planes);
  cpm::belief_map_loss_backward_cpu(losses.p, 0, planes);
}

void fusion() {
  cases::Fusion fusion;
  fusion.spoil();
  const cpm::FuseParams& p = fusion.p;
  cpm::FuseTables tables = cpm::make_fuse_tables(p);
  for (int number = 0; number < 2 * p.scales; ++number) cpm::fill_fuse_table(p, tables, number);
  cpm::fuse_multiscale_cpu(p, tables, 0, cpm::fuse_tiles(p));
  cpm::PeakTables peaks = cpm::make_peak_tables(p);
  for (int number = 0; number < 2 * p.scales; ++number) cpm::fill_peak_table(p, tables, peaks, number);
  cpm::PeakScratch scratch;
  for (int channel = 0; channel < p.channels; ++channel) {
    cpm::Reached reached;
    cpm::Peak peak = cpm::find_peak_cpu(p, tables, peaks, channel, 0, reached, scratch);
    for (int piece = 1; piece < cpm::peak_pieces(p, channel); ++piece) {
      peak = cpm::higher(peak, cpm::find_peak_cpu(p, tables, peaks, channel, piece, reached, scratch));
    }
    if (peak.x < 0 || peak.y < 0 || peak.x >= p.image_w || peak.y >= p.image_h) std::abort();
    const float* full = p.out + (long long)channel * p.image_h * p.image_w;
    for (int i = 0; i < p.image_h * p.image_w; ++i) {
      if (full[i] > peak.value) std::abort();  // the bounds hid a larger one
    }
    float xy[2];
    cpm::peak_position(p, tables, channel, peak, xy);
  }
}

void resizing() {
  const cases::Resizing resizing;
  const cpm::ResizeParams& p = resizing.p;
  cpm::resize_axis_cpu(p, cpm::make_resize_table(p.axis), 0, cpm::resize_tasks(p));
}

}  // namespace

int main(int argc, char** argv) {
  const int cases = argc > 1 ? std::atoi(argv[1]) : 100;
  if (argc > 2) cases::random_bits.seed((unsigned)std::atoi(argv[2]));
  for (int i = 0; i < cases; ++i) {
    beliefs();
    fusion();
    resizing();
  }
  std::printf("%d cases\n", 3 * cases);
}
