#include "acme/schedule.hpp"

#include <set>

#include <catch2/catch.hpp>

using namespace gatehouse;
using namespace gatehouse::acme;
using namespace std::chrono_literals;
using std::chrono::hours;
using std::chrono::milliseconds;
using Wall = base::WallClock::time_point;
using Mono = base::Monotonic::time_point;

namespace {

constexpr hours day{24};
const Wall start = Wall(std::chrono::seconds(1'800'000'000));

Lifetime lasting(Wall::duration life) {
  return {start, start + life};
}

double share(Wall::duration life, const std::string& id,
             std::optional<config::Duration> before = std::nullopt) {
  const auto due = renewal_due(lasting(life), before, id) - start;
  return static_cast<double>(due.count()) / static_cast<double>(life.count());
}

bool near(milliseconds value, milliseconds wanted) {
  return value >= wanted * 9 / 10 && value <= wanted * 11 / 10;
}

}  // namespace

TEST_CASE("A certificate is renewed after two thirds of its life, a short one after half") {
  for (const Wall::duration life :
       {Wall::duration(90 * day), Wall::duration(45 * day), Wall::duration(10 * day)}) {
    CHECK(share(life, "a.example") > 0.61);
    CHECK(share(life, "a.example") < 0.72);
  }
  for (const Wall::duration life :
       {Wall::duration(160h), Wall::duration(1h), Wall::duration(1min), Wall::duration(10s)}) {
    CHECK(share(life, "a.example") > 0.44);
    CHECK(share(life, "a.example") < 0.56);
  }
}

TEST_CASE("The jitter is the name's own and spreads names") {
  std::set<double> shares;
  for (int number = 0; number < 200; ++number) {
    const std::string id = "n" + std::to_string(number) + ".example";
    CHECK(share(90 * day, id) == share(90 * day, id));
    shares.insert(share(90 * day, id));
  }
  CHECK(shares.size() > 150);
  CHECK(*shares.rbegin() - *shares.begin() > 0.08);
}

TEST_CASE("renew_before makes it earlier, never later, and never a chain of renewals") {
  CHECK(renewal_due(lasting(90 * day), config::Duration(40 * day), "a") == start + 50 * day);
  CHECK(renewal_due(lasting(90 * day), config::Duration(1h), "a") < start + 65 * day);
  CHECK(renewal_due(lasting(90 * day), config::Duration(1000 * day), "a") == start + 30 * day);
  CHECK(renewal_due(lasting(6s), config::Duration(30 * day), "a") == start + 2s);
}

TEST_CASE("A certificate that ends before it begins is due at once") {
  CHECK(renewal_due({start, start - 1h}, std::nullopt, "a") == start);
  CHECK(renewal_due({start, start}, std::nullopt, "a") == start);
}

TEST_CASE("The wait after a failure follows its class") {
  const auto wait = [](FailureClass kind, unsigned failures) {
    return retry_wait(kind, failures, "a.example");
  };
  CHECK(near(wait(FailureClass::validation, 1), 1min));
  CHECK(near(wait(FailureClass::validation, 2), 10min));
  CHECK(near(wait(FailureClass::validation, 3), 100min));
  CHECK(near(wait(FailureClass::validation, 4), 6h));
  CHECK(near(wait(FailureClass::validation, 6), 24h));
  CHECK(near(wait(FailureClass::validation, 4'000'000'000U), 24h));
  CHECK(near(wait(FailureClass::policy, 1), 24h));
  CHECK(near(wait(FailureClass::account, 1), 24h));
  for (const auto kind : {FailureClass::transport, FailureClass::storage, FailureClass::internal}) {
    CHECK(near(wait(kind, 0), 15s));
    CHECK(near(wait(kind, 1), 15s));
    CHECK(near(wait(kind, 2), 30s));
    CHECK(near(wait(kind, 6), 15min));
    CHECK(near(wait(kind, 60), 15min));
  }
}

TEST_CASE("At most four validation failures an hour") {
  milliseconds passed{};
  unsigned failures = 1;
  while (passed <= 1h) passed += retry_wait(FailureClass::validation, failures++, "x");
  CHECK(failures - 1 <= 4);
}

TEST_CASE("With little of its life left, a certificate's retries come closer") {
  const auto life = lasting(90 * day);
  CHECK(shortened(24h, life, start + 10 * day) == 24h);
  // Not past the moment when a quarter is left.
  CHECK(shortened(24h, life, start + 67 * day) <= 13h);
  CHECK(shortened(24h, life, start + 70 * day) == 1h);
  CHECK(shortened(1min, life, start + 70 * day) == 1min);
  CHECK(shortened(24h, life, start + 100 * day) == 1h);
  CHECK(shortened(24h, lasting(6 * day), start + 5 * day) == 10min);
  CHECK(shortened(24h, lasting(60s), start + 50s) == 3s);
  CHECK(shortened(24h, lasting(4s), start + 10s) == 1s);
  CHECK(shortened(24h, lasting(60s), start + 10s) <= 35s);
}

TEST_CASE("The breaker's pauses grow while nobody waits") {
  Breaker breaker;
  Mono now = Mono(1000h);
  CHECK_FALSE(breaker.open());
  breaker.trip(now);
  CHECK(breaker.open());
  for (const milliseconds pause :
       {milliseconds(15s), milliseconds(30s), milliseconds(1min), milliseconds(2min),
        milliseconds(5min), milliseconds(15min), milliseconds(15min)}) {
    const auto due = breaker.probe_at(false, "ca");
    CHECK(due - now <= pause);
    CHECK(due - now >= pause * 9 / 10);
    now = due;
    breaker.probe_failed(now);
  }
}

TEST_CASE("While somebody waits the breaker is probed every 15 s, however long it has been open") {
  Breaker breaker;
  Mono now = Mono(1000h);
  breaker.trip(now);
  for (int round = 0; round < 50; ++round) {
    const auto due = breaker.probe_at(true, "ca");
    CHECK(due - now <= 15s);
    CHECK(due - now >= 13s);
    now = due;
    breaker.probe_failed(now);
  }
}

TEST_CASE("A breaker that closed opens with the longer pause until an order succeeds") {
  Breaker breaker;
  const Mono now = Mono(1000h);
  breaker.trip(now);
  breaker.close();
  CHECK_FALSE(breaker.open());
  breaker.trip(now);
  CHECK(breaker.probe_at(false, "ca") - now > 16s);
  breaker.reset();
  breaker.trip(now);
  CHECK(breaker.probe_at(false, "ca") - now <= 15s);
}

TEST_CASE("Retry-After of a 503 is kept, at most an hour") {
  Breaker breaker;
  const Mono now = Mono(1000h);
  breaker.trip(now, now + 10min);
  CHECK(breaker.probe_at(true, "ca") == now + 10min);
  breaker.trip(now, now + 1000h);
  CHECK(breaker.probe_at(true, "ca") == now + 1h);
}

TEST_CASE("After 'too many requests' the next order is the probe") {
  Breaker breaker;
  breaker.throttle(Mono(1000h));
  CHECK(breaker.open());
  CHECK(breaker.throttled());
  breaker.close();
  CHECK_FALSE(breaker.open());
  CHECK(breaker.on_trial());
  breaker.reset();
  CHECK_FALSE(breaker.on_trial());
  breaker.trip(Mono(1000h));
  breaker.close();
  CHECK_FALSE(breaker.on_trial());
}

TEST_CASE("The CA's instant takes the place of the share, within bounds") {
  const auto life = lasting(90 * day);
  const auto due = [&](Wall suggested, std::optional<config::Duration> before = std::nullopt) {
    return renewal_due(life, before, "a", Suggestion{suggested}) - start;
  };
  CHECK(due(start + 50 * day) == 50 * day);
  CHECK(due(start + 70 * day) == 70 * day);
  // A fifth of the life left overrides it, an earlier renew_before too.
  CHECK(due(start + 85 * day) == 72 * day);
  CHECK(due(start + 85000 * day) == 72 * day);
  CHECK(due(start + 70 * day, config::Duration(40 * day)) == 50 * day);
  CHECK(due(start + 40 * day, config::Duration(40 * day)) == 40 * day);
  // Past: now, but a CA that is mad gets four renewals a day at the most.
  CHECK(due(start - 50 * day) == 0s);
  const auto again = [](const Lifetime& lifetime, Wall heeded) {
    return renewal_due(lifetime, std::nullopt, "a", Suggestion{start - 50 * day, heeded}) - start;
  };
  CHECK(again(life, start) == 6h);
  CHECK(again(life, start - 5h) == 1h);
  CHECK(again(life, start - 7h) == 0s);
  CHECK(again(lasting(10h), start) == 1h);
  CHECK(again(life, start + 1000 * day) == 72 * day);  // the clock was set back since
}

TEST_CASE("An instant is kept while its window stands") {
  const RenewalWindow window{start, start + 2 * day};
  const auto first = instant_in(window, {}, {}, 0.5);
  REQUIRE(first);
  CHECK(*first == start + 1 * day);
  CHECK(instant_in(window, window, *first, 0.9) == *first);
  const RenewalWindow moved{start + 5 * day, start + 6 * day};
  CHECK(instant_in(moved, window, *first, 0.0) == start + 5 * day);
  CHECK(instant_in(moved, window, *first, 1.0) == start + 6 * day);
  CHECK(instant_in(window, window, start + 30 * day, 0.0) == start);  // no instant of this window
  CHECK_FALSE(instant_in({start, start}, {}, {}, 0.5));
  CHECK_FALSE(instant_in({start, start - 1s}, {}, {}, 0.5));
  const auto endless = instant_in({Wall{}, start + 80'000 * day}, {}, {}, 0.999999);
  REQUIRE(endless);
  CHECK(*endless <= start + 80'000 * day);
}

TEST_CASE("The CA is asked for its window again as it says, within a minute and a day") {
  CHECK(window_pause(milliseconds(2h), "a") == 2h);
  CHECK(window_pause(milliseconds(0), "a") == 1min);
  CHECK(window_pause(milliseconds(-5), "a") == 1min);
  CHECK(window_pause(milliseconds(72h), "a") == 24h);
  CHECK(near(window_pause(std::nullopt, "a"), 6h));
}

TEST_CASE("The end of a certificate comes in stages: 25, 10 and 5 % left, over") {
  const auto life = lasting(100 * day);
  CHECK(expiry_stage(life, start - 1 * day) == 0);
  CHECK(expiry_stage(life, start + 75 * day - 1s) == 0);
  CHECK(expiry_stage(life, start + 75 * day) == 1);
  CHECK(expiry_stage(life, start + 90 * day) == 2);
  CHECK(expiry_stage(life, start + 95 * day) == 3);
  CHECK(expiry_stage(life, start + 100 * day) == 4);
  CHECK(expiry_stage({start, start - 1h}, start) == 4);
  for (unsigned stage = 1; stage <= stages_max; ++stage)
    CHECK(expiry_stage(life, stage_begins(life, stage)) == stage);
}
