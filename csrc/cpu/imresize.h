#pragma once

#include <vector>

#include "../math/resize.h"

namespace cpm {

// Non-zero normalised weights of every output pixel of an axis: entries start[i]..start[i+1]-1.
struct ResizeTable {
  std::vector<long long> start;
  std::vector<int> index;
  std::vector<double> weight;
};

ResizeTable make_resize_table(const ResizeAxis& axis);

// One axis of an array is cut into this many tasks.
long long resize_tasks(const ResizeParams& params);

// Resamples what belongs to tasks first..last-1.
void resize_axis_cpu(const ResizeParams& params, const ResizeTable& table, long long first, long long last);

}  // namespace cpm
