// The functions of csrc/math one by one, for tests/csrc/math_functions.py: doubles and ints in, doubles out.
#include <string.h>

#include "../../csrc/math/fuse.h"
#include "../../csrc/math/loss.h"

using namespace cpm;

extern "C" {

int clamp(double value, int low, int high) { return clamp_int(value, low, high); }

// belief.h
float bump_limit(double sigma, int cutoff) { return make_bump(sigma, cutoff).limit; }
float reach(double sigma, int cutoff) { return bump_reach(make_bump(sigma, cutoff)); }
int is_a_number(float value) { return is_finite(value); }
float pixel_of_cell(int g, float stride) { return cell_pixel(g, stride); }
void inside(const float* d2, int* to, int n, double sigma, int cutoff) {
  for (int i = 0; i < n; ++i) to[i] = inside_bump(d2[i], make_bump(sigma, cutoff));
}
void axis(const float* d, float* to, int n, double sigma) {
  for (int i = 0; i < n; ++i) to[i] = axis_bump(d[i], make_bump(sigma, 0));
}
void add(const float* cells, const float* d2, float* to, int n, double sigma, int cutoff) {
  for (int i = 0; i < n; ++i) to[i] = add_bump(cells[i], d2[i], make_bump(sigma, cutoff));
}
float distance2(float x, float y, float cx, float cy) { return squared_distance(x, y, cx, cy); }
int drawn(const float* joints, const int* visible, int people, int parts, int n, int person, int part, float* at) {
  BeliefParams p = {};
  p.joints = joints, p.visible = visible, p.people = people, p.parts = parts;
  return drawn_joint(p, n, person, part, at[0], at[1]);
}
void span(float c, int cells, float stride, double sigma, int cutoff, int* to) {
  const Span got = bump_span(c, cells, stride, make_bump(sigma, cutoff));
  to[0] = got.first, to[1] = got.last;
}
float background(float value) { return background_under(value); }

// loss.h
void halves(const float* from, unsigned short* half, unsigned short* brain, int n) {
  for (int i = 0; i < n; ++i) half[i] = convert(from[i], Half()).bits, brain[i] = convert(from[i], BFloat16()).bits;
}
void floats(const unsigned short* from, float* half, float* brain, int n) {
  for (int i = 0; i < n; ++i) {
    half[i] = load(reinterpret_cast<const Half*>(from), i);
    brain[i] = load(reinterpret_cast<const BFloat16*>(from), i);
  }
}
float kept(const float* from, int i) { return convert(load(from, i), 0.0f); }
int group_of(int stage) { return stage_group(stage); }
void target(const float* joints, const int* visible, int people, int parts, double sigma, int n, int channel, float x,
            float y, float* to) {
  BeliefParams p = {};
  p.joints = joints, p.visible = visible, p.people = people, p.parts = parts, p.sigma = sigma;
  target_at(p, n, channel, x, y, to);
}
float gradient(float value, float target, float grad_loss, double scale) {
  return loss_gradient(value, target, grad_loss, scale);
}

// resize.h
double cubic_kernel(double x, double a) { return cubic(x, a); }
int taps_of(double scale) { return resize_taps({1, 1, scale}); }
double position(double scale, int i) { return resize_position({1, 1, scale}, i); }
double first_of(double scale, int i) { return resize_first({1, 1, scale}, i); }
double weight_of(double scale, int i, double index) { return resize_weight({1, 1, scale}, i, index); }
int mirrored(double index, int length) { return mirror_index(index, length); }
void stored(const double* values, unsigned char* bytes, float* singles, double* doubles, int n) {
  for (int i = 0; i < n; ++i) {
    store_resized(values[i], bytes + i);
    store_resized(values[i], singles + i);
    store_resized(values[i], doubles + i);
  }
}

// fuse.h
int taps_of_chain(const ChainAxis* chain) { return chain_taps(*chain); }
int depth_of_chain(const ChainAxis* chain, int count) { return chain_depth(*chain, count); }
float row_of_chain(const ChainAxis* chain, int i, int taps, float* weights, int* first) {
  struct {
    double before[1024];
    Phases phases;
    double after[1024];
  } guarded;
  memset(&guarded, 0xff, sizeof guarded);  // NaN: what nobody filled must not be read
  for (int phase = 0; phase < chain->stride; ++phase) fill_phase(*chain, phase, &guarded.phases);
  return chain_row(*chain, guarded.phases, i, taps, weights, first);
}
void axis_of_chain(int axis, int opencv, int* to) {
  FuseParams p = {};
  p.h = 1, p.w = 2, p.stride = 3, p.image_h = 4, p.image_w = 5, p.opencv = opencv;
  p.pad_y[1] = 6, p.pad_x[1] = 7, p.scaled_h[1] = 8, p.scaled_w[1] = 9;
  const ChainAxis got = chain_axis(p, 1, axis);
  to[0] = got.cells, to[1] = got.stride, to[2] = got.pad, to[3] = got.scaled, to[4] = got.image, to[5] = got.opencv;
}
double sum_of_product(float a, float b, float c) { return multiply_add(a, b, c); }
double not_covered(float y, float x) { return uncovered(y, x); }
long long rank_of(int y, int x, int height, int width, int row_major) {
  return scan_rank(y, x, height, width, row_major);
}
float top_of(float before, float here, float after) { return parabola_top(before, here, after); }
}
