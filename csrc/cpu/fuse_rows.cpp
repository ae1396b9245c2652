#include "fuse_rows.h"

#include <algorithm>
#include <cstddef>

#include "../math/fuse.h"
#include "clones.h"
#ifdef CPM_X86
#include <immintrin.h>
#endif

namespace cpm {
namespace {

void rows_plain(const std::vector<Strip>& strips, int y0, int y1, int width, float* out, long long pitch) {
  for (int y = y0; y < y1; ++y, out += pitch) {
    std::fill_n(out, width, 0.0f);
    for (const Strip& s : strips) {
      for (int t = 0; t < s.taps; ++t) {
        const float factor = s.weights[(size_t)y * s.taps + t];
        const float* row = s.row_of(y) + (size_t)t * s.pitch;
        for (int x = 0; x < width; ++x) out[x] = multiply_add(factor, row[x], out[x]);
      }
    }
  }
}

#ifdef CPM_X86
#define CPM_UNROLL _Pragma("GCC unroll 8")  // sums that are indexed by a loop would live in memory
namespace avx2 {
#define CPM_TARGET __attribute__((target("avx2,fma")))
using Vector = __m256;
using Mask = __m256i;
constexpr int kLanes = 8, kRows = 4, kWide = 2;  // 8 sums, 2 terms and a factor in 16 registers
CPM_TARGET inline Vector zero() { return _mm256_setzero_ps(); }
CPM_TARGET inline Vector spread(float value) { return _mm256_set1_ps(value); }
CPM_TARGET inline Vector load(const float* from) { return _mm256_loadu_ps(from); }
CPM_TARGET inline void store(float* to, Vector value) { _mm256_storeu_ps(to, value); }
CPM_TARGET inline Vector fused(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
CPM_TARGET inline Mask first_lanes(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
CPM_TARGET inline Vector load_some(const float* from, Mask mask) { return _mm256_maskload_ps(from, mask); }
CPM_TARGET inline void store_some(float* to, Mask mask, Vector value) { _mm256_maskstore_ps(to, mask, value); }
#include "fuse_rows_simd.h"
#undef CPM_TARGET
}  // namespace avx2

namespace avx512 {
#define CPM_TARGET __attribute__((target("avx512f")))
using Vector = __m512;
using Mask = __mmask16;
constexpr int kLanes = 16, kRows = 4, kWide = 4;  // 16 sums, 4 terms and a factor in 32 registers
CPM_TARGET inline Vector zero() { return _mm512_setzero_ps(); }
CPM_TARGET inline Vector spread(float value) { return _mm512_set1_ps(value); }
CPM_TARGET inline Vector load(const float* from) { return _mm512_loadu_ps(from); }
CPM_TARGET inline void store(float* to, Vector value) { _mm512_storeu_ps(to, value); }
CPM_TARGET inline Vector fused(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
CPM_TARGET inline Mask first_lanes(int count) { return (Mask)((1u << count) - 1u); }
CPM_TARGET inline Vector load_some(const float* from, Mask mask) { return _mm512_maskz_loadu_ps(mask, from); }
CPM_TARGET inline void store_some(float* to, Mask mask, Vector value) { _mm512_mask_storeu_ps(to, mask, value); }
#include "fuse_rows_simd.h"
#undef CPM_TARGET
}  // namespace avx512
#endif

using Rows = void (*)(const std::vector<Strip>&, int, int, int, float*, long long);

Rows best_rows() {
#ifdef CPM_X86
  if (__builtin_cpu_supports("avx512f")) return avx512::rows;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::rows;
#endif
  return rows_plain;
}

}  // namespace

void weighted_rows(const std::vector<Strip>& strips, int y0, int y1, int width, float* out, long long pitch) {
  static const Rows rows = best_rows();
  rows(strips, y0, y1, width, out, pitch);
}

}  // namespace cpm
