// Test-only: matrix products that the threads of a warp make together. Which lane holds which element is written down here
// once more, as the PTX manual says it of mma.m16n8k16, and of mma.m16n8k8 for each half of it.
#pragma once

#include "block.h"

namespace stand_in {

// What a lane brings. Two take turns: a lane that is ahead brings the next ones while others still read.
struct Operands {
  unsigned int left[4], right[2];
};

inline Operands operands[kMostThreads][2];

// Number `upper` (0 or 1) of the two halves of a word.
STAND_IN_UNSEEN inline float half_of(unsigned int word, int upper) {
  const unsigned int bits = word >> 16 * upper & 0xffffu, exponent = bits >> 10 & 31u;
  const float magnitude = exponent == 31 ? (bits & 0x3ffu ? NAN : INFINITY)
                                         : ldexpf((float)((bits & 0x3ffu) + (exponent ? 0x400u : 0u)), (int)(exponent ? exponent : 1u) - 25);
  return bits & 0x8000u ? -magnitude : magnitude;
}

// Of the left factor: row, column of 16 x 16.
STAND_IN_UNSEEN inline float left_element(size_t warp, unsigned int turn, unsigned int row, unsigned int column) {
  const Operands& of = operands[warp * kWarp + row % 8 * 4 + column % 8 / 2][turn];
  return half_of(of.left[(row >= 8 ? 1 : 0) + (column >= 8 ? 2 : 0)], column % 2);
}

// Of the right factor: row, column of 16 x 8.
STAND_IN_UNSEEN inline float right_element(size_t warp, unsigned int turn, unsigned int row, unsigned int column) {
  const Operands& of = operands[warp * kWarp + column * 4 + row % 8 / 2][turn];
  return half_of(of.right[row >= 8], row % 2);
}

// Sums as roughly as a Turing does, four products at a time: all that is added is cut off below the last bit of the largest.
STAND_IN_UNSEEN inline float cut_sum(float sum, const float (&products)[4]) {
  int exponent = sum == 0 ? -1000 : ilogbf(sum);
  bool finite = isfinite(sum);
  for (float each : products) {
    finite = finite && isfinite(each);
    if (finite && each != 0 && ilogbf(each) > exponent) exponent = ilogbf(each);
  }
  if (!finite) return sum + products[0] + products[1] + products[2] + products[3];
  const double step = ldexp(1.0, exponent < -126 ? -149 : exponent - 23);
  double total = trunc(sum / step);
  for (float each : products) total += trunc(each / step);
  total *= step;
  const float rounded = (float)total;
  return fabs((double)rounded) > fabs(total) ? nextafterf(rounded, 0.0f) : rounded;
}

STAND_IN_UNSEEN inline void multiply_halves(const unsigned int (&left)[4], unsigned int right0, unsigned int right1, float (&sum)[4],
                                            const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const size_t thread = current, warp = thread / kWarp, lane = thread % kWarp;
  const unsigned int turn = threads[thread].products++ % 2;
  operands[thread][turn] = {{left[0], left[1], left[2], left[3]}, {right0, right1}};
  meet_warp(file, line);
  for (unsigned int k = 0; k < 4; ++k) {
    const unsigned int row = (unsigned int)lane / 4 + (k >= 2 ? 8 : 0), column = (unsigned int)lane % 4 * 2 + k % 2;
    for (unsigned int first = 0; first < 16; first += 4) {
      float four[4];
      for (unsigned int i = 0; i < 4; ++i) four[i] = left_element(warp, turn, row, first + i) * right_element(warp, turn, first + i, column);
      sum[k] = cut_sum(sum[k], four);
    }
  }
}

}  // namespace stand_in
