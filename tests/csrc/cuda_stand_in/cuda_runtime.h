// Test-only: runs CUDA kernels on the CPU. Every CUDA thread is a fiber; __syncthreads and warp operations hand
// control on until all threads of the block have come there. Blocks run one after the other.
#pragma once

#include <link.h>
#include <math.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
// A library's thread-local variables lie side by side; nothing else here is one, so that all of them can be filled.
#define __shared__ static thread_local
#define __restrict__

struct dim3 {
  unsigned int x, y, z;
  dim3(unsigned int x_ = 1, unsigned int y_ = 1, unsigned int z_ = 1) : x(x_), y(y_), z(z_) {}
};

enum cudaError_t { cudaSuccess = 0 };
typedef void* cudaStream_t;
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return "stand-in"; }

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace stand_in {

constexpr size_t kStackBytes = 256 * 1024;
inline bool reverse_order = false;  // threads run last to first: a forgotten barrier shows in one of the orders

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  bool done = false;
};

inline ucontext_t scheduler;
inline std::vector<Fiber> fibers;
inline size_t current = 0;
inline std::function<void()> body;
inline std::vector<unsigned long long> exchange;  // one slot per thread, for warp operations

inline void run_body() {
  body();
  fibers[current].done = true;
  swapcontext(&fibers[current].context, &scheduler);
}

inline void barrier() { swapcontext(&fibers[current].context, &scheduler); }

inline void set_thread(size_t index) {
  current = index;
  threadIdx = dim3(index % blockDim.x, index / blockDim.x % blockDim.y, index / blockDim.x / blockDim.y);
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

// One pass resumes every unfinished thread up to its next barrier.
inline void run_block(size_t threads) {
  if (fibers.size() < threads) fibers = std::vector<Fiber>(threads);
  exchange.assign(threads, 0);
  __shared__ char first;  // memory of this kind is there once something in it was touched
  first = 0;
  dl_iterate_phdr(fill_shared, &current);
  for (size_t i = 0; i < threads; ++i) {
    fibers[i].done = false;
    getcontext(&fibers[i].context);
    fibers[i].context.uc_stack.ss_sp = fibers[i].stack.get();
    fibers[i].context.uc_stack.ss_size = kStackBytes;
    fibers[i].context.uc_link = nullptr;
    makecontext(&fibers[i].context, run_body, 0);
  }
  for (bool left = true; left;) {
    left = false;
    for (size_t k = 0; k < threads; ++k) {
      const size_t i = reverse_order ? threads - 1 - k : k;
      if (fibers[i].done) continue;
      set_thread(i);
      swapcontext(&scheduler, &fibers[i].context);
      left = left || !fibers[i].done;
    }
  }
}

inline void launch(dim3 grid, dim3 block, std::function<void()> kernel) {
  gridDim = grid;
  blockDim = block;
  body = std::move(kernel);
  for (unsigned int z = 0; z < grid.z; ++z)
    for (unsigned int y = 0; y < grid.y; ++y)
      for (unsigned int x = 0; x < grid.x; ++x) {
        blockIdx = dim3(x, y, z);
        run_block((size_t)block.x * block.y * block.z);
      }
}

// What lane `from` of the caller's warp gave. All threads of the block must take part, as in the real thing
// all lanes named by the mask must.
template <typename T>
T from_lane(T value, unsigned int from) {
  static_assert(sizeof(T) <= sizeof(unsigned long long), "one slot");
  const size_t me = current;
  *reinterpret_cast<T*>(&exchange[me]) = value;
  barrier();
  const size_t source = std::min(me / 32 * 32 + from, exchange.size() - 1);
  const T got = *reinterpret_cast<T*>(&exchange[source]);
  barrier();
  return got;
}

}  // namespace stand_in

inline void __syncthreads() { stand_in::barrier(); }
template <typename T>
T __shfl_xor_sync(unsigned int, T value, int mask) {
  return stand_in::from_lane(value, (unsigned int)((stand_in::current % 32) ^ mask));
}
template <typename T>
T __shfl_down_sync(unsigned int, T value, unsigned int delta) {
  const unsigned int lane = stand_in::current % 32;
  return stand_in::from_lane(value, lane + delta < 32 ? lane + delta : lane);
}

inline unsigned long long atomicMax(unsigned long long* address, unsigned long long value) {
  const unsigned long long old = *address;
  *address = std::max(old, value);
  return old;
}

#define CPM_LAUNCH(kernel, blocks, threads, shared_bytes, stream, ...) \
  stand_in::launch(dim3(blocks), dim3(threads), [&] { kernel(__VA_ARGS__); })
