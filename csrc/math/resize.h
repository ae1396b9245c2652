// Bicubic resampling of one axis as MATLAB's imresize does it (spec inference.md), and OpenCV's variant.
#pragma once

#include "common.h"

namespace cpm {

constexpr double kCubicA = -0.5;         // Keys' constant: MATLAB imresize
constexpr double kOpenCvCubicA = -0.75;  // OpenCV INTER_CUBIC; ATen's bicubic has it too

CPM_HD double cubic(double x, double a) {
  x = fabs(x);
  if (x <= 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
  if (x < 2.0) return ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a;
  return 0.0;
}

struct ResizeAxis {
  int in, out;   // pixels
  double scale;  // out per in, as given; not always out / in
};

// Antialiasing: a kernel that shrinks is stretched by 1 / scale.
CPM_HD double kernel_stretch(const ResizeAxis& axis) { return axis.scale < 1.0 ? axis.scale : 1.0; }

// Number of input pixels that are looked at for one output pixel.
CPM_HD int resize_taps(const ResizeAxis& axis) { return clamp_int(ceil(4.0 / kernel_stretch(axis)), 4, 1 << 30) + 2; }

// Where output pixel i falls, 0-based input pixels.
CPM_HD double resize_position(const ResizeAxis& axis, int i) {
  return ((double)i + 1.0) / axis.scale + 0.5 * (1.0 - 1.0 / axis.scale) - 1.0;
}

// First input pixel (may be negative) that output pixel i looks at.
CPM_HD double resize_first(const ResizeAxis& axis, int i) {
  return floor(resize_position(axis, i) + 1.0 - 2.0 / kernel_stretch(axis)) - 1.0;
}

// Weight of input pixel `index` for output pixel i, before normalising to sum 1.
CPM_HD double resize_weight(const ResizeAxis& axis, int i, double index) {
  const double stretch = kernel_stretch(axis);
  return stretch * cubic(stretch * (resize_position(axis, i) - index), kCubicA);
}

// Border rule: mirrored, the edge pixel repeated.
CPM_HD int mirror_index(double index, int length) {
  if (index >= 0.0 && index < length) return (int)index;
  const double period = 2.0 * length;
  double folded = index - period * floor(index / period);
  if (folded >= length) folded = period - 1.0 - folded;
  return clamp_int(folded, 0, length - 1);
}

// Rounding of uint8 results, after each axis: to nearest, half to even.
CPM_HD unsigned char round_to_byte(double value) {
  const double rounded = rint(value);
  return (unsigned char)(rounded < 0.0 ? 0.0 : rounded > 255.0 ? 255.0 : rounded);
}

struct ResizeParams {
  const void* from;  // (outer, axis.in, inner)
  void* to;          // (outer, axis.out, inner)
  long long outer, inner;
  ResizeAxis axis;
  int type;  // ResizeType
};

enum ResizeType { kResizeByte = 0, kResizeFloat = 1, kResizeDouble = 2 };

CPM_HD void store_resized(double value, unsigned char* to) { *to = round_to_byte(value); }
CPM_HD void store_resized(double value, float* to) { *to = (float)value; }
CPM_HD void store_resized(double value, double* to) { *to = value; }

}  // namespace cpm
