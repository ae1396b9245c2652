// Plane by plane: both groups' targets are drawn in a scratch plane that stays in cache, then every stage's plane
// is read once against them.
#include "belief_map_loss.h"

#include <algorithm>
#include <vector>

#include "belief_plane.h"

namespace cpm {
namespace {

constexpr int kLanes = 16;  // float32 sums side by side: vectorisable without changing any order
constexpr long long kCellsAtOnce = 256 * kLanes;  // then into double precision: longer float32 sums lose small squares

struct Targets {
  std::vector<float> group[2], part;

  explicit Targets(long long cells) : part(cells) {
    for (auto& plane : group) plane.resize(cells);
  }

  // Targets of one plane for the annotated person (group 0) and for everybody (group 1).
  void draw(const BeliefParams& p, long long n, int channel) {
    const long long cells = (long long)p.h * p.w;
    const Pen pen = make_pen(p.sigma, 1);
    for (int g = 0; g < 2; ++g) {
      const int people = g == 0 ? 1 : p.people;
      if (channel < p.parts) {
        draw_part(p, pen, n, channel, people, group[g].data(), part.data());
        continue;
      }
      std::fill_n(group[g].data(), cells, 1.0f);
      for (int k = 0; k < p.parts; ++k) draw_part(p, pen, n, k, people, part.data(), group[g].data());
    }
  }
};

template <typename T>
double sum_of_squares(const T* map, const float* target, long long cells) {
  double total = 0.0;
  long long i = 0;
  while (i + kLanes <= cells) {
    float lanes[kLanes] = {};
    for (const long long end = std::min(cells, i + kCellsAtOnce); i + kLanes <= end; i += kLanes) {
      for (int lane = 0; lane < kLanes; ++lane) {
        const float difference = load(map, i + lane) - target[i + lane];
        lanes[lane] += difference * difference;
      }
    }
    for (float lane : lanes) total += (double)lane;
  }
  for (; i < cells; ++i) {
    const float difference = load(map, i) - target[i];
    total += (double)(difference * difference);
  }
  return total;
}

template <typename T>
void forward(const LossParams& p, long long first, long long last) {
  const BeliefParams& b = p.target;
  const long long cells = (long long)b.h * b.w, planes = b.samples * (b.parts + 1);
  Targets targets(cells);
  for (long long plane = first; plane < last; ++plane) {
    targets.draw(b, plane / (b.parts + 1), (int)(plane % (b.parts + 1)));
    for (int stage = 0; stage < p.stages; ++stage) {
      const T* map = static_cast<const T*>(p.maps[stage]) + plane * cells;
      p.partial[stage * planes + plane] = sum_of_squares(map, targets.group[stage_group(stage)].data(), cells);
    }
  }
}

template <typename T>
void backward(const LossParams& p, long long first, long long last) {
  const BeliefParams& b = p.target;
  const long long cells = (long long)b.h * b.w;
  Targets targets(cells);
  for (long long plane = first; plane < last; ++plane) {
    targets.draw(b, plane / (b.parts + 1), (int)(plane % (b.parts + 1)));
    for (int stage = 0; stage < p.stages; ++stage) {
      const T* map = static_cast<const T*>(p.maps[stage]) + plane * cells;
      T* grad = static_cast<T*>(p.grads[stage]) + plane * cells;
      const float* target = targets.group[stage_group(stage)].data();
      const float upstream = p.grad_losses[stage];
      for (long long i = 0; i < cells; ++i) grad[i] = convert(loss_gradient(load(map, i), target[i], upstream, p.scale), T());
    }
  }
}

}  // namespace

void belief_map_loss_cpu(const LossParams& p, long long first, long long last) {
  if (p.target.type == kFloat32) return forward<float>(p, first, last);
  if (p.target.type == kFloat16) return forward<Half>(p, first, last);
  return forward<BFloat16>(p, first, last);
}

void belief_map_loss_backward_cpu(const LossParams& p, long long first, long long last) {
  if (p.target.type == kFloat32) return backward<float>(p, first, last);
  if (p.target.type == kFloat16) return backward<Half>(p, first, last);
  return backward<BFloat16>(p, first, last);
}

}  // namespace cpm
