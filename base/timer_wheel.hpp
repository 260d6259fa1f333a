// Deadlines by the thousand, to a tenth of a second.
//
// Not for precise waits. Intrusive: arming allocates nothing, and moving a deadline further away,
// which is what every request does, is one store: the timer is put in its place when it comes up.
// Lives on one worker's thread.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "base/clock.hpp"

namespace gatehouse::base {

class TimerWheel;

class Timer {
 public:
  using Callback = void (*)(Timer&);
  explicit Timer(Callback callback) : callback_(callback) {}
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() { unlink(); }

  bool armed() const { return deadline_ != Monotonic::time_point::max(); }
  /// No call comes any more; the place in the wheel is given up when it comes up.
  void disarm() { deadline_ = Monotonic::time_point::max(); }

 private:
  friend class TimerWheel;
  void unlink();

  Callback callback_;
  Timer* next_ = nullptr;
  Timer** previous_ = nullptr;  // what points here; null: in no slot
  uint64_t tick_ = 0;           // of the slot it is in
  Monotonic::time_point deadline_ = Monotonic::time_point::max();
};

class TimerWheel {
 public:
  static constexpr std::chrono::milliseconds tick{100};
  static constexpr size_t slots = 1024;

  explicit TimerWheel(Monotonic::time_point now) : start_(now) {}

  /// Calls the timer once, at `now + wait` or up to two ticks later.
  void arm(Timer& timer, Monotonic::time_point now, std::chrono::milliseconds wait);

  /// Calls every timer whose deadline has passed, but no more than `most`: false, if others may be
  /// due. A callback may arm, disarm and destroy timers.
  bool advance(Monotonic::time_point now, size_t most = SIZE_MAX);

 private:
  friend class Timer;
  uint64_t tick_of(Monotonic::time_point time) const;
  void link(Timer& timer);

  Monotonic::time_point start_;
  uint64_t current_ = 0;  // the last tick that advance() has dealt with
  std::array<Timer*, slots> slots_{};
};

}  // namespace gatehouse::base
