// Multi-scale fusion. Per scale and axis the chain "enlarge by the stride, undo the padding, resize to the image"
// is one banded matrix: row i of it (one image pixel) has few neighbouring non-zero entries (cells).
// S scales, C channels, h w cells, H W image pixels.
#pragma once

#include "half.h"
#include "resize.h"

namespace cpm {

constexpr int kMaxScales = 64;

// Geometry of one axis of one scale.
struct ChainAxis {
  int cells;   // of the belief map
  int stride;  // network-input pixels per cell
  int pad;     // pixels added before the scaled image to make the network input; negative: cropped
  int scaled;  // pixels of the scaled image
  int image;   // pixels of the original image
  int opencv;  // 1: one cubic step with OpenCV's constant instead of the release's two
};

CPM_HD ResizeAxis enlarge_axis(const ChainAxis& c) {
  ResizeAxis axis;
  axis.in = c.cells;
  axis.out = c.cells * c.stride;
  axis.scale = (double)c.stride;
  return axis;
}

CPM_HD ResizeAxis image_axis(const ChainAxis& c) {
  ResizeAxis axis;
  axis.in = c.scaled;
  axis.out = c.image;
  axis.scale = (double)c.image / (double)c.scaled;
  return axis;
}

// The most neighbouring cells that one image pixel can depend on: four for each of its scaled pixels, and as many
// more as those pixels lie apart.
CPM_HD int chain_taps(const ChainAxis& c) {
  if (c.opencv) return c.cells < 4 ? c.cells : 4;
  const long long pixels = resize_taps(image_axis(c)) - 2;  // the outermost two always weigh nothing
  const long long taps = (pixels + c.stride - 2) / c.stride + 4;
  return taps < c.cells ? (int)taps : c.cells;
}

// The most neighbouring cells that `count` neighbouring image pixels can depend on together.
CPM_HD int chain_depth(const ChainAxis& c, int count) {
  const long long between = (long long)(count - 1) * c.scaled, cell = (long long)c.image * c.stride;
  const long long depth = chain_taps(c) + (between + cell - 1) / cell;
  return depth < c.cells ? (int)depth : c.cells;
}

// One row of the banded matrix: weights[0..taps-1] of cells first..first+taps-1 (written, zeros included).
// Returns how much of the pixel is covered by the network's input (1 inside, 0 outside, between at the seam).
CPM_HD float opencv_row(const ChainAxis& c, int i, int taps, float* weights, int* first) {
  const double pixel = ((double)i + 0.5) * c.scaled / c.image + c.pad;
  const double at = pixel / c.stride - 0.5;
  const double left = floor(at) - 1.0;
  *first = clamp_int(left, 0, c.cells - taps);
  for (int t = 0; t < taps; ++t) weights[t] = 0.0f;
  if (!(pixel >= 0.0 && pixel <= (double)c.cells * c.stride)) return 0.0f;
  for (int t = 0; t < 4; ++t) {
    const int cell = clamp_int(left + t, 0, c.cells - 1);  // edge cells are repeated
    weights[cell - *first] += (float)cubic(at - (left + t), kOpenCvCubicA);
  }
  return 1.0f;
}

// Weights of the enlarging step repeat every `stride` pixels: phase (0..stride-1) x kPhaseTaps of them.
constexpr int kPhaseTaps = 6;
constexpr int kMaxStride = 64;

struct Phases {
  double weight[kMaxStride * kPhaseTaps];
  double first[kMaxStride];  // first cell for the pixel with that phase in the first period
  int lead[kMaxStride];      // how many of its weights are zero before the first that is not
};

CPM_HD void fill_phase(const ChainAxis& c, int phase, Phases* phases) {
  const ResizeAxis axis = enlarge_axis(c);
  phases->first[phase] = resize_first(axis, phase);
  double sum = 0.0;
  for (int q = 0; q < kPhaseTaps; ++q) sum += resize_weight(axis, phase, phases->first[phase] + q);
  for (int q = 0; q < kPhaseTaps; ++q) {
    phases->weight[phase * kPhaseTaps + q] = resize_weight(axis, phase, phases->first[phase] + q) / sum;
  }
  int lead = 0;
  while (lead < kPhaseTaps - 1 && phases->weight[phase * kPhaseTaps + lead] == 0.0) ++lead;
  phases->lead[phase] = lead;
}

// One scaled pixel that an image pixel looks at, and where the network's input has it.
struct ChainTap {
  double weight;  // before normalising to sum 1
  bool covered;   // false: outside the network's input, or without weight
  int period, phase;
};

CPM_HD ChainTap chain_tap(const ChainAxis& c, const ResizeAxis& outer, int i, double index) {
  ChainTap tap;
  tap.weight = resize_weight(outer, i, index);
  const long long box = (long long)mirror_index(index, c.scaled) + c.pad;
  tap.covered = tap.weight != 0.0 && box >= 0 && box < (long long)c.cells * c.stride;
  tap.period = tap.covered ? (int)box / c.stride : 0;
  tap.phase = tap.covered ? (int)box - tap.period * c.stride : 0;
  return tap;
}

CPM_HD double tap_weight(const Phases& phases, const ChainTap& tap, int q) { return phases.weight[tap.phase * kPhaseTaps + q]; }

// First of the neighbouring cells that a covered scaled pixel depends on. `mirrored`: some lie beyond the map's edge.
CPM_HD double tap_first(const ChainAxis& c, const Phases& phases, const ChainTap& tap, bool* mirrored) {
  const double first = phases.first[tap.phase] + (double)tap.period;
  *mirrored = !(first >= 0.0 && first + kPhaseTaps <= (double)c.cells);
  return first;
}

CPM_HD int lowest_cell(const ChainAxis& c, const Phases& phases, const ChainTap& tap) {
  if (!tap.covered) return c.cells;
  bool mirrored;
  const double first = tap_first(c, phases, tap, &mirrored);
  if (!mirrored) return (int)first + phases.lead[tap.phase];
  int lowest = c.cells;
  for (int q = 0; q < kPhaseTaps; ++q) {
    const int cell = mirror_index(first + q, c.cells);
    lowest = tap_weight(phases, tap, q) != 0.0 && cell < lowest ? cell : lowest;
  }
  return lowest;
}

// Adds `weight` times what a covered scaled pixel is made of to the row whose first cell is `first`.
CPM_HD void add_tap(const ChainAxis& c, const Phases& phases, const ChainTap& tap, double weight, int first, int taps, float* weights) {
  bool mirrored;
  const double start = tap_first(c, phases, tap, &mirrored);
  for (int q = phases.lead[tap.phase]; q < kPhaseTaps; ++q) {
    const int t = (mirrored ? mirror_index(start + q, c.cells) : (int)start + q) - first;
    if (t >= 0 && t < taps) weights[t] += (float)(weight * tap_weight(phases, tap, q));
  }
}

CPM_HD float matlab_row(const ChainAxis& c, const Phases& phases, int i, int taps, float* weights, int* first) {
  const ResizeAxis outer = image_axis(c);
  const int last = resize_taps(outer) - 1;  // the outermost two always weigh nothing
  const double start = resize_first(outer, i);
  double sum = 0.0;
  int lowest = c.cells;
  for (int p = 1; p < last; ++p) {
    const ChainTap tap = chain_tap(c, outer, i, start + p);
    const int cell = lowest_cell(c, phases, tap);
    sum += tap.weight;
    lowest = cell < lowest ? cell : lowest;
  }
  *first = lowest < c.cells - taps ? lowest : c.cells - taps;
  for (int t = 0; t < taps; ++t) weights[t] = 0.0f;
  double cover = 0.0;
  for (int p = 1; p < last; ++p) {
    const ChainTap tap = chain_tap(c, outer, i, start + p);
    if (!tap.covered) continue;
    cover += tap.weight / sum;
    add_tap(c, phases, tap, tap.weight / sum, *first, taps, weights);
  }
  return (float)cover;
}

CPM_HD float chain_row(const ChainAxis& c, const Phases& phases, int i, int taps, float* weights, int* first) {
  return c.opencv ? opencv_row(c, i, taps, weights, first) : matlab_row(c, phases, i, taps, weights, first);
}

// Contraction is allowed in the fusion (the tolerance is 1e-5); on the GPU it is asked for.
CPM_HD float multiply_add(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

// What the uncovered border adds to a background pixel: 1 where nothing is known.
CPM_HD float uncovered(float cover_y, float cover_x) { return 1.0f - cover_y * cover_x; }

// Ranks pixels in the order in which the first of equal maxima is looked for.
CPM_HD long long scan_rank(int y, int x, int height, int width, int row_major) {
  return row_major ? (long long)y * width + x : (long long)x * height + y;
}

// Where the parabola through a maximum and its two neighbours is highest, from the maximum: within half a pixel.
CPM_HD float parabola_top(float before, float here, float after) {
  const double bend = (double)before - 2.0 * (double)here + (double)after;
  if (!(bend < 0.0)) return 0.0f;
  const double top = ((double)before - (double)after) / (2.0 * bend);
  return (float)(top < -0.5 ? -0.5 : top > 0.5 ? 0.5 : top);
}

struct FuseParams {
  const float* maps;  // (S, C, h, w)
  float* out;         // (C, H, W), or null when only peaks are wanted
  int scales, channels, h, w;
  int image_h, image_w;
  int stride, background, opencv, row_major, subpixel;
  int pad_y[kMaxScales], pad_x[kMaxScales], scaled_h[kMaxScales], scaled_w[kMaxScales];
  float weight[kMaxScales];  // of each scale; they sum to 1
};

CPM_HD ChainAxis chain_axis(const FuseParams& p, int scale, int axis) {
  ChainAxis c;
  c.cells = axis == 0 ? p.h : p.w;
  c.stride = p.stride;
  c.pad = axis == 0 ? p.pad_y[scale] : p.pad_x[scale];
  c.scaled = axis == 0 ? p.scaled_h[scale] : p.scaled_w[scale];
  c.image = axis == 0 ? p.image_h : p.image_w;
  c.opencv = p.opencv;
  return c;
}

}  // namespace cpm
