#include "base/timer_wheel.hpp"

#include <algorithm>
#include <memory>
#include <vector>

#include <catch2/catch.hpp>

namespace gatehouse::base {

namespace {

using std::chrono::milliseconds;

struct Counting : Timer {
  Counting() : Timer([](Timer& self) { ++static_cast<Counting&>(self).calls; }) {}
  int calls = 0;
};

struct Moment {
  Monotonic::time_point now{};
  TimerWheel wheel{now};
  void pass(milliseconds time) {
    now += time;
    wheel.advance(now);
  }
};

}  // namespace

TEST_CASE("a timer is called once, not before its deadline and at most two ticks after it") {
  for (const int wait : {1, 99, 100, 101, 250, 5'000, 102'300, 102'500, 400'000}) {
    Moment moment;
    Counting timer;
    moment.wheel.arm(timer, moment.now, milliseconds(wait));
    int passed = 0;
    while (timer.calls == 0 && passed < wait + 1'000) {
      moment.pass(milliseconds(10));
      passed += 10;
    }
    INFO("wait " << wait << " passed " << passed);
    CHECK(passed >= wait);
    CHECK(passed <= wait + 210);
    moment.pass(milliseconds(1'000'000));
    CHECK(timer.calls == 1);
  }
}

TEST_CASE("a disarmed timer is not called, and can be armed again") {
  Moment moment;
  Counting timer;
  moment.wheel.arm(timer, moment.now, milliseconds(500));
  timer.disarm();
  CHECK_FALSE(timer.armed());
  moment.pass(milliseconds(1'000));
  CHECK(timer.calls == 0);
  moment.wheel.arm(timer, moment.now, milliseconds(500));
  moment.pass(milliseconds(1'000));
  CHECK(timer.calls == 1);
}

TEST_CASE("a deadline can be moved away and nearer") {
  Moment moment;
  Counting timer;
  moment.wheel.arm(timer, moment.now, milliseconds(500));
  moment.wheel.arm(timer, moment.now, milliseconds(2'000));
  moment.pass(milliseconds(1'900));
  CHECK(timer.calls == 0);
  moment.pass(milliseconds(400));
  CHECK(timer.calls == 1);
  moment.wheel.arm(timer, moment.now, milliseconds(60'000));
  moment.wheel.arm(timer, moment.now, milliseconds(300));
  moment.pass(milliseconds(600));
  CHECK(timer.calls == 2);
}

TEST_CASE("a callback may destroy other timers of the same slot and arm its own again") {
  Moment moment;
  std::vector<std::unique_ptr<Counting>> victims;
  struct Destroyer : Timer {
    Destroyer(Moment& m, std::vector<std::unique_ptr<Counting>>& v)
        : Timer([](Timer& self) {
            auto& d = static_cast<Destroyer&>(self);
            d.victims.clear();
            if (++d.calls == 1) d.moment.wheel.arm(d, d.moment.now, milliseconds(300));
          }),
          moment(m),
          victims(v) {}
    Moment& moment;
    std::vector<std::unique_ptr<Counting>>& victims;
    int calls = 0;
  };
  for (int i = 0; i < 3; ++i) {
    victims.push_back(std::make_unique<Counting>());
    moment.wheel.arm(*victims.back(), moment.now, milliseconds(200));
  }
  Destroyer destroyer(moment, victims);
  moment.wheel.arm(destroyer, moment.now, milliseconds(200));
  moment.pass(milliseconds(500));
  moment.pass(milliseconds(600));
  CHECK(destroyer.calls == 2);
  CHECK(victims.empty());
}

TEST_CASE("after a long pause every timer that is due is called") {
  Moment moment;
  std::vector<Counting> timers(1'000);
  for (size_t i = 0; i < timers.size(); ++i) {
    moment.wheel.arm(timers[i], moment.now, milliseconds(1 + i * 90));
  }
  moment.pass(milliseconds(10'000'000));
  for (const auto& timer : timers) CHECK(timer.calls == 1);
}

TEST_CASE("of very many due timers so many are called at once, and the others right after") {
  Moment moment;
  std::vector<Counting> timers(1000);
  for (size_t i = 0; i < timers.size(); ++i) {
    moment.wheel.arm(timers[i], moment.now, milliseconds(100 + i % 3 * 100));
  }
  const auto called = [&] {
    return std::count_if(timers.begin(), timers.end(), [](const auto& t) { return t.calls > 0; });
  };
  moment.now += milliseconds(1000);
  int rounds = 1;
  while (!moment.wheel.advance(moment.now, 64)) {
    CHECK(called() == 64 * rounds);
    if (++rounds == 3) timers[1].disarm();
  }
  CHECK(called() == 999);
  CHECK(rounds == 16);
  for (const auto& timer : timers) CHECK(timer.calls <= 1);
  // Those armed meanwhile are not lost.
  moment.wheel.arm(timers[1], moment.now, milliseconds(100));
  moment.pass(milliseconds(400));
  CHECK(timers[1].calls == 1);
}

}  // namespace gatehouse::base
