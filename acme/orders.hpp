// The orders of one CA: who is next, how many at once, the tries of each, and the breaker.
//
// Does not decide which names or when again after a failure (manager), and does not speak ACME
// (authority). Control thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>

#include "acme/agenda.hpp"
#include "acme/authority.hpp"
#include "acme/schedule.hpp"

namespace gatehouse::acme {

/// Who goes first.
enum class Urgency : uint8_t {
  expiring,  // at most a quarter of its life is left
  visited,   // somebody waits for it
  due,       // a renewal in good time
  fresh,
};

struct Order {
  Wanted wanted;
  Urgency urgency = Urgency::fresh;
  /// Called once. A failure without a sentence: the breaker opened before it was this one's turn.
  std::function<void(Outcome<Issued>)> done;
};

class Orders : public std::enable_shared_from_this<Orders> {
 public:
  static constexpr size_t running_max = 32;
  /// Of these, kept for names that somebody came for: no number of renewals makes him wait.
  static constexpr size_t kept_for_visitors = 4;
  static constexpr size_t waiting_max = 10'000;
  /// An order that runs this long without an end makes the CA suspect: it is probed.
  static constexpr std::chrono::seconds suspect_after{7};
  /// A probe that takes longer is given up.
  static constexpr std::chrono::seconds probe_patience{4};
  /// Probes that could not be given up hold back further ones.
  static constexpr unsigned probes_max = 4;
  /// How long after the last wish somebody still counts as waiting.
  static constexpr std::chrono::minutes wish_lasts{15};

  struct Events {
    std::function<void()> opened;     // the breaker: nobody should wait for this CA now
    std::function<void()> available;  // again: whoever waited may submit
    std::function<bool()> wanted;     // somebody waits, whether he came by or not
  };

  /// `control` and `clock` outlive it, `agenda` until detach().
  Orders(boost::asio::io_context& control, Agenda& agenda, const base::Clock& clock,
         Authority authority, Events events);

  const Authority& authority() const { return authority_; }

  /// False: the breaker is open, the queue is full, or stop() was called; `done` is then not
  /// called. Never submit an id again before its `done`.
  bool submit(Order order);
  /// Moves a waiting order ahead; no effect on a running one.
  void raise(const std::string& id, Urgency urgency);

  bool open() const { return breaker_.open(); }
  size_t running() const { return running_.size(); }
  size_t waiting() const { return waiting_.size(); }
  /// When the CA is tried again; only while open.
  base::Monotonic::time_point next_try() const { return probe_due_; }
  /// Somebody came by for a name that waits for this CA.
  void wished();
  /// Waiting orders fail unheard: whoever waits may have to ask elsewhere, or later.
  void fail_waiting();

  /// Starts nothing more; running orders end, waiting ones fail.
  void stop();
  /// Calls nobody any more and forgets the agenda.
  void detach();

 private:
  struct Run;
  using RunPtr = std::shared_ptr<Run>;
  using Waiting = std::map<std::pair<Urgency, uint64_t>, Order>;

  void start_next();
  Waiting::iterator next();
  void attempt(const RunPtr& run);
  void attempted(const RunPtr& run, Outcome<Issued> outcome);
  bool try_again(const RunPtr& run, const Failure& failure);
  void finish(const RunPtr& run, Outcome<Issued> outcome);
  void suspect(const RunPtr& run);
  void trip(const std::string& reason, std::optional<base::Monotonic::time_point> until);
  void became_open(const std::string& reason);
  void arm_probe();
  void probe();
  void probed(uint64_t number, bool well);
  void recovered();

  boost::asio::io_context& control_;
  Agenda& agenda_;
  const base::Clock& clock_;
  Authority authority_;
  Events events_;
  Breaker breaker_;
  Waiting waiting_;
  std::unordered_map<std::string, std::pair<Urgency, uint64_t>> place_of_;
  std::unordered_map<std::string, RunPtr> running_;
  size_t visitors_running_ = 0;
  uint64_t last_place_ = 0;
  uint64_t expiring_ = 0;  // that were first in line
  Agenda::Id probe_ = 0;
  base::Monotonic::time_point probe_due_{};
  base::Monotonic::time_point opened_at_{};
  base::Monotonic::time_point wished_until_{};
  base::Monotonic::time_point last_answer_{};
  std::string limited_;  // since then, the order that was answered 429 without a time
  uint64_t last_probe_ = 0;
  uint64_t judged_ = 0;  // the newest probe whose end has counted
  unsigned probes_running_ = 0;
  // Said once until an order goes through: a CA that is half up opens and closes for hours.
  bool told_down_ = false;
  bool told_up_ = false;
  bool stopped_ = false;
  bool detached_ = false;
};

}  // namespace gatehouse::acme
