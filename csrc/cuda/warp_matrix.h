// Matrix products of a warp on tensor cores, of float32 numbers in pairs of halves.
//
// A half holds 11 bits of a number. A pair holds 22: the number rounded, and what that leaves, rounded. With each number of
// one factor in two neighbouring columns and both halves of each of the other's in two neighbouring rows, one product of
// halves makes `rounded * (rounded + rest)` of 8 pairs, and a second one, of the first factor's rests, the remainder. Sums
// are float32.
#pragma once

#include "../math/half.h"

namespace cpm {

constexpr int kWarp = 32;
constexpr int kSlice = 8;              // of the inner dimension: pairs that one product sums
constexpr int kLeft = 16, kRight = 8;  // rows of the left factor, columns of the right one
constexpr int kLeftWords = 4, kSums = 4;  // of a thread: pairs of a slice of the left factor, sums

// Where lane `lane` has its pair number `word` of the left factor: its row, and which of the slice.
struct LeftPlace {
  int row, inner;
};

CPM_HD LeftPlace left_place(int lane, int word) { return {lane / 4 + (word & 1) * 8, lane % 4 + (word >> 1) * 4}; }

// Of its two pairs of the right factor a lane has the column lane / 4, in the slice lane % 4 and lane % 4 + 4.
// Where it has its sum number `index`: row of the left factor, column of the right one.
struct SumPlace {
  int row, column;
};

CPM_HD SumPlace sum_place(int lane, int index) { return {lane / 4 + (index >> 1) * 8, lane % 4 * 2 + (index & 1)}; }

CPM_HD unsigned int half_pair(float value) {
  const unsigned short rounded = half_bits(value);
  return rounded | (unsigned int)half_bits(value - half_value(rounded)) << 16;
}

// A pair's rounded number twice, and its rest twice.
inline __device__ unsigned int twice_rounded(unsigned int pair) {
#if defined(__CUDA_ARCH__)  // one instruction
  unsigned int twice;
  asm("prmt.b32 %0, %1, %1, 0x1010;" : "=r"(twice) : "r"(pair));
  return twice;
#else
  return (pair & 0xffffu) | pair << 16;
#endif
}

inline __device__ unsigned int twice_rest(unsigned int pair) {
#if defined(__CUDA_ARCH__)
  unsigned int twice;
  asm("prmt.b32 %0, %1, %1, 0x3232;" : "=r"(twice) : "r"(pair));
  return twice;
#else
  return (pair & 0xffff0000u) | pair >> 16;
#endif
}

// sum += left (16 x 16, row by row) right (16 x 8, column by column), of halves. All lanes of a warp come here together.
__device__ __forceinline__ void multiply_halves(const unsigned int (&left)[kLeftWords], unsigned int right0, unsigned int right1, float (&sum)[kSums]) {
#if defined(CPM_MULTIPLY_HALVES)  // the tests' stand-in
  CPM_MULTIPLY_HALVES(left, right0, right1, sum);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
               : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0), "r"(right1));
#elif defined(__CUDA_ARCH__)  // Turing multiplies half as many at a time
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
               : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
               : "r"(left[0]), "r"(left[1]), "r"(right0));
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
               : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
               : "r"(left[2]), "r"(left[3]), "r"(right1));
#endif
}

}  // namespace cpm
