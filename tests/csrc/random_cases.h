// Test-only: random parameters of the four kinds of loops and kernels, with buffers of exactly the sizes that they name.
#pragma once

#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "../../csrc/math/fuse.h"
#include "../../csrc/math/loss.h"
#include "../../csrc/math/resize.h"

namespace cases {

inline std::mt19937 random_bits(1);

inline int between(int low, int high) { return low + (int)(random_bits() % (unsigned)(high - low + 1)); }

inline float wild() {
  const float edge[] = {0.0f,  -0.0f, 1e-45f, 3.5f, -1e9f, 1e9f, 3.4e38f, -3.4e38f, std::numeric_limits<float>::infinity(),
                        -std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()};
  return between(0, 2) ? (float)between(-100, 500) + 0.25f * (float)between(0, 3) : edge[between(0, 10)];
}

// Bytes on the heap, which no float is: what is not written shows.
inline std::vector<char> unwritten(size_t bytes) { return std::vector<char>(bytes, (char)0xff); }

inline size_t belief_bytes(int type) { return type == cpm::kFloat32 ? 4 : 2; }

struct Beliefs {
  cpm::BeliefParams p{};
  std::vector<float> joints, center;
  std::vector<int> visible;
  std::vector<char> label, map;
  int shift;  // elements by which both begin off the boundary of a vector

  explicit Beliefs(bool larger_than_caches) {
    const bool many = between(0, 11) == 0, crowd = between(0, 23) == 0;
    p.samples = many ? between(100, 600) : between(0, 3);
    p.people = crowd ? between(30, 40) : between(1, 3);
    p.parts = crowd ? between(30, 40) : between(0, many ? 10 : 4);
    p.h = between(1, many || crowd ? 6 : 20);
    p.w = between(1, many || crowd ? 6 : 20);
    p.center_h = between(1, 40);
    p.center_w = between(1, 40);
    p.stride = (float)between(1, 24) / 2;
    p.sigma = between(1, 1000) / 10.0;
    p.center_sigma = between(1, 1000) / 10.0;
    p.center_cutoff = between(0, 1);
    p.type = between(0, 2);
    if (larger_than_caches) {
      p.samples = 1;
      p.type = cpm::kFloat32;
      p.center_h = 2050;
      p.center_w = between(2050, 2060);
    }
    joints.resize(p.samples * p.people * p.parts * 2);
    visible.resize(p.samples * p.people * p.parts);
    center.resize(p.samples * 2);
    for (float& x : joints) x = wild();
    for (float& x : center) x = wild();
    for (int& v : visible) v = between(-1, 3);
    shift = between(0, 1) ? 0 : between(1, 3);
    label = unwritten((p.samples * 2 * (p.parts + 1) * p.h * p.w + shift) * belief_bytes(p.type));
    map = unwritten((p.samples * p.center_h * p.center_w + shift) * belief_bytes(p.type));
    p.joints = joints.data();
    p.visible = visible.data();
    p.center = center.data();
    p.label = label.data() + shift * belief_bytes(p.type);
    p.center_map = map.data() + shift * belief_bytes(p.type);
  }
};

struct Losses {
  cpm::LossParams p{};
  std::vector<std::vector<char>> maps, grads;
  std::vector<double> partial;
  std::vector<float> upstream;

  explicit Losses(const Beliefs& beliefs) {
    p.target = beliefs.p;
    p.stages = between(0, 4) ? between(1, 3) : between(7, 17);
    p.scale = 0.5;
    const long long planes = p.target.samples * (p.target.parts + 1), cells = planes * p.target.h * p.target.w;
    maps.assign(p.stages, std::vector<char>(cells * belief_bytes(p.target.type)));
    for (std::vector<char>& stage : maps) {
      for (long long i = 0; i < cells; ++i) {  // -2 to 2, in any of the types
        const float value = (float)between(-16, 16) / 8;
        const unsigned short bits[] = {cpm::half_bits(value), cpm::bfloat16_bits(value)};
        char* to = stage.data() + i * (long long)belief_bytes(p.target.type);
        if (p.target.type == cpm::kFloat32) std::memcpy(to, &value, 4);
        else std::memcpy(to, &bits[p.target.type == cpm::kFloat16 ? 0 : 1], 2);
      }
    }
    grads.assign(p.stages, unwritten(cells * belief_bytes(p.target.type)));
    partial.resize(p.stages * planes);
    for (int s = 0; s < p.stages; ++s) {
      upstream.push_back((float)between(-4, 4));
      p.maps[s] = maps[s].data();
      p.grads[s] = grads[s].data();
    }
    p.partial = partial.data();
    p.grad_losses = upstream.data();
  }
};

struct Fusion {
  cpm::FuseParams p{};
  std::vector<float> maps, out;
  int shift;  // floats by which `out` begins off the boundary of a vector

  Fusion() {
    p.scales = between(1, 3);
    p.channels = between(1, 2);
    p.h = between(0, 5) ? between(1, 9) : between(20, 60);  // more than a GPU's block holds at a time
    p.w = between(1, 9);
    const int shape = between(0, 15);  // 0: many tiles, so that peaks are looked for in strips; 1: strips one below the other
    p.image_h = shape == 0 ? between(250, 350) : shape == 1 ? between(1020, 1060) : between(1, 70);
    p.image_w = shape == 0 ? between(250, 350) : between(1, 70);
    p.stride = between(1, 9);
    p.background = between(0, 1);
    p.opencv = between(0, 1);
    p.row_major = between(0, 1);
    p.subpixel = between(0, 1);
    for (int s = 0; s < p.scales; ++s) {
      p.scaled_h[s] = between(1, 200);
      p.scaled_w[s] = between(1, 200);
      p.pad_y[s] = between(0, 9) ? between(-150, 150) : between(-1000000000, 1000000000);
      p.pad_x[s] = between(0, 9) ? between(-150, 150) : between(-1000000000, 1000000000);
      p.weight[s] = 1.0f / (float)p.scales;
    }
    maps.resize(p.scales * p.channels * p.h * p.w);
    shift = between(0, 1) ? 0 : between(1, 3);
    out.assign(shift + p.channels * p.image_h * p.image_w, std::numeric_limits<float>::quiet_NaN());
    for (float& x : maps) x = (float)between(-100, 100) / 100;
    p.maps = maps.data();
    p.out = out.data() + shift;
  }

  // Values that no network makes.
  void spoil() {
    for (float& x : maps) x = between(0, 50) ? x : wild();
  }
};

struct Resizing {
  cpm::ResizeParams p{};
  std::vector<char> from, to;

  Resizing() {
    p.outer = between(1, 20);
    p.inner = between(0, 1) ? between(1, 4) : between(40, 60);
    p.axis.in = between(1, 30);
    p.axis.out = between(1, 60);
    p.axis.scale = between(0, 3) ? (double)p.axis.out / p.axis.in : between(1, 400) / 100.0;
    p.type = between(0, 2);
    const size_t bytes = p.type == cpm::kResizeByte ? 1 : p.type == cpm::kResizeFloat ? 4 : 8, values = p.outer * p.axis.in * p.inner;
    from.resize(values * bytes);
    for (size_t i = 0; i < values; ++i) {
      const double value = between(0, 255);
      const float single = (float)value;
      const unsigned char byte = (unsigned char)value;
      std::memcpy(from.data() + i * bytes, bytes == 1 ? (const void*)&byte : bytes == 4 ? (const void*)&single : (const void*)&value, bytes);
    }
    to = unwritten(p.outer * p.axis.out * p.inner * bytes);
    p.from = from.data();
    p.to = to.data();
  }
};

}  // namespace cases
