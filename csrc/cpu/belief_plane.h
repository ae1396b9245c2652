// One part's plane of the belief maps, drawn bump by bump.
#pragma once

#include <algorithm>

#include "../math/belief.h"

namespace cpm {

inline void draw_bump(float* plane, float* background, int h, int w, float stride, const Bump& bump, float cx, float cy) {
  const Span rows = bump_span(cy, h, stride, bump);
  const Span columns = bump_span(cx, w, stride, bump);
  for (int gy = rows.first; gy <= rows.last; ++gy) {
    const float y = cell_pixel(gy, stride);
    for (int gx = columns.first; gx <= columns.last; ++gx) {
      const long long cell = (long long)gy * w + gx;
      plane[cell] = add_bump(plane[cell], squared_distance(cell_pixel(gx, stride), y, cx, cy), bump);
      background[cell] = std::min(background[cell], background_under(plane[cell]));
    }
  }
}

// Adds the bumps of persons first..last-1 of a part to `plane` and lowers `background` under them.
inline void draw_people(const BeliefParams& p, long long n, int part, int first, int last, float* plane, float* background) {
  const Bump bump = make_bump(p.sigma, 1);
  for (int person = first; person < last; ++person) {
    float cx, cy;
    if (drawn_joint(p, n, person, part, cx, cy)) draw_bump(plane, background, p.h, p.w, p.stride, bump, cx, cy);
  }
}

// Fills `plane` with the first `people` persons' bumps of a part and lowers `background` under them.
inline void draw_part(const BeliefParams& p, long long n, int part, int people, float* plane, float* background) {
  std::fill_n(plane, (long long)p.h * p.w, 0.0f);
  draw_people(p, n, part, 0, people, plane, background);
}

}  // namespace cpm
