// Inner loops are compiled for several instruction sets; which one runs is decided when the library is loaded.
#pragma once

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && !defined(CPM_NO_CLONES)
#define CPM_X86
#define CPM_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CPM_CLONES
#endif
// For the templates that such a function is made of.
#define CPM_ALWAYS_INLINE inline __attribute__((always_inline))
