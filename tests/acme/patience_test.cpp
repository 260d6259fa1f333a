#include "acme/patience.hpp"

#include <boost/asio/io_context.hpp>
#include <catch2/catch.hpp>

#include "tests/support/await.hpp"

namespace gatehouse::acme {

using namespace std::chrono_literals;

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

}  // namespace gatehouse::acme
