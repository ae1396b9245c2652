// Test-only: going on on another stack. swapcontext asks the kernel for the signals' mask each time, which took nine tenths
// of a kernel's time here; on x86-64 six registers are kept instead.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
extern "C" void __asan_unpoison_memory_region(const volatile void* from, size_t bytes);
#endif

#if defined(__x86_64__)

namespace stand_in {

struct Context {
  uintptr_t* top;
};

// What is kept lies on the stack that is left, below the address to return to.
__attribute__((naked, noinline, no_sanitize("thread", "address", "undefined"))) inline void switch_stack(Context&, const Context&) {
  asm("pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
      "movq %rsp, (%rdi)\n movq (%rsi), %rsp\n"
      "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret");
}

inline void start_at(Context& context, char* stack, size_t bytes, void (*entry)()) {
  context.top = reinterpret_cast<uintptr_t*>((reinterpret_cast<uintptr_t>(stack) + bytes) / 16 * 16);
  *--context.top = 0;  // where entry would return to
  *--context.top = reinterpret_cast<uintptr_t>(entry);
  for (int kept = 0; kept < 6; ++kept) *--context.top = 0;
}

}  // namespace stand_in

#else

#include <ucontext.h>

namespace stand_in {

using Context = ucontext_t;

inline void switch_stack(Context& from, const Context& to) { swapcontext(&from, &to); }

inline void start_at(Context& context, char* stack, size_t bytes, void (*entry)()) {
  getcontext(&context);
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = bytes;
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
}

}  // namespace stand_in

#endif

namespace stand_in {

// Makes `context` begin `entry`, which must not return, on a stack that may have been in use.
inline void begin_on(Context& context, char* stack, size_t bytes, void (*entry)()) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack, bytes);
#endif
  start_at(context, stack, bytes, entry);
}

}  // namespace stand_in
