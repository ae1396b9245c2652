// fuse_multiscale and fuse_multiscale_peaks: from tensors to plain parameters.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <atomic>
#include <tuple>
#include <utility>
#include <vector>

#include "../cpu/fuse_multiscale.h"
#include "grain.h"
#include "tensor_checks.h"
#ifdef CPM_WITH_CUDA
#include "../cuda/fuse_multiscale.h"
#include "cuda_stream.h"
#endif

namespace cpm {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kMaxSide = 1 << 30;  // a side and a block more must fit 32 bits

// What belongs to all people of a call.
struct FuseCall {
  std::vector<Tensor> maps;       // (S, C, h, w) each
  std::vector<int64_t> geometry;  // per person and scale up, left, height, width
  std::vector<double> weights;    // per person and scale
  int64_t stride;
  bool background, opencv;
};

void check_maps(const Tensor& maps, const Tensor& first, int64_t stride) {
  STD_TORCH_CHECK(is_plain(maps, ScalarType::Float) && maps.dim() == 4 && maps.numel() > 0 && same_device(maps, first), "maps must be contiguous, non-empty float32 (S, C, h, w) on one device");
  STD_TORCH_CHECK(maps.size(0) <= kMaxScales, "maps must hold at most ", kMaxScales, " scales");
  STD_TORCH_CHECK(fits_int(maps.size(1)) && fits_int(maps.size(2) * stride) && fits_int(maps.size(3) * stride), "maps are too large");
}

void check_call(const FuseCall& call) {
  STD_TORCH_CHECK(!call.maps.empty() && call.stride >= 1 && call.stride <= kMaxStride, "wanted at least one person and a stride of 1 to ", kMaxStride);
  size_t scales = 0;
  for (const Tensor& maps : call.maps) {
    check_maps(maps, call.maps[0], call.stride);
    scales += static_cast<size_t>(maps.size(0));
  }
  STD_TORCH_CHECK(call.weights.size() == scales && call.geometry.size() == 4 * scales, "geometry and weights must fit the scales");
  for (int64_t value : call.geometry) STD_TORCH_CHECK(fits_int(value < 0 ? -value : value), "pads and sizes are too large");
  for (size_t s = 0; s < scales; ++s) STD_TORCH_CHECK(call.geometry[4 * s + 2] > 0 && call.geometry[4 * s + 3] > 0, "sizes must be positive");
}

// Parameters of the person whose first scale is number `start` of all.
FuseParams person_params(const FuseCall& call, const Tensor& maps, size_t start, int64_t height, int64_t width) {
  STD_TORCH_CHECK(height > 0 && width > 0 && height <= kMaxSide && width <= kMaxSide, "the image's sides must be 1 to ", kMaxSide);
  FuseParams p{};
  p.maps = static_cast<const float*>(maps.const_data_ptr());
  p.scales = static_cast<int>(maps.size(0));
  p.channels = static_cast<int>(maps.size(1));
  p.h = static_cast<int>(maps.size(2));
  p.w = static_cast<int>(maps.size(3));
  p.image_h = static_cast<int>(height);
  p.image_w = static_cast<int>(width);
  p.stride = static_cast<int>(call.stride);
  p.background = call.background;
  p.opencv = call.opencv;
  for (int s = 0; s < p.scales; ++s) {
    const int64_t* geometry = call.geometry.data() + 4 * (start + s);
    p.pad_y[s] = static_cast<int>(geometry[0]);
    p.pad_x[s] = static_cast<int>(geometry[1]);
    p.scaled_h[s] = static_cast<int>(geometry[2]);
    p.scaled_w[s] = static_cast<int>(geometry[3]);
    p.weight[s] = static_cast<float>(call.weights[start + s]);
  }
  return p;
}

std::vector<FuseParams> params_into(const FuseCall& call, const std::vector<Tensor>& out) {
  check_call(call);
  STD_TORCH_CHECK(out.size() == call.maps.size(), "out must have one tensor per person");
  std::vector<FuseParams> people;
  size_t start = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    const Tensor& maps = call.maps[i];
    STD_TORCH_CHECK(is_plain(out[i], ScalarType::Float) && out[i].dim() == 3 && out[i].size(0) == maps.size(1) && same_device(out[i], maps), "out must be contiguous float32 (C, H, W)");
    people.push_back(person_params(call, maps, start, out[i].size(1), out[i].size(2)));
    people.back().out = static_cast<float*>(out[i].mutable_data_ptr());
    start += static_cast<size_t>(maps.size(0));
  }
  return people;
}

std::vector<FuseParams> params_for_peaks(const FuseCall& call, const std::vector<int64_t>& images, bool row_major, bool subpixel) {
  check_call(call);
  STD_TORCH_CHECK(images.size() == 2 * call.maps.size(), "images must have two sides per person");
  std::vector<FuseParams> people;
  size_t start = 0;
  for (size_t i = 0; i < call.maps.size(); ++i) {
    people.push_back(person_params(call, call.maps[i], start, images[2 * i], images[2 * i + 1]));
    people.back().row_major = row_major;
    people.back().subpixel = subpixel;
    start += static_cast<size_t>(call.maps[i].size(0));
  }
  return people;
}

