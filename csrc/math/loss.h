// Stage losses straight from joints: targets exist only where they are compared. N samples, P people, K parts.
#pragma once

#include "belief.h"

namespace cpm {

constexpr int kMaxStages = 32;

struct LossParams {
  BeliefParams target;          // joints, visible, sizes, stride, sigma; no outputs
  const void* maps[kMaxStages];  // stage by stage (N, K+1, h, w), of target.type
  void* grads[kMaxStages];       // the same shapes; null in the forward pass
  const float* grad_losses;      // (stages,) backward only
  double* partial;               // (stages, N * (K + 1)) forward only: sum of squares of one plane
  int stages;
  double scale;  // 1 / (2 N)
};

CPM_HD float load(const float* from, long long i) { return from[i]; }

CPM_HD float load(const Half* from, long long i) { return half_value(from[i].bits); }

CPM_HD float load(const BFloat16* from, long long i) { return bits_float((unsigned int)from[i].bits << 16); }

// Which group's target a stage is held against: stage 1 sees everybody, later ones the annotated person.
CPM_HD int stage_group(int stage) { return stage == 0 ? 1 : 0; }

// Both groups' targets of one plane at one cell: [0] the annotated person, [1] everybody.
CPM_HD void target_at(const BeliefParams& p, long long n, int channel, float x, float y, float target[2]) {
  const Bump bump = make_bump(p.sigma, 1);
  const bool background = channel == p.parts;
  target[0] = target[1] = background ? 1.0f : 0.0f;
  for (int part = background ? 0 : channel; part < (background ? p.parts : channel + 1); ++part) {
    float cell[2] = {0.0f, 0.0f};
    for (int person = 0; person < p.people; ++person) {
      float cx, cy;
      if (drawn_joint(p, n, person, part, cx, cy)) cell[1] = add_bump(cell[1], squared_distance(x, y, cx, cy), bump);
      if (person == 0) cell[0] = cell[1];
    }
    for (int group = 0; group < 2; ++group) {
      const float rest = background_under(cell[group]);
      if (!background) target[group] = cell[group];
      if (background && rest < target[group]) target[group] = rest;
    }
  }
}

// d loss / d map at one cell.
CPM_HD float loss_gradient(float value, float target, float grad_loss, double scale) {
  return (value - target) * (float)(2.0 * scale * (double)grad_loss);
}

}  // namespace cpm
