#include "base/clock.hpp"

namespace gatehouse::base {

namespace {

class RealClock final : public Clock {
 public:
  Monotonic::time_point monotonic() const override { return Monotonic::now(); }
  WallClock::time_point wall() const override { return WallClock::now(); }
};

}  // namespace

const Clock& real_clock() {
  static const RealClock clock;
  return clock;
}

}  // namespace gatehouse::base
