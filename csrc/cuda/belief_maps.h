#pragma once

#include "../math/belief.h"

namespace cpm {

// Makes the label and/or the centre map in one launch on the stream (a cudaStream_t). Null, or what went wrong.
const char* launch_belief_maps(const BeliefParams& params, void* stream);

}  // namespace cpm