int64_t all_channels(const std::vector<FuseParams>& people) {
  int64_t channels = 0;
  for (const FuseParams& p : people) channels += p.channels;
  return channels;
}

// What one thread does in the time that waking another takes.
constexpr double kRowsPerThread = 512, kPixelsPerThread = 3e5;

// Rows of all tables.
double table_rows(const std::vector<FuseParams>& people) {
  double rows = 0.0;
  for (const FuseParams& p : people) rows += 1.0 * p.scales * (1.0 * p.image_h + p.image_w);
  return rows;
}

// Pixels of all scales and channels.
double pixels(const std::vector<FuseParams>& people) {
  double sum = 0.0;
  for (const FuseParams& p : people) sum += 1.0 * p.scales * p.channels * p.image_h * p.image_w;
  return sum;
}

// Work of several people, cut into numbered pieces: pieces of person i begin at starts[i].
struct Pieces {
  std::vector<int64_t> starts{0};

  template <typename Count>
  Pieces(const std::vector<FuseParams>& people, const Count& count) {
    for (const FuseParams& p : people) starts.push_back(starts.back() + count(p));
  }

  // Calls work(person, first, last) in torch's threads, with piece numbers within the person. `amount`, of all pieces:
  // a thread is woken for `per_thread` of it.
  template <typename Work>
  void run(double amount, double per_thread, const Work& work) const {
    torch::stable::parallel_for(0, starts.back(), grain(starts.back(), amount, per_thread), [&](int64_t first, int64_t last) {
      for (size_t i = 0; i + 1 < starts.size(); ++i) {
        const int64_t a = std::max(first, starts[i]), b = std::min(last, starts[i + 1]);
        if (a < b) work(i, a - starts[i], b - starts[i]);
      }
    });
  }
};

std::vector<FuseTables> tables_in_parallel(const std::vector<FuseParams>& people) {
  std::vector<FuseTables> tables;
  for (const FuseParams& p : people) tables.push_back(make_fuse_tables(p));
  Pieces(people, [](const FuseParams& p) { return 2 * p.scales; }).run(table_rows(people), kRowsPerThread, [&](size_t i, int64_t first, int64_t last) {
    for (int64_t number = first; number < last; ++number) fill_fuse_table(people[i], tables[i], static_cast<int>(number));
  });
  return tables;
}

void fuse_multiscale_cpu_op(std::vector<Tensor> maps, std::vector<int64_t> geometry, std::vector<double> weights, int64_t stride, bool background, bool opencv, std::vector<Tensor> out) {
  const std::vector<FuseParams> people = params_into({maps, geometry, weights, stride, background, opencv}, out);
  const std::vector<FuseTables> tables = tables_in_parallel(people);
  Pieces(people, fuse_tiles).run(pixels(people), kPixelsPerThread, [&](size_t i, int64_t first, int64_t last) { fuse_multiscale_cpu(people[i], tables[i], first, last); });
}

std::vector<PeakTables> peak_tables_in_parallel(const std::vector<FuseParams>& people, const std::vector<FuseTables>& tables) {
  std::vector<PeakTables> peaks;
  for (const FuseParams& p : people) peaks.push_back(make_peak_tables(p));
  Pieces(people, [](const FuseParams& p) { return 2 * p.scales; }).run(table_rows(people), kRowsPerThread, [&](size_t i, int64_t first, int64_t last) {
    for (int64_t number = first; number < last; ++number) fill_peak_table(people[i], tables[i], peaks[i], static_cast<int>(number));
  });
  return peaks;
}

// One search: a channel of a person, or a piece of it.
struct PeakJob {
  size_t person;
  int channel, piece;
  bool last;  // of its channel
};

// All searches. Those of the last channel of a person, the background, are the longest and come first.
std::vector<PeakJob> peak_jobs(const std::vector<FuseParams>& people) {
  std::vector<PeakJob> jobs;
  int deepest = 0;
  for (const FuseParams& p : people) deepest = std::max(deepest, p.channels);
  for (int back = 1; back <= deepest; ++back) {
    for (size_t i = 0; i < people.size(); ++i) {
      const int channel = people[i].channels - back;
      if (channel < 0) continue;
      const int pieces = peak_pieces(people[i], channel);
      for (int piece = 0; piece < pieces; ++piece) jobs.push_back({i, channel, piece, piece + 1 == pieces});
    }
  }
  return jobs;
}

// Searches take very different times: every thread fetches the next one when it is done.
template <typename Work>
void for_each_job(size_t jobs, double amount, const Work& work) {
  std::atomic<size_t> next{0};
  torch::stable::parallel_for(0, static_cast<int64_t>(jobs), grain(static_cast<int64_t>(jobs), amount, kPixelsPerThread), [&](int64_t, int64_t) {
    PeakScratch scratch;
    for (size_t k = next++; k < jobs; k = next++) work(k, scratch);
  });
}

