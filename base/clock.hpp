// Time: a monotonic clock for every wait, the wall clock for certificates and logs.
//
// The worker does not call these for each request: it reads Reactor::now(), set once a batch.
// Any thread.
#pragma once

#include <chrono>

namespace gatehouse::base {

using Monotonic = std::chrono::steady_clock;
using WallClock = std::chrono::system_clock;

/// The seam for tests that need to move time. Real code gets `system_clock_source()`.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Monotonic::time_point monotonic() const = 0;
  virtual WallClock::time_point wall() const = 0;
};

/// The machine's clocks; lives as long as the program.
const Clock& real_clock();

}  // namespace gatehouse::base
