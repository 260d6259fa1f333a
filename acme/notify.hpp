// Tells people what happened to certificates: gathers, queues, retries, and says what was lost.
//
// Does not know mail, webhooks or commands (notify_ways), nor when something is worth telling (the
// manager, app/expiry_watch). A way that is down holds up no other. Control thread.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "acme/event.hpp"
#include "acme/notify_ways.hpp"
#include "base/clock.hpp"
#include "base/metrics.hpp"

namespace gatehouse::acme {

class Notifier {
 public:
  /// The first event of a kind goes out at once; those of the same kind in this time after it go
  /// out together. While they go on, the time doubles up to gather_time_max; after such a time
  /// without one it begins anew.
  static constexpr std::chrono::seconds gather_time{30};
  static constexpr std::chrono::minutes gather_time_max{16};
  /// Messages that wait for one way. Past it the oldest are lost: the next one that is delivered
  /// says how many.
  static constexpr size_t waiting_max = 64;
  /// After a failure. Past the last the message is given up.
  static constexpr std::array<std::chrono::seconds, 3> retry_waits = {
      std::chrono::seconds(5), std::chrono::seconds(60), std::chrono::seconds(600)};
  /// What stop() leaves for delivery.
  static constexpr std::chrono::seconds drain_time_max{3};

  /// References outlive the notifier and the handlers of `control`.
  Notifier(boost::asio::io_context& control, const base::Clock& clock, base::MetricShard& metrics);
  ~Notifier();
  Notifier(const Notifier&) = delete;
  Notifier& operator=(const Notifier&) = delete;

  /// At start and at each reload. `events` are words of kinds; empty: all. What waits for a way
  /// that is still there stays, and is tried anew.
  void configure(Senders senders, const std::vector<std::string>& events);

  /// Returns at once.
  void tell(const Event& event);

  /// Looks at the clocks now: for tests, which move them.
  void recheck();

  /// Sends what is gathered and what waits, once; calls `done` when that has ended or
  /// drain_time_max is over. Nothing is told any more.
  void stop(std::function<void()> done);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace gatehouse::acme
