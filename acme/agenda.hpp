// What is to be done when: one ordered list of moments and one timer for all of them.
//
// Not a thread and not a worker's timer wheel. Control thread. Moments are on the monotonic clock
// (waits, retries) or on the wall clock (certificates); the wall clock is looked at again at least
// every minute, because it can be set.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <unordered_map>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/clock.hpp"

namespace gatehouse::acme {

class Agenda {
 public:
  using Action = std::function<void()>;
  /// Names an entry; 0: none.
  using Id = uint64_t;

  /// `control` and `clock` outlive the agenda.
  Agenda(boost::asio::io_context& control, const base::Clock& clock);
  ~Agenda();

  Id at(base::Monotonic::time_point when, Action action);
  Id at_wall(base::WallClock::time_point when, Action action);
  Id after(base::Monotonic::duration wait, Action action);
  /// Forgets the entry and sets `id` to 0; an id that has run or is 0 is fine.
  void cancel(Id& id);

  /// Runs what is due by the clocks' present reading. For clocks that were moved.
  void check();

  /// When it looks at the clocks by itself, on the monotonic one; max: never.
  base::Monotonic::time_point next_check() const { return armed_for_; }

  /// Called with the size of each jump of the wall clock against the monotonic one of over a
  /// minute.
  void on_clock_jump(std::function<void(std::chrono::seconds)> report);

  /// Nothing runs any more.
  void stop();

 private:
  template <class Time>
  using List = std::map<std::pair<Time, Id>, Action>;
  void arm();
  void notice_jump();
  bool run_one();

  const base::Clock& clock_;
  boost::asio::steady_timer timer_;
  List<base::Monotonic::time_point> waits_;
  List<base::WallClock::time_point> dates_;
  std::unordered_map<Id, base::Monotonic::time_point> wait_of_;
  std::unordered_map<Id, base::WallClock::time_point> date_of_;
  Id last_ = 0;
  bool stopped_ = false;
  bool checking_ = false;
  base::Monotonic::time_point armed_for_ = base::Monotonic::time_point::max();
  base::Monotonic::time_point seen_monotonic_;
  base::WallClock::time_point seen_wall_;
  std::function<void(std::chrono::seconds)> report_jump_;
};

}  // namespace gatehouse::acme
