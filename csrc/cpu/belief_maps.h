// CPU loops for belief maps; torch-free, the caller brings the threads.
#pragma once

#include "../math/belief.h"

namespace cpm {

// The work is cut into this many independent tasks per sample, of about equal size in training.
int belief_tasks_per_sample(const BeliefParams& params);

// Runs tasks first..last-1 of samples * belief_tasks_per_sample(params).
void belief_maps_cpu(const BeliefParams& params, long long first, long long last);

}  // namespace cpm
