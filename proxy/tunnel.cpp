#include "proxy/tunnel.hpp"

namespace gatehouse::proxy {

using base::Error;
using base::ErrorKind;
using http::BodyChunk;

Tunnel::IdleTimer::IdleTimer(Tunnel& t)
    : Timer([](Timer& self) {
        static_cast<IdleTimer&>(self).tunnel.cut(
            Error(ErrorKind::timeout, "the tunnel was idle for longer than timeouts.tunnel"));
      }),
      tunnel(t) {}

base::Task<void> Tunnel::run() {
  touch();
  // Before anything is read: the head's views do not outlive that.
  const BodyChunk nothing_yet;
  downstream_.write_head(upstream_.response(), nothing_yet);
  base::spawn(carry_up());
  auto carrying = carry_down();
  co_await carrying;
  co_await up_over_;
  if (error_) co_await cut_over_;
  idle_timer_.disarm();
}

base::Task<void> Tunnel::carry_down() {
  for (;;) {
    auto drained = downstream_.drained();
    const bool taken = co_await drained;
    if (!taken) {
      cut(downstream_.error());
      co_return;
    }
    if (origin_ended_) co_return;
    auto reading = upstream_.read_body();
    const bool read = co_await reading;
    if (!read) {
      cut(upstream_.error());
      co_return;
    }
    touch();
    const BodyChunk chunk = upstream_.chunk();
    bytes_down_ += chunk.bytes.size();
    origin_ended_ = chunk.last;
    downstream_.write_body(chunk);
  }
}

base::Task<void> Tunnel::carry_up() {
  bool ended = false;
  while (!ended) {
    auto reading = downstream_.read_body();
    const bool read = co_await reading;
    if (!read) {
      cut(downstream_.error());
      break;
    }
    touch();
    const BodyChunk chunk = downstream_.chunk();
    bytes_up_ += chunk.bytes.size();
    ended = chunk.last;
    upstream_.write_body(chunk);
    auto drained = upstream_.drained();
    const bool taken = co_await drained;
    if (taken) continue;
    // An origin that has said its end need not listen any more: its last words still arrive.
    origin_ended_ ? downstream_.stop_reading() : cut(upstream_.error());
    break;
  }
  up_over_.set();
}

/// What waits on the streams is resumed in here, and so both directions end. run() does not before
/// this has returned: it may be called by the timer, which nothing else waits for.
void Tunnel::cut(Error error) {
  if (error_) return;
  error_ = std::move(error);
  upstream_.cancel(ErrorKind::cancelled, "the tunnel was cut");
  downstream_.abort();
  cut_over_.set();
}

}  // namespace gatehouse::proxy
