// A reactor on the test's own thread, and socket pairs whose ends are streams or plain descriptors.
#pragma once

#include <algorithm>
#include <chrono>
#include <fcntl.h>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <catch2/catch.hpp>

#include "base/reactor.hpp"
#include "tests/support/manual_clock.hpp"

namespace gatehouse::test {

struct Stage {
  explicit Stage(const base::Clock& clock = base::real_clock()) : reactor(context, clock) {}

  boost::asio::io_context context{1};
  base::Reactor reactor;

  /// Runs events until `condition` holds; fails the test after `patience`.
  template <class C>
  void until(C&& condition, std::chrono::seconds patience = std::chrono::seconds(60)) {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (!condition()) {
      context.run_one_until(end);
      if (std::chrono::steady_clock::now() > end) FAIL("the condition never came to hold");
    }
  }

  /// Runs what is ready now.
  void settle() {
    while (context.poll() > 0) continue;
  }

  /// Moves the clock that this stage was made with, and runs what became due by that.
  void pass(ManualClock& clock, std::chrono::milliseconds time) {
    constexpr std::chrono::milliseconds step{500};  // one timer may arm the next
    for (; time.count() > 0; time -= step) {
      clock.advance(std::min(time, step));
      reactor.run([this] { reactor.timers().advance(reactor.now()); });
      settle();
    }
  }
};

/// Two connected sockets; the first is non-blocking and is given to a stream, which closes it.
struct SocketPair {
  SocketPair() {
    int both[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, both) == 0);
    ours = both[0];
    theirs = both[1];
  }
  ~SocketPair() { close_theirs(); }
  void close_theirs() {
    if (theirs >= 0) ::close(theirs);
    theirs = -1;
  }
  void send(std::string_view bytes) const {
    REQUIRE(::send(theirs, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(bytes.size()));
  }
  void finish() const { ::shutdown(theirs, SHUT_WR); }
  /// What has arrived; `closed` is set when the other side has ended.
  std::string receive() {
    std::string all;
    char bytes[65536];
    for (;;) {
      const ssize_t count = ::recv(theirs, bytes, sizeof bytes, 0);
      if (count == 0) closed = true;
      if (count < 0 && errno == ECONNRESET) closed = reset = true;
      if (count <= 0) return all;
      all.append(bytes, static_cast<size_t>(count));
    }
  }
  int ours = -1;
  int theirs = -1;
  bool closed = false;
  bool reset = false;
};

}  // namespace gatehouse::test