std::tuple<Tensor, Tensor> fuse_multiscale_peaks_cpu_op(std::vector<Tensor> maps, std::vector<int64_t> geometry, std::vector<double> weights, std::vector<int64_t> images, int64_t stride, bool background, bool opencv, bool row_major, bool subpixel) {
  const std::vector<FuseParams> people = params_for_peaks({maps, geometry, weights, stride, background, opencv}, images, row_major, subpixel);
  const std::vector<FuseTables> tables = tables_in_parallel(people);
  const std::vector<PeakTables> peaks = peak_tables_in_parallel(people, tables);
  const Pieces channels(people, [](const FuseParams& p) { return p.channels; });
  Tensor xy = torch::stable::new_empty(maps[0], {channels.starts.back(), 2});
  Tensor score = torch::stable::new_empty(maps[0], {channels.starts.back()});
  float* to_xy = static_cast<float*>(xy.mutable_data_ptr());
  float* to_score = static_cast<float*>(score.mutable_data_ptr());
  const std::vector<PeakJob> jobs = peak_jobs(people);
  std::vector<Reached> reached(channels.starts.back());
  std::vector<Peak> found(jobs.size());
  for_each_job(jobs.size(), pixels(people), [&](size_t k, PeakScratch& scratch) {
    const auto& [i, channel, piece, last] = jobs[k];
    found[k] = find_peak_cpu(people[i], tables[i], peaks[i], channel, piece, reached[channels.starts[i] + channel], scratch);
  });
  for (size_t k = 0; k < jobs.size(); ++k) {
    const auto& [i, channel, piece, last] = jobs[k];
    if (piece > 0) found[k] = higher(found[k - 1], found[k]);
    if (!last) continue;
    const int64_t place = channels.starts[i] + channel;
    peak_position(people[i], tables[i], channel, found[k], to_xy + 2 * place);
    to_score[place] = found[k].value;
  }
  return {xy, score};
}

#ifdef CPM_WITH_CUDA
void fuse_multiscale_cuda_op(std::vector<Tensor> maps, std::vector<int64_t> geometry, std::vector<double> weights, int64_t stride, bool background, bool opencv, std::vector<Tensor> out) {
  const std::vector<FuseParams> people = params_into({maps, geometry, weights, stride, background, opencv}, out);
  torch::stable::accelerator::DeviceGuard guard(maps[0].get_device_index());
  for (const FuseParams& p : people) {
    Tensor workspace = torch::stable::new_empty(maps[0], {fuse_workspace_floats(p)});
    const char* error = launch_fuse_multiscale(p, static_cast<float*>(workspace.mutable_data_ptr()), current_stream(maps[0]));
    STD_TORCH_CHECK(error == nullptr, "fuse_multiscale launch: ", error);
  }
}

std::tuple<Tensor, Tensor> fuse_multiscale_peaks_cuda_op(std::vector<Tensor> maps, std::vector<int64_t> geometry, std::vector<double> weights, std::vector<int64_t> images, int64_t stride, bool background, bool opencv, bool row_major, bool subpixel) {
  const std::vector<FuseParams> people = params_for_peaks({maps, geometry, weights, stride, background, opencv}, images, row_major, subpixel);
  torch::stable::accelerator::DeviceGuard guard(maps[0].get_device_index());
  const int64_t channels = all_channels(people);
  Tensor xy = torch::stable::new_empty(maps[0], {channels, 2});
  Tensor score = torch::stable::new_empty(maps[0], {channels});
  Tensor best = torch::stable::new_empty(maps[0], {channels}, ScalarType::Long);
  int64_t before = 0;
  for (const FuseParams& p : people) {
    STD_TORCH_CHECK(static_cast<int64_t>(p.image_h) * p.image_w < (1ll << 32), "the image must have fewer than 2^32 pixels");
    Tensor workspace = torch::stable::new_empty(maps[0], {fuse_workspace_floats(p)});
    const char* error = launch_fuse_multiscale_peaks(
        p, static_cast<float*>(workspace.mutable_data_ptr()), static_cast<unsigned long long*>(best.mutable_data_ptr()) + before,
        static_cast<float*>(xy.mutable_data_ptr()) + 2 * before, static_cast<float*>(score.mutable_data_ptr()) + before, current_stream(maps[0]));
    STD_TORCH_CHECK(error == nullptr, "fuse_multiscale_peaks launch: ", error);
    before += p.channels;
  }
  return {xy, score};
}
#endif

}  // namespace
}  // namespace cpm

STABLE_TORCH_LIBRARY_IMPL(cpm_repro, CPU, m) {
  m.impl("fuse_multiscale_out", TORCH_BOX(&cpm::fuse_multiscale_cpu_op));
  m.impl("fuse_multiscale_peaks", TORCH_BOX(&cpm::fuse_multiscale_peaks_cpu_op));
}

#ifdef CPM_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(cpm_repro, CUDA, m) {
  m.impl("fuse_multiscale_out", TORCH_BOX(&cpm::fuse_multiscale_cuda_op));
  m.impl("fuse_multiscale_peaks", TORCH_BOX(&cpm::fuse_multiscale_peaks_cuda_op));
}
#endif
