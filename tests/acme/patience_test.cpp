#include "acme/patience.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <catch2/catch.hpp>

#include "tests/support/await.hpp"
#include "tests/support/manual_clock.hpp"

namespace gatehouse::acme {

using namespace std::chrono_literals;

namespace {

using std::chrono::milliseconds;

enum class Pause : uint8_t { refused, begun };

/// What the pause number `look` (from 1) comes to with `left` before the deadline: it begins if
/// that leaves room for it, and is refused if a millisecond is missing. Nobody has to wait for it.
Pause pause_of(int look, milliseconds left,
               std::optional<milliseconds> retry_after = std::nullopt) {
  boost::asio::io_context control;
  test::ManualClock clock;
  const auto deadline = clock.monotonic() + 1h;
  Patience patience(clock, deadline);
  std::optional<bool> outcome;
  const auto pause = [&](std::optional<milliseconds> told) {
    outcome.reset();
    boost::asio::co_spawn(control, patience.wait(told),
                          [&](std::exception_ptr, bool given) { outcome = given; });
    control.restart();
    control.poll();
  };
  clock.advance(1h);  // those before it find no time left
  for (int one = 1; one < look; ++one) {
    pause(std::nullopt);
    REQUIRE(outcome == false);
  }
  clock.advance(-left);
  pause(retry_after);
  // A machine that stands still for so long may have seen the pause's end.
  return outcome == false ? Pause::refused : Pause::begun;
}

}  // namespace

TEST_CASE("a CA that says to come back at once is asked no more often than one that says nothing") {
  boost::asio::io_context control;
  const auto told = GENERATE(std::optional<std::chrono::milliseconds>(), std::optional(0ms));
  const auto& clock = base::real_clock();
  const auto begin = clock.monotonic();
  Patience patience(clock, begin + 1min);
  for (int look = 0; look < 3; ++look) CHECK(test::await(control, patience.wait(told)));
  CHECK(clock.monotonic() - begin >= 15ms + 100ms + 150ms);
}

TEST_CASE("a CA that says when to come back is asked then, unless that is too late") {
  boost::asio::io_context control;
  const auto& clock = base::real_clock();
  const auto begin = clock.monotonic();
  Patience patience(clock, begin + 1h);
  CHECK(test::await(control, patience.wait(50ms)));
  CHECK(clock.monotonic() - begin >= 50ms);
  CHECK_FALSE(test::await(control, patience.wait(2h)));
}

TEST_CASE(
    "a CA that says nothing is asked after 15 ms and 100, then half as long again, up to 3 s") {
  const std::vector<milliseconds> pauses = {15ms,  100ms,  150ms,  225ms,  337ms,  505ms,
                                            757ms, 1135ms, 1702ms, 2553ms, 3000ms, 3000ms};
  for (size_t i = 0; i < pauses.size(); ++i) {
    const int look = static_cast<int>(i) + 1;
    INFO("pause " << look);
    CHECK(pause_of(look, pauses[i]) == Pause::begun);
    CHECK(pause_of(look, pauses[i] - 1ms) == Pause::refused);
  }
}

TEST_CASE("what the CA says of its pace goes before ours, however long it has been asked") {
  for (const int look : {1, 5, 20}) {
    CHECK(pause_of(look, 20s, 20s) == Pause::begun);
    CHECK(pause_of(look, 20s - 1ms, 20s) == Pause::refused);
  }
}

}  // namespace gatehouse::acme
