#pragma once

#include "../math/loss.h"

namespace cpm {

// Planes are numbered n * (K + 1) + channel. Forward: one partial sum per stage and plane.
void belief_map_loss_cpu(const LossParams& params, long long first_plane, long long last_plane);

// Backward: the gradients of all stages on these planes.
void belief_map_loss_backward_cpu(const LossParams& params, long long first_plane, long long last_plane);

}  // namespace cpm
