// How long a client may still be waited for in the middle of its body: waiting uses patience up,
// bytes bring it back.
//
// Only waiting counts, so an origin that takes its time costs the client nothing. Knows no stream
// and holds no timer: whoever waits arms one. Lives in one request.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>

#include "base/clock.hpp"
#include "base/timer_wheel.hpp"
#include "config/snapshot.hpp"

namespace gatehouse::http {

class BodyPace {
 public:
  using Time = base::Monotonic::time_point;

  /// A body begins. `most` is the longest wait; on average it has to bring `bytes_a_second`, or 0:
  /// anything brings all patience back.
  void begin(config::Duration most, uint64_t bytes_a_second) {
    most_ = patience_ = most;
    bytes_a_second_ = bytes_a_second;
    waiting_since_.reset();
  }
  /// A wait begins; it may last so long.
  config::Duration wait(Time now) {
    spend(now);
    waiting_since_ = now;
    return std::chrono::ceil<config::Duration>(std::max(Patience(0), patience_));
  }
  /// It is over, or there was none, and so many bytes have come. False: too late. Timers are
  /// coarse, and each piece sets the next one: pieces in step with them would never be cut.
  bool received(uint64_t bytes, Time now) {
    spend(now);
    waiting_since_.reset();
    if (bytes_a_second_ == 0 || bytes >= bytes_restoring_max) {
      patience_ = most_;
      return true;
    }
    const bool in_time = patience_ >= -lateness_max;
    patience_ = std::min(most_, patience_ + Patience(bytes * 1'000'000 / bytes_a_second_));
    return in_time;
  }

 private:
  using Patience = std::chrono::microseconds;
  static constexpr Patience lateness_max = 2 * base::TimerWheel::tick;
  static constexpr uint64_t bytes_restoring_max = uint64_t{1} << 40;  // more would overflow

  void spend(Time now) {
    if (!waiting_since_) return;
    patience_ -= std::chrono::duration_cast<Patience>(now - *waiting_since_);
  }

  Patience most_{0};
  Patience patience_{0};
  uint64_t bytes_a_second_ = 0;
  std::optional<Time> waiting_since_;
};

}  // namespace gatehouse::http
