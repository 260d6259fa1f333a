#include "acme/turnstile.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <catch2/catch.hpp>

#include "tests/support/await.hpp"

namespace gatehouse::acme {

namespace {

using namespace std::chrono_literals;
namespace asio = boost::asio;

/// Whoever wants in, and what became of it.
struct Hall {
  asio::io_context control;
  Turnstile turnstile;
  int entered = 0;
  std::optional<bool> closed;

  void want_in() {
    asio::co_spawn(control, turnstile.enter(), [this](std::exception_ptr) { ++entered; });
  }
  void want_alone(std::chrono::milliseconds patience) {
    closed.reset();
    asio::co_spawn(control, turnstile.close(patience),
                   [this](std::exception_ptr, bool alone) { closed = alone; });
  }
  void settle() {
    control.restart();
    control.poll();
  }
};

}  // namespace

TEST_CASE("many are inside at once") {
  Hall hall;
  for (int i = 0; i < 3; ++i) hall.want_in();
  hall.settle();
  CHECK(hall.entered == 3);
}

TEST_CASE("who wants to be alone waits for the last to leave, and lets nobody in meanwhile") {
  Hall hall;
  hall.want_in();
  hall.want_in();
  hall.settle();
  hall.want_alone(60s);
  hall.want_in();
  hall.settle();
  CHECK_FALSE(hall.closed.has_value());
  CHECK(hall.entered == 2);
  hall.turnstile.leave();
  hall.settle();
  CHECK_FALSE(hall.closed.has_value());
  hall.turnstile.leave();
  hall.settle();
  CHECK(hall.closed == true);
  CHECK(hall.entered == 2);
  hall.turnstile.open();
  hall.settle();
  CHECK(hall.entered == 3);
}

TEST_CASE("an empty turnstile closes at once, and only for one") {
  Hall hall;
  CHECK(test::await(hall.control, hall.turnstile.close(1ms)));
  CHECK_FALSE(test::await(hall.control, hall.turnstile.close(60s)));
  hall.turnstile.open();
  CHECK(test::await(hall.control, hall.turnstile.close(1ms)));
}

TEST_CASE("those who stay too long keep it open") {
  Hall hall;
  hall.want_in();
  hall.settle();
  CHECK_FALSE(test::await(hall.control, hall.turnstile.close(10ms)));
  hall.want_in();
  hall.settle();
  CHECK(hall.entered == 2);
}

TEST_CASE("a wait to be alone that is given up opens again") {
  Turnstile turnstile;
  {
    asio::io_context control;
    asio::co_spawn(control, turnstile.enter(), asio::detached);
    control.poll();
    asio::co_spawn(control, turnstile.close(60s), [](std::exception_ptr, bool) {});
    control.restart();
    control.poll();
  }  // destroys the waiting coroutine
  asio::io_context control;
  test::await(control, turnstile.enter());
  turnstile.leave();
  turnstile.leave();
  CHECK(test::await(control, turnstile.close(1ms)));
  turnstile.open();
}

}  // namespace gatehouse::acme
