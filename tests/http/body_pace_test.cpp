#include "http/body_pace.hpp"

#include <catch2/catch.hpp>

namespace gatehouse::http {

namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// A client that sends `bytes` every `pause`: how long until it is given up, or nothing in 2 days.
std::optional<seconds> given_up_after(uint64_t bytes, milliseconds pause, uint64_t rate) {
  BodyPace pace;
  pace.begin(seconds(60), rate);
  const BodyPace::Time start{hours(1)};
  auto now = start;
  while (now - start < hours(48)) {
    const milliseconds patience = pace.wait(now);
    if (patience < pause) return std::chrono::duration_cast<seconds>(now + patience - start);
    now += pause;
    pace.received(bytes, now);
  }
  return std::nullopt;
}

}  // namespace

TEST_CASE("a body that brings its bytes a second is waited for however long it takes") {
  CHECK_FALSE(given_up_after(64, seconds(1), 64));
  CHECK_FALSE(given_up_after(1, milliseconds(15), 64));
  CHECK_FALSE(given_up_after(64 * 59, seconds(59), 64));
  CHECK_FALSE(given_up_after(1'000'000, seconds(60), 64));
}

TEST_CASE("a body that brings less is given up when patience is used up") {
  CHECK(given_up_after(1, seconds(59), 64) == seconds(60));
  CHECK(given_up_after(1, seconds(1), 64) == seconds(60));
  CHECK(given_up_after(32, seconds(1), 64) == seconds(119));
  CHECK(given_up_after(63, seconds(1), 64) > seconds(3600));
  CHECK(given_up_after(0, seconds(10), 64) == seconds(60));
}

TEST_CASE("silence is never borne for longer than the longest wait, whatever came before") {
  CHECK(given_up_after(1'000'000'000, seconds(61), 64) == seconds(60));
  CHECK(given_up_after(UINT64_MAX, seconds(61), 1) == seconds(60));
}

TEST_CASE("without a rate each byte brings all patience back") {
  CHECK_FALSE(given_up_after(1, seconds(59), 0));
  CHECK(given_up_after(1, seconds(61), 0) == seconds(60));
}

TEST_CASE("pieces that come just before a timer that is late are too late themselves") {
  BodyPace pace;
  BodyPace::Time now{hours(1)};
  pace.begin(milliseconds(500), 64);
  const BodyPace::Time start = now;
  bool in_time = true;
  while (in_time && now - start < hours(1)) {
    pace.wait(now);
    now += milliseconds(50);  // the timer was set to less, and is up to 200 ms late
    in_time = pace.received(1, now);
  }
  CHECK_FALSE(in_time);
  CHECK(now - start < milliseconds(500 + 200) * 64 / (64 - 20) + milliseconds(50));
  CHECK(pace.wait(now) == milliseconds(0));
}

TEST_CASE("a body that is waited for without a rate is never late") {
  BodyPace pace;
  BodyPace::Time now{hours(1)};
  pace.begin(milliseconds(500), 0);
  pace.wait(now);
  now += hours(1);  // the worker was held up: what has come meanwhile counts
  CHECK(pace.received(1, now));
  CHECK(pace.wait(now) == milliseconds(500));
}

TEST_CASE("only waiting uses patience up, and a new body has all of it") {
  BodyPace pace;
  BodyPace::Time now{hours(1)};
  pace.begin(seconds(60), 64);
  CHECK(pace.wait(now) == seconds(60));
  now += seconds(50);
  pace.received(64, now);
  now += hours(1);  // the origin took its time
  CHECK(pace.wait(now) == seconds(11));
  now += seconds(11);
  pace.received(0, now);
  CHECK(pace.wait(now) == seconds(0));
  pace.begin(seconds(60), 64);
  CHECK(pace.wait(now) == seconds(60));
}

}  // namespace gatehouse::http
