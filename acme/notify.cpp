#include "acme/notify.hpp"

#include <algorithm>
#include <bitset>
#include <deque>
#include <utility>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>

#include "acme/agenda.hpp"
#include "base/log.hpp"

namespace gatehouse::acme {

namespace asio = boost::asio;
namespace log = base::log;
using base::Metric;
using base::Result;

namespace {

/// Events of one kind while they come in a burst.
struct Gathering {
  bool open = false;
  std::chrono::seconds wait{};  // of the last one, if it is not open
  base::Monotonic::time_point closed{};
  Notice notice;  // without events: none has come since the last one went out
  Agenda::Id end = 0;
};

std::chrono::seconds longer(std::chrono::seconds wait) {
  return std::min<std::chrono::seconds>(wait * 2, Notifier::gather_time_max);
}

/// One way, and what waits for it: the first is the one that is being tried.
struct Outlet {
  Send send;  // empty: not configured
  std::string target;
  std::deque<Notice> queue;
  bool sending = false;
  bool failing = false;      // the last attempt failed, and that was logged
  bool overflowing = false;  // messages are being lost, and that was logged
  bool given_up = false;     // while stopping
  size_t failures = 0;       // of the first message
  size_t lost = 0;           // since one was delivered
  Agenda::Id retry = 0;
};

struct Counters {
  Metric sent, failed, dropped;
};

constexpr Counters counters(Way way) {
  switch (way) {
    case Way::email:
      return {Metric::notifications_email_sent, Metric::notifications_email_failed,
              Metric::notifications_email_dropped};
    case Way::webhook:
      return {Metric::notifications_webhook_sent, Metric::notifications_webhook_failed,
              Metric::notifications_webhook_dropped};
    default:
      return {Metric::notifications_exec_sent, Metric::notifications_exec_failed,
              Metric::notifications_exec_dropped};
  }
}

}  // namespace

struct Notifier::State : std::enable_shared_from_this<Notifier::State> {
  State(asio::io_context& io, const base::Clock& time, base::MetricShard& shard)
      : control(io), clock(time), metrics(shard), agenda(io, time), drain_timer(io) {}

  Outlet& of(Way way) { return outlets[static_cast<size_t>(way)]; }
  bool anyone() const;
  void configure(Senders senders, const std::vector<std::string>& events);
  void tell(const Event& event);
  Notice notice_of(Event::Kind kind);
  void end_gathering(Event::Kind kind);
  void publish(const Notice& notice);
  void enqueue(Way way, const Notice& notice);
  void start(Way way);
  static asio::awaitable<void> attempt(std::shared_ptr<State> self, Way way);
  void delivered(Way way, size_t lost_told);
  void failed(Way way, const base::Error& error);
  void give_up(Way way, const base::Error& error);
  void stop(std::function<void()> done);
  void drain();

