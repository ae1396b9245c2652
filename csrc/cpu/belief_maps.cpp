// Every plane is filled once, then only the few cells under each bump are touched while the plane is in cache.
#include "belief_maps.h"
#include "belief_plane.h"

#include <algorithm>
#include <type_traits>
#include <vector>

namespace cpm {
namespace {

constexpr int kGroups = 2;        // the annotated person alone; everybody
constexpr int kCenterBands = 4;  // row bands of the centre map, so that one sample still feeds several threads

// Float planes are drawn in place, 16-bit ones in a scratch plane so that sums stay in float32.
template <typename T>
void label_group(const BeliefParams& p, long long n, int group) {
  const long long cells = (long long)p.h * p.w;
  T* out = static_cast<T*>(p.label) + (n * kGroups + group) * (p.parts + 1) * cells;
  constexpr bool in_place = std::is_same<T, float>::value;
  std::vector<float> scratch(in_place ? 0 : 2 * cells);
  float* background = in_place ? reinterpret_cast<float*>(out + p.parts * cells) : scratch.data() + cells;
  std::fill_n(background, cells, 1.0f);
  const int people = group == 0 ? 1 : p.people;
  for (int part = 0; part < p.parts; ++part) {
    float* plane = in_place ? reinterpret_cast<float*>(out + part * cells) : scratch.data();
    draw_part(p, n, part, people, plane, background);
    if (!in_place) {
      std::transform(plane, plane + cells, out + part * cells, [](float v) { return convert(v, T()); });
    }
  }
  if (!in_place) {
    std::transform(background, background + cells, out + p.parts * cells, [](float v) { return convert(v, T()); });
  }
}

template <typename T>
void center_rows(const BeliefParams& p, long long n, int band) {
  const int first = (int)((long long)p.center_h * band / kCenterBands);
  const int last = (int)((long long)p.center_h * (band + 1) / kCenterBands);
  const Bump bump = make_bump(p.center_sigma, p.center_cutoff);
  const float cx = p.center[2 * n], cy = p.center[2 * n + 1];
  T* out = static_cast<T*>(p.center_map) + n * p.center_h * p.center_w;
  std::fill(out + (long long)first * p.center_w, out + (long long)last * p.center_w, convert(0.0f, T()));
  if (!is_finite(cx) || !is_finite(cy)) return;
  const Span rows = bump_span(cy, p.center_h, 1.0f, bump);
  const Span columns = bump_span(cx, p.center_w, 1.0f, bump);
  for (int y = std::max(first, rows.first); y <= std::min(last - 1, rows.last); ++y) {
    for (int x = columns.first; x <= columns.last; ++x) {
      const float d2 = squared_distance(cell_pixel(x, 1.0f), cell_pixel(y, 1.0f), cx, cy);
      out[(long long)y * p.center_w + x] = convert(add_bump(0.0f, d2, bump), T());
    }
  }
}

template <typename T>
void run_tasks(const BeliefParams& p, long long first, long long last) {
  const int label_tasks = p.label ? kGroups : 0;
  const int per_sample = belief_tasks_per_sample(p);
  for (long long task = first; task < last; ++task) {
    const long long n = task / per_sample;
    const int kind = (int)(task % per_sample);
    if (kind < label_tasks) {
      label_group<T>(p, n, kind);
    } else {
      center_rows<T>(p, n, kind - label_tasks);
    }
  }
}

}  // namespace

int belief_tasks_per_sample(const BeliefParams& p) {
  return (p.label ? kGroups : 0) + (p.center_map ? kCenterBands : 0);
}

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
