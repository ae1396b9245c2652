// Every plane is filled once, then only the few cells under each bump are touched while the plane is in cache.
#include "belief_maps.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include "belief_plane.h"
#include "clones.h"
#include "stream.h"

namespace cpm {
namespace {

// Outputs larger than this have left the caches before anybody reads them; smaller ones stay there for the next step.
constexpr long long kCacheBytes = 32ll << 20;

template <typename T>
void store_plane(const float* plane, long long cells, T* out) {
  std::transform(plane, plane + cells, out, [](float v) { return convert(v, T()); });
}

void store_plane(const float* plane, long long cells, float* out) { stream_copy(plane, cells, out); }

// Both groups of one sample. The annotated person's bumps are made once, for both. Planes are drawn in place, after all
// of them are filled: drawing does not wait for memory then. 16-bit planes are drawn in scratch planes, so that sums
// stay in float32, and so are streamed ones.
template <typename T>
void label_maps(const BeliefParams& p, const Pen& pen, bool stream, long long n) {
  const long long cells = (long long)p.h * p.w, planes = 2 * (p.parts + 1);
  const bool in_place = std::is_same<T, float>::value && !stream;
  T* out = static_cast<T*>(p.label) + n * planes * cells;
  std::vector<float> scratch(in_place ? 0 : 4 * cells);
  const auto plane = [&](int group, int channel) {
    if (in_place) return reinterpret_cast<float*>(out) + (group * (p.parts + 1) + channel) * cells;
    return scratch.data() + (group + (channel == p.parts ? 2 : 0)) * cells;
  };
  const auto store = [&](int channel) {
    for (int g = 0; g < 2 && !in_place; ++g) store_plane(plane(g, channel), cells, out + (g * (p.parts + 1) + channel) * cells);
  };
  if (in_place) std::fill_n(plane(0, 0), planes * cells, 0.0f);
  float* background[2] = {plane(0, p.parts), plane(1, p.parts)};
  for (float* each : background) std::fill_n(each, cells, 1.0f);
  for (int part = 0; part < p.parts; ++part) {
    float *alone = plane(0, part), *everybody = plane(1, part);
    if (!in_place) std::fill_n(alone, 2 * cells, 0.0f);
    draw_people(p, pen, n, part, 0, 1, alone, background[0], everybody);
    draw_people(p, pen, n, part, 1, p.people, everybody, background[1], nullptr);
    store(part);
  }
  // Where only the annotated person's bumps lie, everybody's background was not lowered yet.
  for (long long i = 0; i < cells; ++i) background[1][i] = std::min(background[1][i], background[0][i]);
  store(p.parts);
}

// One row of the centre map under its bump: products of the axes' factors, where the exact rule says "inside".
template <typename T>
CPM_ALWAYS_INLINE void bump_row(const float* across, const float* factors, int count, float dy2, float factor, float last, T* out) {
  for (int x = 0; x < count; ++x) out[x] = convert(across[x] + dy2 <= last ? factor * factors[x] : 0.0f, T());
}

template <typename T>
void center_row(const float* across, const float* factors, int count, float dy2, float factor, float last, T* out) {
  bump_row(across, factors, count, dy2, factor, last, out);
}

CPM_CLONES
void center_row(const float* across, const float* factors, int count, float dy2, float factor, float last, float* out) {
  bump_row(across, factors, count, dy2, factor, last, out);
}

// A centre map is more than twice the bytes of a label: cut into bands of rows, both are shared evenly by two threads.
constexpr int kCenterBands = 3;

// One band of a centre map. A wide bump: its exponentials factor into one per row and one per column, 2 roundings from
// the formula; which cells the cut-off leaves is still decided by the formula itself.
template <typename T>
void center_band(const BeliefParams& p, const Pen& pen, bool stream, long long n, long long band) {
  const int height = p.center_h, width = p.center_w;
  const int top = (int)(band * height / kCenterBands), bottom = (int)((band + 1) * height / kCenterBands);
  const float cx = p.center[2 * n], cy = p.center[2 * n + 1];
  T* out = static_cast<T*>(p.center_map) + n * height * width;
  Span rows{top, top - 1}, columns{0, -1};
  if (is_finite(cx) && is_finite(cy)) {
    const Span bump = bump_span(cy, height, 1.0f, pen.bump);
    rows = {std::max(bump.first, top), std::min(bump.last, bottom - 1)};
    if (rows.first <= rows.last) columns = bump_span(cx, width, 1.0f, pen.bump);
  }
  const int count = std::max(columns.last + 1 - columns.first, 0);
  std::vector<float> across(count), factors(count);
  for (int x = 0; x < count; ++x) {
    const float pixel = cell_pixel(columns.first + x, 1.0f);
    across[x] = squared_distance(pixel, 0.0f, cx, 0.0f);
    factors[x] = axis_bump(pixel - cx, pen.bump);
  }
  std::vector<T> line(stream ? width : 0, convert(0.0f, T()));  // a row on its way past the caches
  if (!stream) std::fill_n(out + (long long)top * width, (long long)(bottom - top) * width, convert(0.0f, T()));
  for (int y = stream ? top : rows.first; y < (stream ? bottom : rows.last + 1); ++y) {
    T* row = stream ? line.data() : out + (long long)y * width;
    if (y >= rows.first && y <= rows.last) {
      const float pixel = cell_pixel(y, 1.0f), factor = axis_bump(pixel - cy, pen.bump);
      center_row(across.data(), factors.data(), count, squared_distance(0.0f, pixel, 0.0f, cy), factor, pen.last, row + columns.first);
    } else if (y == rows.last + 1) {
      std::fill(line.begin(), line.end(), convert(0.0f, T()));
    }
    if constexpr (std::is_same<T, float>::value) {
      if (stream) stream_copy(row, width, out + (long long)y * width);
    }
  }
}

// Float32 outputs larger than the caches go past them.
template <typename T>
bool streams(const BeliefParams& p) {
  const long long label = p.label ? 2ll * (p.parts + 1) * p.h * p.w : 0, center = p.center_map ? (long long)p.center_h * p.center_w : 0;
  return std::is_same<T, float>::value && p.samples * (label + center) > kCacheBytes / (long long)sizeof(float);
}

template <typename T>
void run_tasks(const BeliefParams& p, long long first, long long last) {
  const bool stream = streams<T>(p);
  const Pen pen = make_pen(p.label ? p.sigma : 1.0, 1), center_pen = make_pen(p.center_map ? p.center_sigma : 1.0, p.center_cutoff);
  const int per_sample = belief_tasks_per_sample(p);
  for (long long task = first; task < last; ++task) {
    const long long n = task / per_sample, piece = task % per_sample;
    if (p.label && piece == 0) {
      label_maps<T>(p, pen, stream, n);
    } else {
      center_band<T>(p, center_pen, stream, n, piece - (p.label ? 1 : 0));
    }
  }
  if (stream) stream_end();
}

}  // namespace

int belief_tasks_per_sample(const BeliefParams& p) { return (p.label ? 1 : 0) + (p.center_map ? kCenterBands : 0); }

void belief_maps_cpu(const BeliefParams& p, long long first, long long last) {
  if (p.type == kFloat32) {
    run_tasks<float>(p, first, last);
  } else if (p.type == kFloat16) {
    run_tasks<Half>(p, first, last);
  } else {
    run_tasks<BFloat16>(p, first, last);
  }
}

}  // namespace cpm
