// Test-only: random sizes, positions and geometry through the CPU loops, on exactly sized heap buffers, for
// AddressSanitizer and UndefinedBehaviorSanitizer. Prints how many cases ran.
#include <algorithm>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

#include "../../csrc/cpu/belief_map_loss.h"
#include "../../csrc/cpu/belief_maps.h"
#include "../../csrc/cpu/fuse_multiscale.h"
#include "../../csrc/cpu/imresize.h"

namespace {

std::mt19937 random_bits(1);

int between(int low, int high) { return low + (int)(random_bits() % (unsigned)(high - low + 1)); }

float wild() {
  const float edge[] = {0.0f,  -0.0f, 1e-45f, 3.5f, -1e9f, 1e9f, 3.4e38f, -3.4e38f, std::numeric_limits<float>::infinity(),
                        -std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()};
  return between(0, 2) ? (float)between(-100, 500) + 0.25f * (float)between(0, 3) : edge[between(0, 10)];
}

void beliefs() {
  cpm::BeliefParams p{};
  p.samples = between(0, 3);
  p.people = between(1, 3);
  p.parts = between(0, 4);
  p.h = between(1, 20);
  p.w = between(1, 20);
  p.center_h = between(1, 40);
  p.center_w = between(1, 40);
  p.stride = (float)between(1, 24) / 2;
  p.sigma = between(1, 1000) / 10.0;
  p.center_sigma = between(1, 1000) / 10.0;
  p.center_cutoff = between(0, 1);
  p.type = between(0, 2);
  if (between(0, 19) == 0) {  // outputs that are larger than the caches
    p.type = 0;
    p.center_h = 2050;
    p.center_w = between(2050, 2060);
  }
  const size_t bytes = p.type == 0 ? 4 : 2;
  std::vector<float> joints(p.samples * p.people * p.parts * 2), center(p.samples * 2);
  std::vector<int> visible(p.samples * p.people * p.parts);
  for (float& x : joints) x = wild();
  for (float& x : center) x = wild();
  for (int& v : visible) v = between(-1, 3);
  std::vector<char> label(p.samples * 2 * (p.parts + 1) * p.h * p.w * bytes), map(p.samples * p.center_h * p.center_w * bytes);
  p.joints = joints.data();
  p.visible = visible.data();
  p.center = center.data();
  p.label = label.data();
  p.center_map = map.data();
  cpm::belief_maps_cpu(p, 0, p.samples * cpm::belief_tasks_per_sample(p));

  cpm::LossParams loss{};
  loss.target = p;
  loss.stages = between(1, 3);
  loss.scale = 0.5;
  const long long planes = p.samples * (p.parts + 1);
  std::vector<std::vector<char>> maps(loss.stages, std::vector<char>(planes * p.h * p.w * bytes)), grads = maps;
  std::vector<double> partial(loss.stages * planes);
  std::vector<float> upstream(loss.stages, 1.0f);
  for (int s = 0; s < loss.stages; ++s) {
    loss.maps[s] = maps[s].data();
    loss.grads[s] = grads[s].data();
  }
  loss.partial = partial.data();
  loss.grad_losses = upstream.data();
  cpm::belief_map_loss_cpu(loss, 0, planes);
  cpm::belief_map_loss_backward_cpu(loss, 0, planes);
}

void fusion() {
  cpm::FuseParams p{};
  p.scales = between(1, 3);
  p.channels = between(1, 2);
  p.h = between(1, 9);
  p.w = between(1, 9);
  const int shape = between(0, 15);  // 0: many tiles, so that peaks are looked for in strips; 1: strips one below the other
  p.image_h = shape == 0 ? between(250, 350) : shape == 1 ? between(1020, 1060) : between(1, 70);
  p.image_w = shape == 0 ? between(250, 350) : between(1, 70);
  p.stride = between(1, 9);
  p.background = between(0, 1);
  p.opencv = between(0, 1);
  p.row_major = between(0, 1);
  p.subpixel = between(0, 1);
  for (int s = 0; s < p.scales; ++s) {
    p.scaled_h[s] = between(1, 200);
    p.scaled_w[s] = between(1, 200);
    p.pad_y[s] = between(0, 9) ? between(-150, 150) : between(-1000000000, 1000000000);
    p.pad_x[s] = between(0, 9) ? between(-150, 150) : between(-1000000000, 1000000000);
    p.weight[s] = 1.0f / (float)p.scales;
  }
  std::vector<float> maps(p.scales * p.channels * p.h * p.w), out(p.channels * p.image_h * p.image_w);
  for (float& x : maps) x = between(0, 50) ? (float)between(-100, 100) / 100 : wild();
  p.maps = maps.data();
  p.out = out.data();
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
  cpm::ResizeParams p{};
  p.outer = between(1, 20);
  p.inner = between(0, 1) ? between(1, 4) : between(40, 60);
  p.axis.in = between(1, 30);
  p.axis.out = between(1, 60);
  p.axis.scale = between(0, 3) ? (double)p.axis.out / p.axis.in : between(1, 400) / 100.0;
  p.type = between(0, 2);
  const size_t bytes = p.type == 0 ? 1 : p.type == 1 ? 4 : 8;
  std::vector<char> from(p.outer * p.axis.in * p.inner * bytes), to(p.outer * p.axis.out * p.inner * bytes);
  p.from = from.data();
  p.to = to.data();
  cpm::resize_axis_cpu(p, cpm::make_resize_table(p.axis), 0, cpm::resize_tasks(p));
}

}  // namespace

int main(int argc, char** argv) {
  const int cases = argc > 1 ? std::atoi(argv[1]) : 100;
  if (argc > 2) random_bits.seed((unsigned)std::atoi(argv[2]));
  for (int i = 0; i < cases; ++i) {
    beliefs();
    fusion();
    resizing();
  }
  std::printf("%d cases\n", 3 * cases);
}
