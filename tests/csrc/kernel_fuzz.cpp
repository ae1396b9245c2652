// Test-only: random sizes, positions and geometry through the CUDA kernels as the stand-in runs them, on exactly sized heap
// buffers, in several orders of threads and blocks: every order must give the same bits, and the CPU loops' values. Built
// for AddressSanitizer and UndefinedBehaviorSanitizer, or for ThreadSanitizer. Prints how many cases ran.
// Arguments: rounds, seed, and the file and line of a barrier that is to order nothing.
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "../../csrc/cpu/belief_map_loss.h"
#include "../../csrc/cpu/belief_maps.h"
#include "../../csrc/cpu/fuse_multiscale.h"
#include "../../csrc/cpu/imresize.h"
#include "../../csrc/cuda/belief_map_loss.h"
#include "../../csrc/cuda/belief_maps.h"
#include "../../csrc/cuda/fuse_multiscale.h"
#include "../../csrc/cuda/imresize.h"
#include "cuda_runtime.h"
#include "random_cases.h"

namespace {

using Bytes = std::vector<char>;

void expect(bool right, const char* what) {
  if (right) return;
  std::fprintf(stderr, "%s\n", what);
  std::exit(1);
}

void launched(const char* error) { expect(error == nullptr, error); }

template <typename T>
void same(const std::vector<T>& a, const std::vector<T>& b, const char* what) {
  expect(a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0), what);
}

double number(const Bytes& from, size_t i, int type) {
  if (type == cpm::kFloat16) return cpm::load(reinterpret_cast<const cpm::Half*>(from.data()), (long long)i);
  if (type == cpm::kBFloat16) return cpm::load(reinterpret_cast<const cpm::BFloat16*>(from.data()), (long long)i);
  return cpm::load(reinterpret_cast<const float*>(from.data()), (long long)i);
}

void near(double got, double wanted, double allowed, const char* what) { expect(std::fabs(got - wanted) <= allowed, what); }

// Runs `make` in three orders; what it returns must not depend on them.
template <typename Make>
auto in_every_order(const Make& make, const char* what) {
  stand_in::chosen_order = 0;
  const auto first = make();
  for (unsigned int order : {1u, 2u + (unsigned int)cases::between(0, 1000)}) {
    stand_in::chosen_order = order;
    same(make(), first, what);
  }
  return first;
}

void belief_maps(cases::Beliefs& beliefs) {
  cpm::belief_maps_cpu(beliefs.p, 0, beliefs.p.samples * cpm::belief_tasks_per_sample(beliefs.p));
  const Bytes label = beliefs.label, map = beliefs.map;
  const Bytes both = in_every_order(
      [&] {
        std::fill(beliefs.label.begin(), beliefs.label.end(), (char)0xff);
        std::fill(beliefs.map.begin(), beliefs.map.end(), (char)0xff);
        launched(cpm::launch_belief_maps(beliefs.p, nullptr));
        Bytes all = beliefs.label;
        all.insert(all.end(), beliefs.map.begin(), beliefs.map.end());
        return all;
      },
      "belief maps depend on the order of threads");
  same(Bytes(both.begin(), both.begin() + (long)label.size()), label, "labels are not the CPU's");
  const size_t bytes = cases::belief_bytes(beliefs.p.type);
  for (size_t i = beliefs.shift; i < map.size() / bytes; ++i) {  // the CPU's is a product of two exponentials
    const double wanted = number(map, i, beliefs.p.type);
    near(number(beliefs.map, i, beliefs.p.type), wanted, bytes == 4 ? 4e-7 : wanted / 128 + 1e-6, "centre maps are not the CPU's");
  }
}

void belief_map_loss(const cases::Beliefs& beliefs) {
  cases::Losses losses(beliefs);
  const long long planes = beliefs.p.samples * (beliefs.p.parts + 1);
  cpm::belief_map_loss_cpu(losses.p, 0, planes);
  const std::vector<double> partial = losses.partial;
  const std::vector<float> got = in_every_order(
      [&] {
        std::vector<float> to(losses.p.stages, -1.0f);
        std::fill(losses.partial.begin(), losses.partial.end(), std::nan(""));
        launched(cpm::launch_belief_map_loss(losses.p, to.data(), nullptr));
        return to;
      },
      "losses depend on the order of threads");
  for (int s = 0; s < losses.p.stages; ++s) {
    double total = 0.0;
    for (long long plane = 0; plane < planes; ++plane) total += partial[s * planes + plane];
    near(got[s], total * losses.p.scale, 1e-5 * total * losses.p.scale, "losses are not the CPU's");
  }
  cpm::belief_map_loss_backward_cpu(losses.p, 0, planes);
  const std::vector<Bytes> grads = losses.grads;
  for (Bytes& stage : losses.grads) std::fill(stage.begin(), stage.end(), (char)0xff);
  launched(cpm::launch_belief_map_loss_backward(losses.p, nullptr));
  for (int s = 0; s < losses.p.stages; ++s) {
    for (size_t i = 0; i < grads[s].size() / cases::belief_bytes(beliefs.p.type); ++i) {
      const double wanted = number(grads[s], i, beliefs.p.type);
      near(number(losses.grads[s], i, beliefs.p.type), wanted, 1e-5 + std::fabs(wanted) / (beliefs.p.type == cpm::kFloat32 ? 1e6 : 64),
           "gradients are not the CPU's");
    }
  }
}

