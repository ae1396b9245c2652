// 16-bit numbers as plain structs, rounded to nearest even from float32 as IEEE 754 asks, and back.
// Own conversions, because cuda_fp16.h is not there under NVRTC and g++ 12 knows no _Float16 in C++.
#pragma once

#include "common.h"

namespace cpm {

struct Half {
  unsigned short bits;
};

struct BFloat16 {
  unsigned short bits;
};

CPM_HD unsigned int float_bits(float value) {
  union {
    float f;
    unsigned int u;
  } pun;
  pun.f = value;
  return pun.u;
}

CPM_HD float bits_float(unsigned int bits) {
  union {
    unsigned int u;
    float f;
  } pun;
  pun.u = bits;
  return pun.f;
}

CPM_HD unsigned short half_bits(float value) {
#if defined(__CUDA_ARCH__)
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
#else
  const unsigned int x = float_bits(value);
  const unsigned short sign = (unsigned short)((x >> 16) & 0x8000u);
  const unsigned int magnitude = x & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return (unsigned short)(sign | 0x7e00u);   // NaN
  if (magnitude >= 0x477ff000u) return (unsigned short)(sign | 0x7c00u);  // rounds beyond 65504
  if (magnitude < 0x33000001u) return sign;                               // rounds to zero
  const int exponent = (int)(magnitude >> 23) - 127;
  unsigned int mantissa = (magnitude & 0x7fffffu) | 0x800000u;
  const int shift = exponent < -14 ? 13 + (-14 - exponent) : 13;  // denormal halves lose more bits
  const unsigned int half = 1u << (shift - 1);
  const unsigned int odd = (mantissa >> shift) & 1u;
  mantissa = (mantissa + half - 1u + odd) >> shift;
  // The hidden bit, or a carry into it, adds itself to the exponent field.
  const unsigned int base = exponent < -14 ? 0u : (unsigned int)(exponent + 14) << 10;
  return (unsigned short)(sign | (base + mantissa));
#endif
}

CPM_HD float half_value(unsigned short bits) {
#if defined(__CUDA_ARCH__)
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
#else
  const unsigned int sign = (bits & 0x8000u) << 16, exponent = (bits >> 10) & 31u, mantissa = bits & 0x3ffu;
  if (exponent == 0) {  // zero and denormals: mantissa * 2^-24, exact
    const float magnitude = (float)mantissa * 5.9604644775390625e-8f;
    return sign ? -magnitude : magnitude;
  }
  return bits_float(sign | (exponent == 31 ? 0x7f800000u : (exponent + 112u) << 23) | (mantissa << 13));
#endif
}

CPM_HD unsigned short bfloat16_bits(float value) {
  const unsigned int x = float_bits(value);
  if ((x & 0x7fffffffu) > 0x7f800000u) return 0x7fc0u;  // NaN
  return (unsigned short)((x + 0x7fffu + ((x >> 16) & 1u)) >> 16);
}

CPM_HD float convert(float value, float) { return value; }

CPM_HD Half convert(float value, Half) {
  Half out;
  out.bits = half_bits(value);
  return out;
}

CPM_HD BFloat16 convert(float value, BFloat16) {
  BFloat16 out;
  out.bits = bfloat16_bits(value);
  return out;
}

}  // namespace cpm
