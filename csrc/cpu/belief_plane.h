// One part's plane of the belief maps, drawn bump by bump.
#pragma once

#include <algorithm>

#include "../math/belief.h"

namespace cpm {

// What all bumps of one width share.
struct Pen {
  Bump bump;
  float last;  // largest squared distance inside: the exact rule by one comparison
};

Pen make_pen(double sigma, int cutoff);

// Adds a bump at pixel (cx, cy) to a plane of h x w cells and lowers `background` under it; the changed cells also go to
// the plane `copy`, unless that is null.
void draw_bump(float* plane, float* background, float* copy, int h, int w, float stride, const Pen& pen, float cx, float cy);

// Adds the bumps of persons first..last-1 of a part to `plane` and lowers `background` under them.
inline void draw_people(const BeliefParams& p, const Pen& pen, long long n, int part, int first, int last, float* plane, float* background, float* copy) {
  for (int person = first; person < last; ++person) {
    float cx, cy;
    if (drawn_joint(p, n, person, part, cx, cy)) draw_bump(plane, background, copy, p.h, p.w, p.stride, pen, cx, cy);
  }
}

// Fills `plane` with the first `people` persons' bumps of a part and lowers `background` under them.
inline void draw_part(const BeliefParams& p, const Pen& pen, long long n, int part, int people, float* plane, float* background) {
  std::fill_n(plane, (long long)p.h * p.w, 0.0f);
  draw_people(p, pen, n, part, 0, people, plane, background, nullptr);
}

}  // namespace cpm
