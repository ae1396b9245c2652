// Every plane is filled once, then only the few cells under each bump are touched while the plane is in cache.
#include "belief_maps.h"
#include "belief_plane.h"

#include <algorithm>
#include <type_traits>
#include <vector>

namespace cpm {
namespace {

constexpr int kCenterBands = 4;  // row bands of the centre map, so that one sample still feeds several threads

template <typename T>
void store_plane(const float* plane, long long cells, T* out) {
  std::transform(plane, plane + cells, out, [](float v) { return convert(v, T()); });
}

// Both groups of one sample. Everybody's plane starts as a copy of the annotated person's, whose bump is made once.
// Float planes are drawn in place, 16-bit ones in scratch planes so that sums stay in float32.
template <typename T>
void label_maps(const BeliefParams& p, long long n) {
  const long long cells = (long long)p.h * p.w;
  constexpr bool in_place = std::is_same<T, float>::value;
  T* out[2];
  out[0] = static_cast<T*>(p.label) + n * 2 * (p.parts + 1) * cells;
  out[1] = out[0] + (p.parts + 1) * cells;
  std::vector<float> scratch(in_place ? 0 : 4 * cells);
  float *plane[2], *background[2];
  for (int g = 0; g < 2; ++g) {
    background[g] = in_place ? reinterpret_cast<float*>(out[g] + p.parts * cells) : scratch.data() + (2 + g) * cells;
    std::fill_n(background[g], cells, 1.0f);
  }
  for (int part = 0; part < p.parts; ++part) {
    for (int g = 0; g < 2; ++g) plane[g] = in_place ? reinterpret_cast<float*>(out[g] + part * cells) : scratch.data() + g * cells;
    draw_part(p, n, part, 1, plane[0], background[0]);
    std::copy_n(plane[0], cells, plane[1]);
    draw_people(p, n, part, 1, p.people, plane[1], background[1]);
    for (int g = 0; g < 2 && !in_place; ++g) store_plane(plane[g], cells, out[g] + part * cells);
  }
  // Where only the annotated person's bumps lie, everybody's background was not lowered yet.
  for (long long i = 0; i < cells; ++i) background[1][i] = std::min(background[1][i], background[0][i]);
  for (int g = 0; g < 2 && !in_place; ++g) store_plane(background[g], cells, out[g] + p.parts * cells);
}

// Columns of one row of the centre map that the cut-off leaves; the circle's edge gives them but for the last cell.
Span row_span(float cx, float cy, float y, int width, const Bump& bump) {
  const float dy = y - cy;
  Span span = chord_span(cx, dy, width, bump);
  while (span.first <= span.last && !inside_bump(squared_distance(cell_pixel(span.first, 1.0f), y, cx, cy), bump)) ++span.first;
  while (span.first <= span.last && !inside_bump(squared_distance(cell_pixel(span.last, 1.0f), y, cx, cy), bump)) --span.last;
  return span;
}

// A wide bump: its exponentials factor into one per row and one per column, 2 roundings from the formula; which cells
// the cut-off leaves is still decided by the formula itself.
template <typename T>
void center_rows(const BeliefParams& p, long long n, int band) {
  const int first = (int)((long long)p.center_h * band / kCenterBands);
  const int last = (int)((long long)p.center_h * (band + 1) / kCenterBands);
  const Bump bump = make_bump(p.center_sigma, p.center_cutoff);
  const float cx = p.center[2 * n], cy = p.center[2 * n + 1];
  T* out = static_cast<T*>(p.center_map) + n * p.center_h * p.center_w;
  std::fill(out + (long long)first * p.center_w, out + (long long)last * p.center_w, convert(0.0f, T()));
  if (!is_finite(cx) || !is_finite(cy)) return;
  const Span rows = bump_span(cy, p.center_h, 1.0f, bump), columns = bump_span(cx, p.center_w, 1.0f, bump);
  if (std::max(first, rows.first) > std::min(last - 1, rows.last) || columns.first > columns.last) return;
  std::vector<float> factors(p.center_w);
  for (int x = columns.first; x <= columns.last; ++x) factors[x] = axis_bump(cell_pixel(x, 1.0f) - cx, bump);
  for (int y = std::max(first, rows.first); y <= std::min(last - 1, rows.last); ++y) {
    const float pixel = cell_pixel(y, 1.0f), factor = axis_bump(pixel - cy, bump);
    const Span span = row_span(cx, cy, pixel, p.center_w, bump);
    T* row = out + (long long)y * p.center_w;
    for (int x = span.first; x <= span.last; ++x) row[x] = convert(factor * factors[x], T());
  }
}

template <typename T>
void run_tasks(const BeliefParams& p, long long first, long long last) {
  const int label_tasks = p.label ? 1 : 0;
  const int per_sample = belief_tasks_per_sample(p);
  for (long long task = first; task < last; ++task) {
    const long long n = task / per_sample;
    const int kind = (int)(task % per_sample);
    if (kind < label_tasks) {
      label_maps<T>(p, n);
    } else {
      center_rows<T>(p, n, kind - label_tasks);
    }
  }
}

}  // namespace

int belief_tasks_per_sample(const BeliefParams& p) {
  return (p.label ? 1 : 0) + (p.center_map ? kCenterBands : 0);
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
