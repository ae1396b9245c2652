// Belief maps: one Gaussian bump per part and person on a coarse grid, after the original data layer's
// arithmetic (spec transform.md, Output). N samples, P people, K parts, h x w cells, H x W pixels.
#pragma once

#include "common.h"
#include "half.h"

namespace cpm {

// Bumps end where their exponent passes this number (exp(-4.6052) = 0.01). The original's constant.
constexpr double kBeliefCutoff = 4.6052;
// The largest float32 that does not pass it: a float32 passes the one exactly if it passes the other.
constexpr float kBeliefCutoffFloat = 4.60519981f;
static_assert((double)kBeliefCutoffFloat <= kBeliefCutoff && (double)kBeliefCutoffFloat + 4.0e-7 > kBeliefCutoff, "not the nearest below");

enum BeliefType { kFloat32 = 0, kFloat16 = 1, kBFloat16 = 2 };

struct BeliefParams {
  const float* joints;  // (N, P, K, 2) pixels x, y; null when only the centre map is wanted
  const int* visible;   // (N, P, K) 0 occluded, 1 visible, anything else: not drawn
  const float* center;  // (N, 2) pixels x, y; null when no centre map is wanted
  void* label;          // (N, 2 * (K + 1), h, w) or null
  void* center_map;     // (N, 1, H, W) or null
  long long samples;
  int people, parts;
  int h, w;                // cells of the label grid
  int center_h, center_w;  // pixels of the centre map
  float stride;            // pixels per cell
  double sigma, center_sigma;  // pixels
  int center_cutoff;           // 0: the centre map has no cut-off (test time)
  int type;                    // BeliefType of both outputs
};

// Width of one bump. Twice: a cheap float bound that can only err towards "inside", then the exact rule.
struct Bump {
  double per_d2;  // 1 / (2 sigma^2)
  float limit;    // squared distance beyond which the exponent certainly exceeds the cut-off
  int cutoff;
};

CPM_HD Bump make_bump(double sigma, int cutoff) {
  Bump bump;
  const double limit = 2.0 * sigma * sigma * kBeliefCutoff * (1.0 + 1e-5);
  bump.limit = cutoff && limit < 3e38 ? (float)limit : 3.402823466e38f;
  bump.cutoff = cutoff;
  const double per_d2 = 0.5 / (sigma * sigma);
  bump.per_d2 = per_d2 < 1e308 ? per_d2 : 1e308;  // infinity times the distance 0 would be no number
  return bump;
}

CPM_HD bool is_finite(float value) { return value - value == 0.0f; }

// Pixel at the middle of grid cell g.
CPM_HD float cell_pixel(int g, float stride) { return stride * 0.5f - 0.5f + (float)g * stride; }

// The exponent at squared distance d2: double, stored as float32. The original divides; its three roundings and these
// two lie 2^-29 of a float32's last digit apart, so the stored numbers are the same.
CPM_HD float bump_exponent(float d2, const Bump& bump) { return (float)((double)d2 * bump.per_d2); }

// The exact rule for the cut-off; its double arithmetic is left out where the float bound decides alone.
CPM_HD bool inside_bump(float d2, const Bump& bump) {
  if (!bump.cutoff) return true;
  if (!(d2 <= bump.limit)) return false;
  if (d2 <= bump.limit * (1.0f - 4e-5f)) return true;
  return bump_exponent(d2, bump) <= kBeliefCutoffFloat;
}

// One axis's factor of a bump.
CPM_HD float axis_bump(float d, const Bump& bump) { return expf(-(float)((double)d * (double)d * bump.per_d2)); }

// Adds one bump's value to a cell inside it, and clamps: the original clamps after each person.
CPM_HD float add_exponent(float cell, float exponent) {
  const float sum = cell + expf(-exponent);
  return sum > 1.0f ? 1.0f : sum;
}

// Distance along one axis beyond which a cell is certainly outside: its square, as float32, exceeds the limit.
CPM_HD float bump_reach(const Bump& bump) { return sqrtf(bump.limit) * (1.0f + 1e-6f) + 1e-22f; }

// Adds one bump's value at squared distance d2 to a cell, if it is inside.
CPM_HD float add_bump(float cell, float d2, const Bump& bump) {
  if (!(d2 <= bump.limit)) return cell;
  const float exponent = bump_exponent(d2, bump);
  return bump.cutoff && exponent > kBeliefCutoffFloat ? cell : add_exponent(cell, exponent);
}

CPM_HD float squared_distance(float x, float y, float cx, float cy) {
  const float dx = x - cx, dy = y - cy;
  return dx * dx + dy * dy;
}

// True if the part of that person gets a bump; its position goes to (cx, cy). Non-finite joints get none.
CPM_HD bool drawn_joint(const BeliefParams& p, long long n, int person, int part, float& cx, float& cy) {
  const long long i = (n * p.people + person) * p.parts + part;
  cx = p.joints[2 * i];
  cy = p.joints[2 * i + 1];
  return (p.visible[i] == 0 || p.visible[i] == 1) && is_finite(cx) && is_finite(cy);
}

// First and last cell along one axis that the bump at position c can reach; empty when first > last.
struct Span {
  int first, last;
};

CPM_HD Span bump_span(float c, int cells, float stride, const Bump& bump) {
  Span span;
  if (!bump.cutoff) {
    span.first = 0;
    span.last = cells - 1;
    return span;
  }
  const double start = (double)stride * 0.5 - 0.5;
  const double roundings = (fabs(start) + (double)cells * stride) * (1.0 / (1 << 22));  // of cell_pixel, and more
  const double radius = sqrt((double)bump.limit) + roundings;
  span.first = clamp_int(ceil(((double)c - radius - start) / stride), 0, cells);
  span.last = clamp_int(floor(((double)c + radius - start) / stride), -1, cells - 1);
  return span;
}

// What a background cell becomes when a part's cell over it reaches this value; the background is
// max(1 - max over parts, 0), and since 1 - v falls with v, the minimum of these is the same number.
CPM_HD float background_under(float part_value) {
  const float rest = 1.0f - part_value;
  return rest > 0.0f ? rest : 0.0f;
}

}  // namespace cpm
