#include "belief_maps.h"
#include "launch.h"

#include "belief_maps_kernel.h"

namespace cpm {
namespace {

template <typename T, int kVector>
__global__ void __launch_bounds__(kThreads) belief_maps_kernel(BeliefParams p, long long label_vectors, long long vectors) {
  belief_maps_body<T, kVector>(p, label_vectors, vectors);
}

template <typename T, int kVector>
const char* launch(const BeliefParams& p, void* stream) {
  const long long label_vectors = p.label ? (long long)p.h * p.w / kVector : 0;
  const long long vectors = label_vectors + (p.center_map ? (long long)p.center_h * p.center_w / kVector : 0);
  const long long total = p.samples * vectors;
  if (total == 0) return nullptr;
  const long long blocks = (total + kThreads - 1) / kThreads;
  const unsigned int grid = (unsigned int)(blocks < (1ll << 30) ? blocks : (1ll << 30));
  CPM_LAUNCH((belief_maps_kernel<T, kVector>), grid, kThreads, 0, stream, p, label_vectors, vectors);
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
