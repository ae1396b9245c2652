// Test-only: plain C entry points to the launch functions, for ctypes.
#include <vector>

#include "../../csrc/cuda/belief_map_loss.h"
#include "../../csrc/cuda/belief_maps.h"
#include "../../csrc/cuda/fuse_multiscale.h"
#include "../../csrc/cuda/imresize.h"
#include "cuda_runtime.h"

extern "C" void set_order(unsigned int order) { stand_in::chosen_order = order; }

extern "C" void last_launch(unsigned int* to) { to[0] = gridDim.x, to[1] = blockDim.x, to[2] = blockDim.y; }

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

// sizes: people, parts, h, w, stages, type. With grads the gradients are made, else the losses.
extern "C" const char* belief_map_loss(const float* joints, const int* visible, void** maps, void** grads,
                                       const float* grad_losses, float* losses, long long samples, const int* sizes,
                                       double stride, double sigma, double scale) {
  cpm::LossParams p{};
  p.target.joints = joints;
  p.target.visible = visible;
  p.target.samples = samples;
  p.target.people = sizes[0];
  p.target.parts = sizes[1];
  p.target.h = sizes[2];
  p.target.w = sizes[3];
  p.target.stride = (float)stride;
  p.target.sigma = sigma;
  p.stages = sizes[4];
  p.target.type = sizes[5];
  p.scale = scale;
  p.grad_losses = grad_losses;
  std::vector<double> partial(p.stages * samples * (p.target.parts + 1), NAN);  // as a GPU's memory: no kernel counts on zeros
  p.partial = partial.data();
  for (int s = 0; s < p.stages; ++s) {
    p.maps[s] = maps[s];
    if (grads) p.grads[s] = grads[s];
  }
  return grads ? cpm::launch_belief_map_loss_backward(p, nullptr) : cpm::launch_belief_map_loss(p, losses, nullptr);
}

extern "C" const char* resize_axis(const void* from, void* to, long long outer, long long inner, int in, int out, double scale, int type) {
  cpm::ResizeParams p{};
  p.from = from;
  p.to = to;
  p.outer = outer;
  p.inner = inner;
  p.axis.in = in;
  p.axis.out = out;
  p.axis.scale = scale;
  p.type = type;
  return cpm::launch_resize_axis(p, nullptr);
}

// sizes: S, C, h, w, H, W, stride, background, opencv, row_major, subpixel; geometry: per scale up, left, height, width.
extern "C" const char* fuse_multiscale(const float* maps, const int* sizes, const int* geometry, const float* weights, float* out,
                                       float* xy, float* score) {
  cpm::FuseParams p{};
  p.maps = maps;
  p.out = out;
  p.scales = sizes[0];
  p.channels = sizes[1];
  p.h = sizes[2];
  p.w = sizes[3];
  p.image_h = sizes[4];
  p.image_w = sizes[5];
  p.stride = sizes[6];
  p.background = sizes[7];
  p.opencv = sizes[8];
  p.row_major = sizes[9];
  p.subpixel = sizes[10];
  for (int s = 0; s < p.scales; ++s) {
    p.pad_y[s] = geometry[4 * s];
    p.pad_x[s] = geometry[4 * s + 1];
    p.scaled_h[s] = geometry[4 * s + 2];
    p.scaled_w[s] = geometry[4 * s + 3];
    p.weight[s] = weights[s];
  }
  std::vector<float> workspace(cpm::fuse_workspace_floats(p), NAN);
  std::vector<unsigned long long> best(p.channels, ~0ull);
  const char* error = cpm::launch_fuse_multiscale(p, workspace.data(), nullptr);
  if (error != nullptr) return error;
  return cpm::launch_fuse_multiscale_peaks(p, workspace.data(), best.data(), xy, score, nullptr);
}
