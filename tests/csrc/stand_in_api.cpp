// Test-only: plain C entry points to the launch functions, for ctypes.
#include "../../csrc/cuda/belief_maps.h"
#include "cuda_runtime.h"

extern "C" void set_reverse_order(int reverse) { stand_in::reverse_order = reverse != 0; }

extern "C" const char* belief_maps(const float* joints, const int* visible, const float* center, void* label, void* center_map,
                                   long long samples, const int* sizes, double stride, double sigma, double center_sigma,
                                   int cutoff, int type) {
  cpm::BeliefParams p{};
  p.joints = joints;
  p.visible = visible;
  p.center = center;
  p.label = label;
  p.center_map = center_map;
  p.samples = samples;
  p.people = sizes[0];
  p.parts = sizes[1];
  p.h = sizes[2];
  p.w = sizes[3];
  p.center_h = sizes[4];
  p.center_w = sizes[5];
  p.stride = (float)stride;
  p.sigma = sigma;
  p.center_sigma = center_sigma;
  p.center_cutoff = cutoff;
  p.type = type;
  return cpm::launch_belief_maps(p, nullptr);
}

extern "C" void round_to_16_bits(const float* values, long long count, unsigned short* half, unsigned short* bfloat16) {
  for (long long i = 0; i < count; ++i) {
    half[i] = cpm::half_bits(values[i]);
    bfloat16[i] = cpm::bfloat16_bits(values[i]);
  }
}
