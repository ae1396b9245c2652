#pragma once

#include "../math/loss.h"

namespace cpm {

// Losses (stages,) on the stream (a cudaStream_t); params.partial is workspace. Null, or what went wrong.
const char* launch_belief_map_loss(const LossParams& params, float* losses, void* stream);

// Gradients of all stages into params.grads.
const char* launch_belief_map_loss_backward(const LossParams& params, void* stream);

}  // namespace cpm