  asio::io_context& control;
  const base::Clock& clock;
  base::MetricShard& metrics;
  Agenda agenda;
  asio::steady_timer drain_timer;
  std::array<Outlet, ways.size()> outlets;
  std::array<Gathering, event_kinds> gatherings;
  std::bitset<event_kinds> wanted;
  uint64_t last_number = 0;
  bool stopping = false;
  std::function<void()> stopped;
};

Notifier::Notifier(asio::io_context& control, const base::Clock& clock, base::MetricShard& metrics)
    : state_(std::make_shared<State>(control, clock, metrics)) {}

Notifier::~Notifier() {
  state_->stopping = true;
  state_->stopped = nullptr;
  state_->agenda.stop();
  state_->drain_timer.cancel();
}

void Notifier::configure(Senders senders, const std::vector<std::string>& events) {
  state_->configure(std::move(senders), events);
}

void Notifier::tell(const Event& event) {
  state_->tell(event);
}

void Notifier::recheck() {
  state_->agenda.check();
}

void Notifier::stop(std::function<void()> done) {
  state_->stop(std::move(done));
}

bool Notifier::State::anyone() const {
  return std::ranges::any_of(outlets, [](const Outlet& one) { return bool(one.send); });
}

void Notifier::State::configure(Senders senders, const std::vector<std::string>& events) {
  for (size_t kind = 0; kind < event_kinds; ++kind) {
    const auto name = word(static_cast<Event::Kind>(kind));
    wanted[kind] = events.empty() || std::ranges::find(events, name) != events.end();
  }
  for (const Way way : ways) {
    Outlet& outlet = of(way);
    outlet.send = std::move(senders.send[static_cast<size_t>(way)]);
    outlet.target = std::move(senders.target[static_cast<size_t>(way)]);
    agenda.cancel(outlet.retry);
    outlet.failures = 0;
    outlet.failing = false;
    if (!outlet.send) {
      outlet.queue.clear();
      outlet.lost = 0;
    }
    start(way);
  }
}

void Notifier::State::tell(const Event& event) {
  if (stopping || !wanted[static_cast<size_t>(event.kind)] || !anyone()) return;
  Gathering& gathering = gatherings[static_cast<size_t>(event.kind)];
  if (gathering.open) {
    if (gathering.notice.count == 0) gathering.notice = notice_of(event.kind);
    return gathering.notice.add(event);
  }
  // One now and then is told at once, but many of them are not many messages.
  const bool goes_on =
      gathering.wait.count() > 0 && clock.monotonic() - gathering.closed < gather_time_max;
  gathering.open = true;
  gathering.wait = goes_on ? longer(gathering.wait) : gather_time;
  gathering.end = agenda.after(gathering.wait, [this, kind = event.kind] { end_gathering(kind); });
  Notice notice = notice_of(event.kind);
  notice.add(event);
  publish(notice);
}

Notice Notifier::State::notice_of(Event::Kind kind) {
  Notice notice;
  notice.event = word(kind);
  notice.time = clock.wall();
  notice.machine = machine_name();
  const auto now =
      std::chrono::duration_cast<std::chrono::milliseconds>(notice.time.time_since_epoch());
  notice.id = fmt::format("{}-{}", now.count(), ++last_number);
  return notice;
}

void Notifier::State::end_gathering(Event::Kind kind) {
  Gathering& gathering = gatherings[static_cast<size_t>(kind)];
  gathering.end = 0;
  if (gathering.notice.count == 0) {
    gathering.open = false;
    gathering.closed = clock.monotonic();
    return;
  }
  publish(std::exchange(gathering.notice, {}));
  gathering.wait = longer(gathering.wait);
  gathering.end = agenda.after(gathering.wait, [this, kind] { end_gathering(kind); });
}

void Notifier::State::publish(const Notice& notice) {
  for (const Way way : ways) {
    if (of(way).send) enqueue(way, notice);
  }
}

void Notifier::State::enqueue(Way way, const Notice& notice) {
  Outlet& outlet = of(way);
  if (outlet.queue.size() == waiting_max) {
    if (!std::exchange(outlet.overflowing, true)) {
      log::warn("notifications by {}: more than {} wait for {}, the oldest are dropped", word(way),
                waiting_max, outlet.target);
    }
    outlet.queue.erase(outlet.queue.begin() + 1);  // the first may be on its way
    ++outlet.lost;
    metrics.add(counters(way).dropped);
  }
  outlet.queue.push_back(notice);
  start(way);
}

void Notifier::State::start(Way way) {
  Outlet& outlet = of(way);
  if (outlet.sending || outlet.retry != 0 || outlet.queue.empty() || outlet.given_up) return;
  outlet.sending = true;
  asio::co_spawn(control, attempt(shared_from_this(), way), asio::detached);
}

asio::awaitable<void> Notifier::State::attempt(std::shared_ptr<State> self, Way way) {
  Outlet& outlet = self->of(way);
  const Send send = outlet.send;  // a reload may replace it meanwhile
  Notice notice = outlet.queue.front();
  notice.lost = outlet.lost;
  const std::string id = notice.id;
  const size_t lost = notice.lost;
  Result<void> result;
  try {
    result = co_await send(std::move(notice));
  } catch (const std::exception& problem) {  // no memory, no thread
    result = base::Error(base::ErrorKind::io, problem.what());
  }
  outlet.sending = false;
  const bool still = !outlet.queue.empty() && outlet.queue.front().id == id;
  if (!still) {
    self->start(way);
  } else if (result) {
    self->delivered(way, lost);
  } else {
    self->failed(way, result.error());
  }
  if (self->stopping) self->drain();
}

void Notifier::State::delivered(Way way, size_t lost_told) {
  Outlet& outlet = of(way);
  outlet.queue.pop_front();
  outlet.failures = 0;
  outlet.lost -= std::min(outlet.lost, lost_told);
  outlet.overflowing = false;
  metrics.add(counters(way).sent);
  if (std::exchange(outlet.failing, false)) {
    log::info("notifications by {} reach {} again", word(way), outlet.target);
  }
  start(way);
}

void Notifier::State::failed(Way way, const base::Error& error) {
  Outlet& outlet = of(way);
  if (stopping) {
    outlet.given_up = true;
    return log::warn("notification by {}: {}", word(way), error.context);
  }
  if (outlet.failures == retry_waits.size()) return give_up(way, error);
  if (!std::exchange(outlet.failing, true)) {
    log::warn("notification by {}: {}; it is tried {} times more, the next time in {} s", word(way),
              error.context, retry_waits.size() - outlet.failures,
              retry_waits[outlet.failures].count());
  }
  outlet.retry = agenda.after(retry_waits[outlet.failures++], [this, way] {
    of(way).retry = 0;
    start(way);
  });
}

void Notifier::State::give_up(Way way, const base::Error& error) {
  Outlet& outlet = of(way);
  log::error("notification by {} given up after {} attempts: {}; it said: {}", word(way),
             retry_waits.size() + 1, error.context, subject_of(outlet.queue.front()));
  outlet.queue.pop_front();
  outlet.failures = 0;
  ++outlet.lost;
  metrics.add(counters(way).failed);
  start(way);
}

void Notifier::State::stop(std::function<void()> done) {
  if (stopping) return done();
  for (size_t kind = 0; kind < event_kinds; ++kind) {
    auto& gathered = gatherings[kind].notice;
    if (gathered.count > 0) publish(std::exchange(gathered, {}));
  }
  stopping = true;
  stopped = std::move(done);
  for (const Way way : ways) {
    agenda.cancel(of(way).retry);
    start(way);
  }
  agenda.stop();
  drain_timer.expires_after(drain_time_max);
  drain_timer.async_wait([self = shared_from_this()](boost::system::error_code cancelled) {
    if (cancelled) return;
    for (Outlet& outlet : self->outlets) {
      outlet.sending = false;
      outlet.given_up = true;
    }
    self->drain();
  });
  drain();
}

/// Ends the stop once no way has anything left that it could deliver.
void Notifier::State::drain() {
  if (!stopped || std::ranges::any_of(outlets, &Outlet::sending)) return;
  drain_timer.cancel();
  for (const Way way : ways) {
    const size_t left = of(way).queue.size();
    if (left == 0) continue;
    log::warn("stopped before {} notification{} by {} could be delivered", left,
              left == 1 ? "" : "s", word(way));
    metrics.add(counters(way).failed, static_cast<int64_t>(left));
  }
  std::exchange(stopped, nullptr)();
}

}  // namespace gatehouse::acme
