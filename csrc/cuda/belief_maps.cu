#include "belief_maps.h"
#include "launch.h"

#include "belief_maps_kernel.h"

namespace cpm {
namespace {

template <typename T, int kVector>
__global__ void __launch_bounds__(kThreads) belief_maps_kernel(BeliefParams p, BeliefGrid grid) {
  belief_maps_body<T, kVector>(p, grid);
}

template <typename T, int kVector>
const char* launch(const BeliefParams& p, void* stream) {
  constexpr long long kMost = 0x7fffffff;  // cells that 32-bit places can tell apart, and blocks of a grid
  if ((long long)p.h * p.w > kMost || (long long)p.center_h * p.center_w > kMost) return "a map must have fewer than 2^31 cells";
  if ((long long)p.people * p.parts >= kMostJoints) return "a sample must have fewer than 2^29 joints";
  const BeliefGrid grid = belief_grid(p, kVector);
  const long long blocks = p.samples * ((long long)grid.label_blocks + grid.center_blocks);
  if (blocks == 0) return nullptr;
  if (blocks > kMost) return "too many maps for one launch";
  CPM_LAUNCH((belief_maps_kernel<T, kVector>), (unsigned int)blocks, dim3(kThreads / grid.slices, grid.slices), 0, stream, p, grid);
  return launch_error();
}

// Four cells at once when every plane starts on a 4-element boundary.
template <typename T>
const char* launch_for_type(const BeliefParams& p, void* stream) {
  const unsigned long long addresses = (unsigned long long)p.label | (unsigned long long)p.center_map;
  const bool whole = (p.label == nullptr || (long long)p.h * p.w % 4 == 0) &&
                     (p.center_map == nullptr || (long long)p.center_h * p.center_w % 4 == 0);
  const bool aligned = addresses % (4 * sizeof(T)) == 0;
  return whole && aligned ? launch<T, 4>(p, stream) : launch<T, 1>(p, stream);
}

}  // namespace

const char* launch_belief_maps(const BeliefParams& p, void* stream) {
  if (p.type == kFloat32) return launch_for_type<float>(p, stream);
  if (p.type == kFloat16) return launch_for_type<Half>(p, stream);
  return launch_for_type<BFloat16>(p, stream);
}

}  // namespace cpm
