// Stores that go past the caches: memory that is written whole need not be read first.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace cpm {

// Copies floats to memory that is not needed soon. Call stream_end() when a thread is done.
inline void stream_copy(const float* from, long long count, float* to) {
#if defined(__SSE2__)
  constexpr size_t kBytes = 16;
  const long long head = (long long)((kBytes - reinterpret_cast<uintptr_t>(to) % kBytes) % kBytes / sizeof(float));
  long long i = std::min(head, count);
  std::copy_n(from, i, to);
  for (; i + 4 <= count; i += 4) _mm_stream_ps(to + i, _mm_loadu_ps(from + i));
  std::copy_n(from + i, count - i, to + i);
#else
  std::copy_n(from, count, to);
#endif
}

// Makes streamed stores visible to other threads.
inline void stream_end() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace cpm
