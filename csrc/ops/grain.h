// How finely work is shared among torch's threads.
#pragma once

#include <algorithm>
#include <cstdint>

namespace cpm {

// The fewest of `tasks` equal tasks that are worth a thread, when all of them are `work` (of any unit) and a thread does
// `per_thread` of it in the time that it takes to give it to another. That is microseconds where threads have just worked,
// 70 us where they sleep, and far more where no core is free.
inline int64_t grain(int64_t tasks, double work, double per_thread) {
  return static_cast<int64_t>(std::clamp(tasks * per_thread / std::max(work, 1.0), 1.0, std::max(static_cast<double>(tasks), 1.0)));
}

}  // namespace cpm
