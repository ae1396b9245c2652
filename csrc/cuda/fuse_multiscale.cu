#include "fuse_multiscale.h"
#include "launch.h"

#include "fuse_multiscale_kernel.h"

namespace cpm {

using namespace fuse_kernels;

namespace {

__global__ void __launch_bounds__(kTableThreads, kTableBlocksAtLeast) tables_kernel(FuseParams p, Tables t) { tables_body(p, t); }

template <bool kPeaks, int kHeld>
__global__ void __launch_bounds__(kThreads, kBlocksAtLeast) fuse_kernel(FuseParams p, Tables t, unsigned long long* best) {
  fuse_body<kPeaks, kHeld>(p, t, best);
}

__global__ void __launch_bounds__(kThreads) clear_kernel(unsigned long long* best, int channels) { clear_body(best, channels); }

__global__ void __launch_bounds__(kCross * kLanes) unpack_kernel(FuseParams p, Tables t, const unsigned long long* best, float* xy, float* score) {
  unpack_body(p, t, best, xy, score);
}

long long round_up(long long value, long long to) { return (value + to - 1) / to * to; }

Tables lay_out(const FuseParams& p, float* base, long long* total) {
  Tables t;
  t.base = base;
  long long used = 0;
  for (int axis = 0; axis < 2; ++axis) {
    const long long rows = (long long)p.scales * (axis == 0 ? p.image_h : p.image_w), groups = p.scales * groups_of(p, axis);
    t.taps[axis] = t.depth[axis] = 1;
    for (int s = 0; s < p.scales; ++s) {
      const ChainAxis chain = chain_axis(p, s, axis);
      const int taps = chain_taps(chain), depth = chain_depth(chain, group_pixels(axis));
      t.taps[axis] = taps > t.taps[axis] ? taps : t.taps[axis];
      t.depth[axis] = depth > t.depth[axis] ? depth : t.depth[axis];
    }
    if (axis == 0) t.depth[0] = (int)round_up(t.depth[0], kSlice);
    if (axis == 1 && round_up(t.depth[1], kWindow) <= p.w) t.depth[1] = (int)round_up(t.depth[1], kWindow);
    t.dense[axis] = used;
    t.spans[axis] = used + groups * t.depth[axis] * group_pixels(axis);
    t.weights[axis] = t.spans[axis] + 2 * groups;
    t.cover[axis] = t.weights[axis] + rows * t.taps[axis];
    t.first[axis] = t.cover[axis] + rows;
    used = round_up(t.first[axis] + rows, 4);
  }
  t.blocks = used;
  t.largest = used + 2 * p.scales * blocks_of(p);
  *total = t.largest + (long long)p.scales * p.channels;
  return t;
}

const char* launch_tables(const FuseParams& p, const Tables& t, void* stream) {
  const int longest = p.image_h > p.image_w ? p.image_h : p.image_w;
  const unsigned int blocks = (unsigned int)((longest - 1) / kTableThreads + 1);
  CPM_LAUNCH(tables_kernel, dim3(blocks, (unsigned int)p.scales, 3), kTableThreads, 0, stream, p, t);
  return launch_error();
}

template <bool kPeaks>
const char* launch_fuse(const FuseParams& p, const Tables& t, unsigned long long* best, void* stream) {
  const long long tiles = (long long)tiles_along(p.image_w) * blocks_of(p) * p.channels;
  if (tiles > 0x7fffffff) return "the image is too large for one launch";
  const bool whole = t.depth[1] % kWindow == 0;  // not of a narrow map
  CPM_LAUNCH((whole ? fuse_kernel<kPeaks, kWindow> : fuse_kernel<kPeaks, 1>), (unsigned int)tiles, kThreads, 0, stream, p, t, best);
  return launch_error();
}

const char* launch_clear(unsigned long long* best, int channels, void* stream) {
  CPM_LAUNCH(clear_kernel, 1, kThreads, 0, stream, best, channels);
  return launch_error();
}

const char* launch_unpack(const FuseParams& p, const Tables& t, const unsigned long long* best, float* xy, float* score, void* stream) {
  CPM_LAUNCH(unpack_kernel, (unsigned int)p.channels, kCross * kLanes, 0, stream, p, t, best, xy, score);
  return launch_error();
}

}  // namespace

long long fuse_workspace_floats(const FuseParams& p) {
  long long total;
  lay_out(p, nullptr, &total);
  return total;
}

const char* launch_fuse_multiscale(const FuseParams& p, float* workspace, void* stream) {
  long long total;
  const Tables t = lay_out(p, workspace, &total);
  const char* error = launch_tables(p, t, stream);
  return error != nullptr ? error : launch_fuse<false>(p, t, nullptr, stream);
}

const char* launch_fuse_multiscale_peaks(const FuseParams& p, float* workspace, unsigned long long* best, float* xy, float* score,
                                         void* stream) {
  long long total;
  const Tables t = lay_out(p, workspace, &total);
  const char* error = launch_clear(best, p.channels, stream);
  if (error == nullptr) error = launch_tables(p, t, stream);
  if (error == nullptr) error = launch_fuse<true>(p, t, best, stream);
  return error != nullptr ? error : launch_unpack(p, t, best, xy, score, stream);
}

}  // namespace cpm
