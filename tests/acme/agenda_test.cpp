#include "acme/agenda.hpp"

#include <vector>

#include <catch2/catch.hpp>

#include "tests/support/manual_clock.hpp"

using namespace gatehouse;
using acme::Agenda;
using namespace std::chrono_literals;

namespace {

struct Stage {
  Agenda::Action note(int number) {
    return [this, number] { done.push_back(number); };
  }
  /// Until it looks by itself.
  std::chrono::nanoseconds rest() const { return agenda.next_check() - clock.monotonic(); }

  boost::asio::io_context control;
  test::ManualClock clock;
  Agenda agenda{control, clock};
  std::vector<int> done;
};

}  // namespace

TEST_CASE("The wall clock is looked at again every 60 s while a date is ahead") {
  Stage stage;
  CHECK(stage.agenda.next_check() == base::Monotonic::time_point::max());
  stage.agenda.at_wall(stage.clock.wall() + 30 * 24h, stage.note(1));
  CHECK(stage.rest() == 60s);
  for (int minute = 0; minute < 3; ++minute) {
    stage.clock.advance(60s);
    stage.agenda.check();
    CHECK(stage.rest() == 60s);
    CHECK(stage.done.empty());
  }
  // Sooner if the date is sooner, or a wait is.
  stage.agenda.at_wall(stage.clock.wall() + 20s, stage.note(2));
  CHECK(stage.rest() == 20s);
  stage.agenda.after(5s, stage.note(3));
  CHECK(stage.rest() == 5s);
  stage.clock.advance(5s);
  stage.agenda.check();
  CHECK(stage.rest() == 15s);
  stage.clock.advance(15s);
  stage.agenda.check();
  CHECK(stage.done == std::vector{3, 2});
  CHECK(stage.rest() == 60s);
}

TEST_CASE("A wait alone needs no look before its time") {
  Stage stage;
  stage.agenda.after(24h, stage.note(1));
  CHECK(stage.rest() == 24h);
  // The wall clock is nothing to it.
  stage.clock.set_wall(stage.clock.wall() + 48h);
  stage.agenda.check();
  CHECK(stage.done.empty());
  stage.clock.advance(24h);
  stage.agenda.check();
  CHECK(stage.done == std::vector{1});
  CHECK(stage.agenda.next_check() == base::Monotonic::time_point::max());
}

TEST_CASE("A jump of the wall clock is reported, and dates follow it") {
  Stage stage;
  std::vector<std::chrono::seconds> jumps;
  stage.agenda.on_clock_jump([&](std::chrono::seconds jump) { jumps.push_back(jump); });
  const auto begin = stage.clock.wall();
  stage.agenda.at_wall(begin + 1h, stage.note(1));
  stage.agenda.at_wall(begin + 10h, stage.note(2));
  SECTION("forward: what is due by it runs at the next look") {
    stage.clock.advance(60s);
    stage.clock.set_wall(begin + 2h + 60s);
    stage.agenda.check();
    CHECK(stage.done == std::vector{1});
    CHECK(jumps == std::vector<std::chrono::seconds>{2h});
    CHECK(stage.rest() == 60s);
  }
  SECTION("back: what was nearly due waits for its date") {
    stage.clock.advance(59min);
    stage.agenda.check();
    CHECK(jumps.empty());
    stage.clock.advance(60s);
    stage.clock.set_wall(begin - 24h);
    stage.agenda.check();
    CHECK(stage.done.empty());
    REQUIRE(jumps.size() == 1);
    CHECK(jumps[0] == -25h);
    CHECK(stage.rest() == 60s);
    stage.clock.advance(25h);
    stage.agenda.check();
    CHECK(stage.done == std::vector{1});
    CHECK(jumps.size() == 1);
  }
  SECTION("up to a minute is drift, and a machine that slept is none") {
    stage.clock.set_wall(begin + 60s);
    stage.agenda.check();
    stage.clock.advance(5h);
    stage.agenda.check();
    CHECK(jumps.empty());
    CHECK(stage.done == std::vector{1});
    stage.clock.set_wall(stage.clock.wall() - 61s);
    stage.agenda.check();
    CHECK(jumps == std::vector<std::chrono::seconds>{-61s});
  }
}

TEST_CASE("What is due runs in its order, and may add, cancel and stop") {
  Stage stage;
  auto& agenda = stage.agenda;
  Agenda::Id cancelled = agenda.after(3s, stage.note(9));
  agenda.after(2s, [&] {
    stage.done.push_back(2);
    agenda.cancel(cancelled);
    agenda.after({}, stage.note(3));
    agenda.after(1h, stage.note(4));
  });
  agenda.after(1s, stage.note(1));
  stage.clock.advance(10s);
  agenda.check();
  CHECK(stage.done == std::vector{1, 2, 3});
  CHECK(cancelled == 0);
  agenda.cancel(cancelled);
  Agenda::Id date = agenda.at_wall(stage.clock.wall() + 1h, stage.note(8));
  agenda.cancel(date);
  CHECK(date == 0);
  agenda.after(1h, [&] { agenda.stop(); });
  agenda.after(2h, stage.note(7));
  stage.clock.advance(3h);
  agenda.check();
  CHECK(stage.done == std::vector{1, 2, 3, 4});
}

TEST_CASE("On the machine's clocks it runs by itself") {
  boost::asio::io_context control;
  Agenda agenda(control, base::real_clock());
  int done = 0;
  agenda.after(1ms, [&] { ++done; });
  agenda.at_wall(base::WallClock::now() + 2ms, [&] { ++done; });
  // It waits for nothing when nothing is left: the loop ends.
  control.run_for(10s);
  CHECK(done == 2);
  CHECK(agenda.next_check() == base::Monotonic::time_point::max());
}
