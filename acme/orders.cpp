#include "acme/orders.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/system/system_error.hpp>

#include "base/log.hpp"

namespace gatehouse::acme {

namespace asio = boost::asio;
using base::Monotonic;

namespace {

/// A Retry-After this short is waited for inside the attempt.
constexpr std::chrono::seconds short_retry_after{4};

Failure interrupted(const std::string& ca) {
  Failure failure;
  failure.kind = FailureClass::transport;
  failure.sentence = fmt::format("{} did not answer in time", ca);
  return failure;
}

/// The authority's obtain, with every way out as an outcome. A cancelled wait is an answer that did
/// not come; what follows it in the issuer must still run, so only the wait itself throws.
asio::awaitable<Outcome<Issued>> guarded(std::shared_ptr<Orders> orders, Wanted wanted) {
  co_await asio::this_coro::throw_if_cancelled(false);
  Failure failure;
  try {
    auto outcome = co_await orders->authority().obtain(std::move(wanted));
    co_return outcome;
  } catch (const boost::system::system_error& error) {
    if (error.code() == asio::error::operation_aborted) {
      failure = interrupted(orders->authority().name);
    } else {
      failure.sentence = fmt::format("{}: {}", orders->authority().name, error.what());
    }
  } catch (const std::exception& error) {
    failure.sentence = fmt::format("{}: {}", orders->authority().name, error.what());
  }
  co_return failure;
}

/// Makes one sum of the orders of all tries, and the outcome's.
void add_placed(unsigned& sum, Outcome<Issued>& outcome) {
  sum += outcome ? outcome->orders : outcome.error().orders;
  if (outcome) {
    outcome->orders = sum;
    return;
  }
  Failure failure = outcome.error();
  failure.orders = sum;
  outcome = std::move(failure);
}

asio::awaitable<bool> guarded_probe(std::shared_ptr<Orders> orders) {
  co_await asio::this_coro::throw_if_cancelled(false);
  try {
    const bool well = co_await orders->authority().probe();
    co_return well;
  } catch (const std::exception&) {
  }
  co_return false;
}

}  // namespace

struct Orders::Run {
  Order order;
  unsigned tries = 0;
  unsigned placed = 0;  // orders at the CA, in all tries
  bool trying = false;  // the authority is at it; else between two tries
  Monotonic::time_point since{};
  std::optional<Monotonic::time_point> first_failure;
  Agenda::Id suspicion = 0;
  asio::cancellation_signal interrupt;
};

Orders::Orders(asio::io_context& control, Agenda& agenda, const base::Clock& clock,
               Authority authority, Events events)
    : control_(control),
      agenda_(agenda),
      clock_(clock),
      authority_(std::move(authority)),
      events_(std::move(events)) {}

bool Orders::submit(Order order) {
  if (stopped_ || breaker_.open() || waiting_.size() >= waiting_max) return false;
  ASSERT(!place_of_.contains(order.wanted.id) && !running_.contains(order.wanted.id));
  const std::pair place(order.urgency, ++last_place_);
  place_of_.emplace(order.wanted.id, place);
  waiting_.emplace(place, std::move(order));
  start_next();
  return true;
}

void Orders::raise(const std::string& id, Urgency urgency) {
  const auto found = place_of_.find(id);
  if (found == place_of_.end() || found->second.first <= urgency) return;
  auto entry = waiting_.extract(found->second);
  entry.key().first = urgency;
  entry.mapped().urgency = urgency;
  found->second = entry.key();
  waiting_.insert(std::move(entry));
  start_next();
}

void Orders::wished() {
  if (detached_) return;
  wished_until_ = clock_.monotonic() + wish_lasts;
  if (breaker_.open()) arm_probe();
}

void Orders::stop() {
  stopped_ = true;
  fail_waiting();
}

void Orders::detach() {
  stopped_ = detached_ = true;
  agenda_.cancel(probe_);
  waiting_.clear();
  place_of_.clear();
  events_ = {};
  for (auto& [id, run] : running_) run->order.done = nullptr;
}

void Orders::start_next() {
  // On trial, one order shows whether the CA takes any.
  const size_t most = breaker_.on_trial() ? 1 : running_max;
  while (running_.size() < most && !breaker_.open()) {
    const auto place = next();
    if (place == waiting_.end()) return;
    auto entry = waiting_.extract(place);
    auto run = std::make_shared<Run>();
    run->order = std::move(entry.mapped());
    place_of_.erase(run->order.wanted.id);
    running_.emplace(run->order.wanted.id, run);
    if (run->order.urgency == Urgency::visited) ++visitors_running_;
    attempt(run);
  }
}

/// The first in line, of those that there is a place for; of many that expire, every fourth lets
/// somebody who waits go before it.
Orders::Waiting::iterator Orders::next() {
  const auto first = waiting_.begin();
  const bool places = running_.size() - visitors_running_ < running_max - kept_for_visitors;
  if (first == waiting_.end()) return first;
  if (places && (first->first.first != Urgency::expiring || ++expiring_ % 4 != 0)) return first;
  const auto visited = waiting_.lower_bound({Urgency::visited, 0});
  if (visited != waiting_.end() && visited->first.first == Urgency::visited) return visited;
  return places ? first : waiting_.end();
}

void Orders::attempt(const RunPtr& run) {
  run->trying = true;
  run->since = clock_.monotonic();
  run->suspicion =
      agenda_.after(suspect_after, [self = shared_from_this(), run] { self->suspect(run); });
  asio::co_spawn(
      control_, guarded(shared_from_this(), run->order.wanted),
      asio::bind_cancellation_slot(
          run->interrupt.slot(),
          [self = shared_from_this(), run](std::exception_ptr thrown, Outcome<Issued> outcome) {
            if (self->detached_) return;
            if (thrown) outcome = interrupted(self->authority_.name);
            self->attempted(run, std::move(outcome));
          }));
}

void Orders::attempted(const RunPtr& run, Outcome<Issued> outcome) {
  run->trying = false;
  agenda_.cancel(run->suspicion);
  add_placed(run->placed, outcome);
  if (outcome || (outcome.error().kind != FailureClass::transport &&
                  outcome.error().kind != FailureClass::rate_limit)) {
    const bool local =
        !outcome && (outcome.error().local || outcome.error().kind == FailureClass::storage ||
                     outcome.error().kind == FailureClass::internal);
    if (!local) {
      last_answer_ = clock_.monotonic();
      limited_.clear();
      const bool was_open = breaker_.open();
      breaker_.reset();
      if (was_open) recovered();
      told_down_ = told_up_ = false;
    }
    return finish(run, std::move(outcome));
  }
  const Failure& failure = outcome.error();
  if (failure.kind == FailureClass::rate_limit) {
    // Without a time it may be meant for this one alone, until another is told the same.
    const std::string& id = run->order.wanted.id;
    if (failure.retry_at) {
      last_answer_ = clock_.monotonic();
    } else if (limited_.empty() || limited_ == id) {
      limited_ = id;
    } else if (!breaker_.open()) {
      breaker_.throttle(clock_.monotonic());
      became_open(failure.sentence);
    }
    return finish(run, std::move(outcome));
  }
  if (!try_again(run, failure)) finish(run, std::move(outcome));
}

/// After a transport failure: true if another try follows. Opens the breaker when the tries are
/// used up and nobody else was answered meanwhile.
bool Orders::try_again(const RunPtr& run, const Failure& failure) {
  const auto now = clock_.monotonic();
  if (!run->first_failure) run->first_failure = now;
  if (stopped_ || breaker_.open()) return false;
  Monotonic::duration told{};
  if (failure.retry_at) told = *failure.retry_at - clock_.wall();
  if (told > short_retry_after) {
    trip(failure.sentence, now + told);
    return false;
  }
  if (run->tries < std::size(try_waits)) {
    const Monotonic::duration wait = std::max<Monotonic::duration>(try_waits[run->tries], told);
    ++run->tries;
    agenda_.after(wait, [self = shared_from_this(), run] {
      if (!self->breaker_.open() && !self->stopped_) return self->attempt(run);
      self->finish(run, interrupted(self->authority_.name));
    });
    return true;
  }
  if (last_answer_ <= *run->first_failure) trip(failure.sentence, std::nullopt);
  return false;
}

void Orders::finish(const RunPtr& run, Outcome<Issued> outcome) {
  running_.erase(run->order.wanted.id);
  if (run->order.urgency == Urgency::visited) --visitors_running_;
  auto done = std::move(run->order.done);
  if (done) done(std::move(outcome));
  if (!detached_) start_next();
}

/// The order may just be slow; a CA that does not even show its directory is down.
void Orders::suspect(const RunPtr& run) {
  run->suspicion = 0;
  if (!run->trying || breaker_.open()) return;
  run->suspicion =
      agenda_.after(suspect_after, [self = shared_from_this(), run] { self->suspect(run); });
  // Many orders may have begun together: one look speaks for all of them.
  if (last_probe_ == judged_) probe();
}

void Orders::trip(const std::string& reason, std::optional<Monotonic::time_point> until) {
  breaker_.trip(clock_.monotonic(), until);
  became_open(reason);
}

void Orders::became_open(const std::string& reason) {
  opened_at_ = clock_.monotonic();
  arm_probe();
  const auto wait =
      std::chrono::duration_cast<std::chrono::seconds>(probe_due_ - clock_.monotonic());
  if (!std::exchange(told_down_, true))
    base::log::warn(
        "{} is not taking orders ({}): stored certificates and fallbacks are served, "
        "next look in {} s",
        authority_.name, reason, wait.count());
  fail_waiting();
  if (events_.opened) events_.opened();
}

void Orders::fail_waiting() {
  auto waiting = std::exchange(waiting_, {});
  place_of_.clear();
  Failure unheard;
  unheard.kind = FailureClass::transport;
  for (auto& [place, order] : waiting) order.done(unheard);
}

void Orders::arm_probe() {
  const bool wanted = clock_.monotonic() < wished_until_ || (events_.wanted && events_.wanted());
  const auto due = breaker_.probe_at(wanted, authority_.name);
  if (probe_ != 0 && due == probe_due_) return;
  agenda_.cancel(probe_);
  probe_due_ = due;
  probe_ = agenda_.at(due, [self = shared_from_this()] {
    self->probe_ = 0;
    self->probe();
  });
}

void Orders::probe() {
  if (stopped_) return;
  if (breaker_.throttled()) {
    breaker_.close();
    return recovered();
  }
  if (probes_running_ >= probes_max) return probed(last_probe_, false);
  ++probes_running_;
  const uint64_t number = ++last_probe_;
  const auto interrupt = std::make_shared<asio::cancellation_signal>();
  asio::co_spawn(control_, guarded_probe(shared_from_this()),
                 asio::bind_cancellation_slot(interrupt->slot(),
                                              [self = shared_from_this(), number, interrupt](
                                                  std::exception_ptr thrown, bool well) {
                                                --self->probes_running_;
                                                if (self->detached_) return;
                                                well = well && !thrown;
                                                // One given up has been judged; a good answer that
                                                // comes all the same is welcome.
                                                if (well || number > self->judged_)
                                                  self->probed(number, well);
                                              }));
  agenda_.after(probe_patience, [self = shared_from_this(), number, interrupt] {
    if (number <= self->judged_ || self->detached_) return;
    self->probed(number, false);
    interrupt->emit(asio::cancellation_type::terminal);
  });
}

void Orders::probed(uint64_t number, bool well) {
  judged_ = std::max(judged_, number);
  if (well) {
    last_answer_ = clock_.monotonic();
    if (!breaker_.open() || breaker_.throttled()) return;
    breaker_.close();
    return recovered();
  }
  if (breaker_.open()) {
    breaker_.probe_failed(clock_.monotonic());
    arm_probe();
  } else {
    trip("its directory cannot be read", std::nullopt);
  }
}

void Orders::recovered() {
  agenda_.cancel(probe_);
  if (!breaker_.on_trial() && !std::exchange(told_up_, true))
    base::log::info("{} answers again", authority_.name);
  // What hung while it was down would go on hanging until its time-out.
  for (auto& [id, run] : std::unordered_map(running_))
    if (run->trying && run->since < opened_at_)
      run->interrupt.emit(asio::cancellation_type::terminal);
  if (events_.available) events_.available();
  start_next();
}

}  // namespace gatehouse::acme
