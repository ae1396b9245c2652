#pragma once

#include "../math/fuse.h"

namespace cpm {

// Floats of device workspace that the launches below need.
long long fuse_workspace_floats(const FuseParams& params);

// Full-size maps into params.out, on the stream (a cudaStream_t). Null, or what went wrong.
const char* launch_fuse_multiscale(const FuseParams& params, float* workspace, void* stream);

// First maxima: xy (C, 2), score (C,); best (C,) is workspace.
const char* launch_fuse_multiscale_peaks(const FuseParams& params, float* workspace, unsigned long long* best, float* xy,
                                         float* score, void* stream);

}  // namespace cpm
