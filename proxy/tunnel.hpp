// A tunnel's two directions at once, from the origin's 101 until both have ended.
//
// Does not ask for a tunnel or grant one (the streams do), and records nothing (exchange). Each
// direction is a loop that reads, writes, and waits until that was taken; the end of one is passed
// on and the other goes on; an error on either side ends both. One worker's thread.
#pragma once

#include <cstdint>
#include <optional>

#include "base/reactor.hpp"
#include "base/task.hpp"
#include "config/snapshot.hpp"
#include "http/stream.hpp"

namespace gatehouse::proxy {

class Tunnel {
 public:
  /// `idle_timeout`: the longest time without a byte in either direction.
  Tunnel(http::ServerStream& downstream, http::ClientStream& upstream, base::Reactor& reactor,
         config::Duration idle_timeout)
      : downstream_(downstream),
        upstream_(upstream),
        reactor_(reactor),
        idle_timeout_(idle_timeout),
        idle_timer_(*this) {}

  /// Grants the tunnel with the origin's head and carries it to its end. Afterwards nothing waits
  /// on either stream.
  base::Task<void> run();

  /// Why it was cut; nothing: both sides have ended it.
  const std::optional<base::Error>& error() const { return error_; }
  uint64_t bytes_up() const { return bytes_up_; }
  uint64_t bytes_down() const { return bytes_down_; }

 private:
  struct IdleTimer : base::Timer {
    explicit IdleTimer(Tunnel& t);
    Tunnel& tunnel;
  };

  base::Task<void> carry_up();
  base::Task<void> carry_down();
  void cut(base::Error error);
  void touch() { reactor_.arm(idle_timer_, idle_timeout_); }

  http::ServerStream& downstream_;
  http::ClientStream& upstream_;
  base::Reactor& reactor_;
  config::Duration idle_timeout_;
  IdleTimer idle_timer_;
  std::optional<base::Error> error_;
  base::Event up_over_;
  base::Event cut_over_;
  uint64_t bytes_up_ = 0;
  uint64_t bytes_down_ = 0;
  bool origin_ended_ = false;
};

}  // namespace gatehouse::proxy
