// The worker's own edge-triggered set of sockets, inside its io_context.
//
// Data-path sockets are registered here once and keep their readiness as flags; timers, signals
// and posts stay plain Asio. Not for the control thread. Lives on one worker's thread; `post` is
// the only thing that other threads may call.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <sys/epoll.h>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "base/timer_wheel.hpp"

namespace gatehouse::base {

class Reactor;

/// Something that is freed only at the end of a batch, because a later event of the same batch, or
/// a caller further up the stack, may still name it.
class Retirable {
 public:
  virtual ~Retirable() = default;

 private:
  friend class Reactor;
  Retirable* next_retired_ = nullptr;
};

/// A registered descriptor with what is known of its readiness.
class Source {
 public:
  virtual ~Source() = default;

  int fd() const { return fd_; }
  bool readable = false;
  bool writable = false;
  bool hung_up = false;  // the peer has sent its FIN (EPOLLRDHUP), or the connection is broken

 protected:
  /// The flags have changed. May close, retire and resume whatever it likes.
  virtual void on_ready() = 0;

 private:
  friend class Reactor;
  int fd_ = -1;
};

/// Work put off to the end of the batch. Intrusive; runs once for each defer() or at_batch_end().
class Deferred {
 public:
  virtual ~Deferred() = default;

 protected:
  virtual void on_deferred() = 0;

 private:
  friend class Reactor;
  bool queued_ = false;
};

/// Descriptors below this number are that much of what the process may have: whoever is given
/// another gives it back, so that the rest is left for others.
int descriptors_within(unsigned percent);

class Reactor {
 public:
  static constexpr size_t batch_events_max = 256;
  // A batch of this many is a busy worker's: while it was dealt with, more has come, and looking
  // for that at once saves the way through the io_context.
  static constexpr int busy_batch_events = 4;
  static constexpr size_t batches_in_a_row_max = 8;    // then timers and posts have their turn
  static constexpr size_t timers_in_a_row_max = 64;    // each may end a connection: about 3 ms
  static constexpr size_t deferred_in_a_row_max = 16;  // handshakes, mostly: about 3 ms
  static constexpr size_t batch_end_work_max = 16;     // sends: about 0.1 ms

  /// Throws if the kernel refuses an epoll set. Deadlines are reckoned by `clock`, which outlives
  /// it.
  explicit Reactor(boost::asio::io_context& context, const Clock& clock = real_clock());
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  /// Registers a non-blocking descriptor, edge-triggered in both directions. False: errno says why.
  bool add(Source& source, int fd);
  /// Registers a listening descriptor, level-triggered, for reading. `shared`: other workers wait
  /// on the same one, and only some of them are woken.
  bool add_listener(Source& source, int fd, bool shared);
  /// Takes a listener out for a while; add_listener puts it back.
  void remove(Source& source);
  /// Closes the descriptor; no event reaches the source any more.
  void close(Source& source);
  /// Frees it when the batch has ended.
  void retire(std::unique_ptr<Retirable> object);
  /// Calls on_deferred() at the end of the batch; a bounded number of them before other events.
  void defer(Deferred& work);
  /// Calls on_deferred() at the end of the batch, or when so much of such work has come together
  /// that the first of it should not wait any longer.
  void at_batch_end(Deferred& work);
  /// Whether other events of the same batch are still to be dealt with, as far as is known.
  bool busy() const { return busy_; }
  /// Must be called before deferred work is freed.
  void forget(Deferred& work);

  /// Runs `change` as a batch of its own: for completion handlers of plain Asio operations.
  template <class F>
  void run(F&& change) {
    read_clock();
    change();
    end_batch();
  }
  /// The same from any other thread, through the io_context.
  void post(std::function<void()> change);

  TimerWheel& timers() { return timers_; }
  void arm(Timer& timer, std::chrono::milliseconds wait) { timers_.arm(timer, now_, wait); }

  /// Counts the calls that ask the kernel for events: what is readable in the batch in which
  /// something was sent was there before it was sent.
  uint64_t batch() const { return batch_; }

  /// The time read once for the batch.
  Monotonic::time_point now() const { return now_; }
  WallClock::time_point wall_now() const { return wall_offset_ + (now_ - Monotonic::time_point{}); }

  boost::asio::io_context& context() { return context_; }

 private:
  void wait();
  void run_batches();
  void end_batch();
  void run_batch_end_work();
  void run_deferred();
  void free_retired();
  void tick();
  void call_timers();
  void read_clock();

  boost::asio::io_context& context_;
  const Clock& clock_;
  int epoll_ = -1;
  boost::asio::posix::stream_descriptor descriptor_;
  boost::asio::steady_timer ticker_;
  Monotonic::time_point now_;
  WallClock::time_point wall_offset_;
  TimerWheel timers_;
  Retirable* retired_ = nullptr;
  std::vector<Deferred*> batch_end_work_;
  std::vector<Deferred*> deferred_, running_;
  uint64_t batch_ = 0;
  bool busy_ = false;
  bool turn_posted_ = false;
};

}  // namespace gatehouse::base
