#include "base/timer_wheel.hpp"

#include <algorithm>

namespace gatehouse::base {

void Timer::unlink() {
  if (previous_ == nullptr) return;
  *previous_ = next_;
  if (next_ != nullptr) next_->previous_ = previous_;
  previous_ = nullptr;
  next_ = nullptr;
}

uint64_t TimerWheel::tick_of(Monotonic::time_point time) const {
  return static_cast<uint64_t>((time - start_) / tick);
}

void TimerWheel::link(Timer& timer) {
  // One tick later than the deadline's own, so that it has passed when the slot comes up; a far
  // deadline waits in the furthest slot and moves on from there.
  const uint64_t wanted = tick_of(timer.deadline_) + 1;
  timer.tick_ = std::clamp(wanted, current_ + 1, current_ + slots - 1);
  Timer*& head = slots_[timer.tick_ % slots];
  timer.next_ = head;
  if (head != nullptr) head->previous_ = &timer.next_;
  head = &timer;
  timer.previous_ = &head;
}

void TimerWheel::arm(Timer& timer, Monotonic::time_point now, std::chrono::milliseconds wait) {
  timer.deadline_ = now + wait;
  if (timer.previous_ != nullptr) {
    if (tick_of(timer.deadline_) + 1 >= timer.tick_) return;
    timer.unlink();
  }
  link(timer);
}

bool TimerWheel::advance(Monotonic::time_point now, size_t most) {
  const uint64_t target = tick_of(now);
  // After a long pause one round over all slots sees every timer.
  if (target > current_ + slots) current_ = target - slots;
  while (current_ < target) {
    ++current_;
    // The slot's list is moved aside: a callback may destroy its neighbours or arm anew.
    Timer* due = slots_[current_ % slots];
    slots_[current_ % slots] = nullptr;
    if (due != nullptr) due->previous_ = &due;
    while (due != nullptr) {
      Timer& timer = *due;
      timer.unlink();
      if (!timer.armed()) continue;
      if (timer.deadline_ > now) {
        link(timer);
        continue;
      }
      timer.disarm();
      timer.callback_(timer);
      if (--most > 0 || due == nullptr) continue;
      // The rest goes back where it was, and its tick has not passed yet.
      slots_[current_ % slots] = due;
      due->previous_ = &slots_[current_ % slots];
      --current_;
      return false;
    }
    if (most == 0) return current_ == target;
  }
  return true;
}

}  // namespace gatehouse::base
