// Test-only: the threads of a block as fibers. Each runs up to its next barrier and hands control on; all must come to the
// same one, or to their end. Where a warp does something together, its lanes meet in the same way, whatever other warps do.
#pragma once

#include <link.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>

#include "limits.h"
#include "race_detector.h"
#include "switch_stack.h"

// A library's thread-local variables lie side by side; nothing else here is one, so that all of them can be filled.
#define __shared__ static thread_local

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace stand_in {

constexpr size_t kStackBytes = 256 * 1024, kMostThreads = 1024, kWarp = 32;

struct Thread {
  Context context;
  char* stack;
  void* fiber;       // of the race detector
  const char* file;  // where it waits
  int line;          // 0: it has ended
  bool for_warp;     // it waits for its warp alone
  unsigned int products;  // that it has made with its warp
};

inline Thread threads[kMostThreads];
inline size_t order[kMostThreads];
inline Context scheduler;
inline void* scheduler_fiber;
inline size_t current, pass;
inline std::function<void()> body;
// Places that tell the race detector what comes after what: two barriers in turn, since of two that follow each other one
// is left by some threads when others come to the next; a block's beginning and its end.
inline char barriers[2], begun, ended;

// 0: threads and blocks run from first to last, 1: from last to first, else: threads in an order that this number
// chooses, another between any two barriers, and blocks from some other on. A forgotten barrier shows in one of them.
inline unsigned int chosen_order = 0;

inline unsigned int random_number() {
  static unsigned int state = 1;
  state = state * 1664525u + 1013904223u + chosen_order;
  return state >> 8;
}

STAND_IN_UNSEEN inline void to_scheduler(Thread& me) {
  switch_fiber(scheduler_fiber);
  switch_stack(me.context, scheduler);
}

STAND_IN_UNSEEN inline void run_body() {
  take(&begun);
  body();
  give(&ended);
  threads[current].line = 0;
  threads[current].for_warp = false;
  to_scheduler(threads[current]);
}

STAND_IN_UNSEEN inline void wait_at(const char* file, int line, bool for_warp) {
  Thread& me = threads[current];
  me.file = file;
  me.line = line;
  me.for_warp = for_warp;
  to_scheduler(me);
}

// The barrier of this file's line, if one is named, orders nothing for the race detector, as if it were forgotten.
inline const char* forgotten_file = nullptr;
inline int forgotten_line = 0;

STAND_IN_UNSEEN inline bool forgotten(const char* file, int line) {
  if (forgotten_file == nullptr || line != forgotten_line) return false;
  const char* const slash = strrchr(file, '/');
  return strcmp(slash == nullptr ? file : slash + 1, forgotten_file) == 0;
}

STAND_IN_UNSEEN inline void barrier(const char* file, int line) {
  const bool orders = !forgotten(file, line);
  char* const here = &barriers[pass % 2];
  if (orders) give(here);
  wait_at(file, line, false);
  if (orders) take(here);
}

// Orders no accesses to memory, as a matrix product of a warp does not.
STAND_IN_UNSEEN inline void meet_warp(const char* file, int line) { wait_at(file, line, true); }

STAND_IN_UNSEEN inline void resume(size_t index) {
  current = index;
  threadIdx.x = (unsigned int)(index % blockDim.x);
  threadIdx.y = (unsigned int)(index / blockDim.x % blockDim.y);
  threadIdx.z = (unsigned int)(index / blockDim.x / blockDim.y);
  switch_fiber(threads[index].fiber);
  switch_stack(scheduler, threads[index].context);
}

// What a block finds in shared memory: NaN, or a negative number, which no kernel goes on with unnoticed.
inline int fill_shared(dl_phdr_info* module, size_t, void* here) {
  bool mine = false;
  size_t bytes = 0;
  for (int i = 0; i < module->dlpi_phnum; ++i) {
    const ElfW(Phdr)& part = module->dlpi_phdr[i];
    mine = mine || (part.p_type == PT_LOAD && (size_t)here - (module->dlpi_addr + part.p_vaddr) < part.p_memsz);
    if (part.p_type == PT_TLS) bytes = part.p_memsz;
  }
  if (mine && module->dlpi_tls_data != nullptr) std::fill_n(static_cast<char*>(module->dlpi_tls_data), bytes, (char)0xff);
  return mine;
}

STAND_IN_UNSEEN inline void prepare(size_t count) {
  for (size_t i = 0; i < count; ++i) {
    Thread& thread = threads[i];
    if (thread.stack == nullptr) {
      thread.stack = new char[kStackBytes];
      thread.fiber = new_fiber();
    }
    thread.products = 0;
    begin_on(thread.context, thread.stack, kStackBytes, run_body);
    order[i] = chosen_order == 1 ? count - 1 - i : i;
  }
  scheduler_fiber = this_fiber();
}

STAND_IN_UNSEEN inline void shuffle(size_t count) {
  for (size_t i = count - 1; i > 0; --i) std::swap(order[i], order[random_number() % (i + 1)]);
}

// A GPU waits forever, or goes on with what is not there yet, when threads of a block part at a barrier. It forgives one
// that has ended; no kernel here asks it to.
STAND_IN_UNSEEN inline bool all_together(size_t count) {
  for (size_t i = 1; i < count; ++i) {
    const Thread &one = threads[0], &other = threads[i];
    if (one.line != other.line || (one.line != 0 && one.file != other.file)) {
      return fail(cudaErrorLaunchFailure, "thread 0 waits at line %d, thread %zu at line %d (0: has ended)", one.line, i, other.line);
    }
  }
  return true;
}

// Whether the lanes of each warp wait for it together, or none does. Notes in `any` whether one does.
STAND_IN_UNSEEN inline bool warps_together(size_t count, bool& any) {
  any = false;
  for (size_t i = 0; i < count; ++i) {
    const Thread &one = threads[i / kWarp * kWarp], &other = threads[i];
    any = any || other.for_warp;
    const bool same = one.for_warp == other.for_warp && (!one.for_warp || (one.line == other.line && one.file == other.file));
    if (!same || (one.for_warp && i / kWarp * kWarp + kWarp > count)) {
      return fail(cudaErrorLaunchFailure, "lane 0 of a warp waits at line %d, lane %zu at line %d (0: has ended)", one.line, i % kWarp, other.line);
    }
  }
  return true;
}

// All threads to their next barrier.
STAND_IN_UNSEEN inline bool run_pass(size_t count) {
  for (size_t i = 0; i < count; ++i) threads[i].for_warp = true;
  for (bool any = true; any;) {
    if (chosen_order > 1) shuffle(count);
    for (size_t k = 0; k < count; ++k) {
      if (threads[order[k]].for_warp) resume(order[k]);
    }
    if (!warps_together(count, any)) return false;
  }
  return all_together(count);
}

STAND_IN_UNSEEN inline bool run_block(size_t count) {
  __shared__ volatile char touched;  // memory of this kind is there once something in it was touched
  touched = 0;
  dl_iterate_phdr(fill_shared, &current);
  prepare(count);
  give(&begun);
  for (pass = 0;; ++pass) {
    if (!run_pass(count)) return false;
    if (threads[0].line == 0) break;
  }
  take(&ended);
  return true;
}

// Blocks run one after the other.
inline void launch(dim3 grid, dim3 block, size_t shared_bytes, std::function<void()> kernel) {
  if (!launchable(grid, block, shared_bytes)) return;
  gridDim = grid;
  blockDim = block;
  body = std::move(kernel);
  const unsigned long long blocks = (unsigned long long)grid.x * grid.y * grid.z;
  const unsigned long long offset = chosen_order > 1 ? random_number() % blocks : 0;
  for (unsigned long long k = 0; k < blocks; ++k) {
    const unsigned long long number = chosen_order == 1 ? blocks - 1 - k : (k + offset) % blocks;
    blockIdx = dim3((unsigned int)(number % grid.x), (unsigned int)(number / grid.x % grid.y), (unsigned int)(number / grid.x / grid.y));
    if (!run_block((size_t)block.x * block.y * block.z)) return;
  }
}

}  // namespace stand_in
