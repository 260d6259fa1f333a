// A clock that stands still until a test moves it.
//
// Not for threads: read and moved on one.
#pragma once

#include "base/clock.hpp"

namespace gatehouse::test {

class ManualClock final : public base::Clock {
 public:
  base::Monotonic::time_point monotonic() const override { return monotonic_; }
  base::WallClock::time_point wall() const override { return wall_; }

  /// Both clocks, as time does.
  void advance(std::chrono::nanoseconds by) {
    monotonic_ += std::chrono::duration_cast<base::Monotonic::duration>(by);
    wall_ += std::chrono::duration_cast<base::WallClock::duration>(by);
  }
  /// The wall clock alone, as a person or NTP does.
  void set_wall(base::WallClock::time_point to) { wall_ = to; }

 private:
  base::Monotonic::time_point monotonic_{std::chrono::hours(1000)};
  base::WallClock::time_point wall_ =
      std::chrono::time_point_cast<std::chrono::seconds>(base::WallClock::now());
};

}  // namespace gatehouse::test
