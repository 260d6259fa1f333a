#include "acme/agenda.hpp"

namespace gatehouse::acme {

using base::Monotonic;
using base::WallClock;

namespace {

constexpr std::chrono::seconds wall_recheck{60};
constexpr std::chrono::seconds jump_reported{60};
/// Further ahead than any certificate lives: keeps sums of time points from overflowing.
constexpr std::chrono::hours horizon{24 * 365 * 50};

}  // namespace

Agenda::Agenda(boost::asio::io_context& control, const base::Clock& clock)
    : clock_(clock),
      timer_(control),
      seen_monotonic_(clock.monotonic()),
      seen_wall_(clock.wall()) {}

Agenda::~Agenda() {
  stop();
}

Agenda::Id Agenda::at(Monotonic::time_point when, Action action) {
  const Id id = ++last_;
  when = std::min(when, clock_.monotonic() + horizon);
  waits_.emplace(std::pair(when, id), std::move(action));
  wait_of_.emplace(id, when);
  arm();
  return id;
}

Agenda::Id Agenda::after(Monotonic::duration wait, Action action) {
  return at(clock_.monotonic() + std::min<Monotonic::duration>(wait, horizon), std::move(action));
}

Agenda::Id Agenda::at_wall(WallClock::time_point when, Action action) {
  const Id id = ++last_;
  dates_.emplace(std::pair(when, id), std::move(action));
  date_of_.emplace(id, when);
  arm();
  return id;
}

void Agenda::cancel(Id& id) {
  if (const auto wait = wait_of_.find(id); wait != wait_of_.end()) {
    waits_.erase({wait->second, id});
    wait_of_.erase(wait);
  } else if (const auto date = date_of_.find(id); date != date_of_.end()) {
    dates_.erase({date->second, id});
    date_of_.erase(date);
  }
  id = 0;
}

void Agenda::check() {
  if (checking_ || stopped_) return;
  checking_ = true;
  notice_jump();
  while (!stopped_ && run_one()) {
  }
  checking_ = false;
  armed_for_ = Monotonic::time_point::max();
  arm();
}

void Agenda::on_clock_jump(std::function<void(std::chrono::seconds)> report) {
  report_jump_ = std::move(report);
}

void Agenda::stop() {
  stopped_ = true;
  timer_.cancel();
  waits_.clear();
  dates_.clear();
  wait_of_.clear();
  date_of_.clear();
}

void Agenda::notice_jump() {
  const auto monotonic = clock_.monotonic();
  const auto wall = clock_.wall();
  const auto jump = std::chrono::duration_cast<std::chrono::seconds>((wall - seen_wall_) -
                                                                     (monotonic - seen_monotonic_));
  seen_monotonic_ = monotonic;
  seen_wall_ = wall;
  if (std::chrono::abs(jump) > jump_reported && report_jump_) report_jump_(jump);
}

/// One at a time: an action may add and cancel others.
bool Agenda::run_one() {
  Action action;
  if (!waits_.empty() && waits_.begin()->first.first <= clock_.monotonic()) {
    auto entry = waits_.extract(waits_.begin());
    wait_of_.erase(entry.key().second);
    action = std::move(entry.mapped());
  } else if (!dates_.empty() && dates_.begin()->first.first <= clock_.wall()) {
    auto entry = dates_.extract(dates_.begin());
    date_of_.erase(entry.key().second);
    action = std::move(entry.mapped());
  } else {
    return false;
  }
  action();
  return true;
}

void Agenda::arm() {
  if (stopped_ || checking_) return;
  auto next = Monotonic::time_point::max();
  if (!waits_.empty()) next = waits_.begin()->first.first;
  if (!dates_.empty()) {
    const auto away = dates_.begin()->first.first - clock_.wall();
    next = std::min(next, clock_.monotonic() + std::min<Monotonic::duration>(away, wall_recheck));
  }
  if (next >= armed_for_) return;
  armed_for_ = next;
  timer_.expires_after(std::max(next - clock_.monotonic(), Monotonic::duration::zero()));
  timer_.async_wait([this](boost::system::error_code error) {
    if (!error) check();
  });
}

}  // namespace gatehouse::acme
