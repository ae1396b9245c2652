// Test-only: tells ThreadSanitizer, where a library is built with it, which accesses of a block's threads are ordered:
// what lies on different sides of a barrier, of a block's beginning or of its end. All else are races, whatever the order
// in which the threads happen to run.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_THREAD__)

extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned int flags);
void __tsan_switch_to_fiber(void* fiber, unsigned int flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
// Volatile reads (-fsanitize=thread --param tsan-distinguish-volatile=1): ordered by the hardware, and no races.
__attribute__((weak)) void __tsan_volatile_read8(void*) {}
}

// Of what plays the GPU itself.
#define STAND_IN_UNSEEN __attribute__((no_sanitize("thread")))

namespace stand_in {

inline void* new_fiber() { return __tsan_create_fiber(0); }
inline void* this_fiber() { return __tsan_get_current_fiber(); }
STAND_IN_UNSEEN inline void switch_fiber(void* to) { __tsan_switch_to_fiber(to, 1); }  // 1: nothing is ordered by it
STAND_IN_UNSEEN inline void give(void* where) { __tsan_release(where); }
STAND_IN_UNSEEN inline void take(void* where) { __tsan_acquire(where); }

}  // namespace stand_in

#else

#define STAND_IN_UNSEEN

namespace stand_in {

inline void* new_fiber() { return nullptr; }
inline void* this_fiber() { return nullptr; }
inline void switch_fiber(void*) {}
inline void give(void*) {}
inline void take(void*) {}

}  // namespace stand_in

#endif
