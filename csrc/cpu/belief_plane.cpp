// The exponents of a row of cells are made side by side; the exponentials, of the cells inside alone, one by one: the C
// library's bits are the original's.
#include "belief_plane.h"

#include <limits>

#include "clones.h"

namespace cpm {
namespace {

constexpr int kLanes = 8;  // a bump is 5 or 6 cells wide in training

// Exponents of a row's cells, from their squared distances.
CPM_CLONES
void exponents(const float* across, float dy2, const Bump& bump, float* distance, float* exponent) {
  for (int lane = 0; lane < kLanes; ++lane) {
    distance[lane] = across[lane] + dy2;
    exponent[lane] = bump_exponent(distance[lane], bump);
  }
}

float next_to(float value, float towards) { return nextafterf(value, towards); }

}  // namespace

Pen make_pen(double sigma, int cutoff) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  Pen pen{make_bump(sigma, cutoff), infinity};
  if (!cutoff) return pen;
  pen.last = (float)((double)pen.bump.limit / (1.0 + 1e-5));  // the rule falls with the distance: a few steps at most
  while (inside_bump(next_to(pen.last, infinity), pen.bump)) pen.last = next_to(pen.last, infinity);
  while (!inside_bump(pen.last, pen.bump)) pen.last = next_to(pen.last, 0.0f);
  return pen;
}

void draw_bump(float* plane, float* background, float* copy, int h, int w, float stride, const Pen& pen, float cx, float cy) {
  const Span rows = bump_span(cy, h, stride, pen.bump);
  const Span columns = bump_span(cx, w, stride, pen.bump);
  float across[kLanes], distance[kLanes], exponent[kLanes];
  for (int x = columns.first; x <= columns.last; x += kLanes) {
    const int count = std::min(kLanes, columns.last + 1 - x);
    for (int lane = 0; lane < kLanes; ++lane) across[lane] = squared_distance(cell_pixel(x + lane, stride), 0.0f, cx, 0.0f);
    for (int y = rows.first; y <= rows.last; ++y) {
      exponents(across, squared_distance(0.0f, cell_pixel(y, stride), 0.0f, cy), pen.bump, distance, exponent);
      const long long cell = (long long)y * w + x;
      for (int lane = 0; lane < count; ++lane) {
        if (!(distance[lane] <= pen.last)) continue;
        plane[cell + lane] = add_exponent(plane[cell + lane], exponent[lane]);
        if (copy) copy[cell + lane] = plane[cell + lane];
        background[cell + lane] = std::min(background[cell + lane], background_under(plane[cell + lane]));
      }
    }
  }
}

}  // namespace cpm