void fusion() {
  cases::Fusion fusion;
  cpm::FuseParams& p = fusion.p;
  cpm::FuseTables tables = cpm::make_fuse_tables(p);
  for (int number = 0; number < 2 * p.scales; ++number) cpm::fill_fuse_table(p, tables, number);
  cpm::fuse_multiscale_cpu(p, tables, 0, cpm::fuse_tiles(p));
  const std::vector<float> wanted = fusion.out;
  std::vector<float> workspace(cpm::fuse_workspace_floats(p));
  const std::vector<float> full = in_every_order(
      [&] {
        for (std::vector<float>* to : {&fusion.out, &workspace}) std::fill(to->begin(), to->end(), std::nanf(""));
        launched(cpm::launch_fuse_multiscale(p, workspace.data(), nullptr));
        return fusion.out;
      },
      "fused maps depend on the order of threads");
  for (size_t i = fusion.shift; i < full.size(); ++i) near(full[i], wanted[i], 1e-5, "fused maps are not the CPU's");
  const std::vector<float> found = in_every_order(
      [&] {
        std::vector<float> to(3 * p.channels, std::nanf(""));
        std::vector<unsigned long long> best(p.channels, ~0ull);
        std::fill(workspace.begin(), workspace.end(), std::nanf(""));
        launched(cpm::launch_fuse_multiscale_peaks(p, workspace.data(), best.data(), to.data(), to.data() + 2 * p.channels, nullptr));
        return to;
      },
      "peaks depend on the order of threads");
  const long long pixels = (long long)p.image_h * p.image_w;
  for (int c = 0; c < p.channels; ++c) {
    long long first = 0;
    for (long long rank = 1; rank < pixels; ++rank) {
      const auto value = [&](long long r) {
        const long long y = p.row_major ? r / p.image_w : r % p.image_h, x = p.row_major ? r % p.image_w : r / p.image_h;
        return full[fusion.shift + c * pixels + y * p.image_w + x];
      };
      if (value(rank) > value(first)) first = rank;
      if (rank == pixels - 1) expect(found[2 * p.channels + c] == value(first), "scores are not the maxima");
    }
    const double y = (double)(p.row_major ? first / p.image_w : first % p.image_h), x = (double)(p.row_major ? first % p.image_w : first / p.image_h);
    near(found[2 * c], x, p.subpixel ? 0.5 : 0.0, "peaks are not where the first maxima are");
    near(found[2 * c + 1], y, p.subpixel ? 0.5 : 0.0, "peaks are not where the first maxima are");
  }
  fusion.spoil();
  launched(cpm::launch_fuse_multiscale(p, workspace.data(), nullptr));
}

void resizing() {
  cases::Resizing resizing;
  const cpm::ResizeParams& p = resizing.p;
  cpm::resize_axis_cpu(p, cpm::make_resize_table(p.axis), 0, cpm::resize_tasks(p));
  const Bytes wanted = resizing.to;
  std::fill(resizing.to.begin(), resizing.to.end(), (char)0xff);
  launched(cpm::launch_resize_axis(p, nullptr));
  const size_t bytes = p.type == cpm::kResizeByte ? 1 : p.type == cpm::kResizeFloat ? 4 : 8;
  for (size_t i = 0; i < wanted.size() / bytes; ++i) {
    const auto value = [&](const Bytes& from) {
      if (bytes == 1) return (double)(unsigned char)from[i];
      return bytes == 4 ? (double)reinterpret_cast<const float*>(from.data())[i] : reinterpret_cast<const double*>(from.data())[i];
    };
    near(value(resizing.to), value(wanted), bytes == 1 ? 0 : bytes == 4 ? 1e-4 : 1e-10, "resized images are not the CPU's");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 100;
  if (argc > 2) cases::random_bits.seed((unsigned)std::atoi(argv[2]));
  if (argc > 4) {
    stand_in::forgotten_file = argv[3];
    stand_in::forgotten_line = std::atoi(argv[4]);
  }
  for (int i = 0; i < rounds; ++i) {
    cases::Beliefs beliefs(false);
    belief_maps(beliefs);
    if (beliefs.p.samples <= 3) belief_map_loss(beliefs);  // a block for each plane: more take long and show nothing else
    fusion();
    resizing();
  }
  std::printf("%d cases\n", 4 * rounds);
}
