#pragma once

#include "../math/resize.h"

namespace cpm {

// Resamples one axis on the stream (a cudaStream_t). Null, or what went wrong.
const char* launch_resize_axis(const ResizeParams& params, void* stream);

}  // namespace cpm
