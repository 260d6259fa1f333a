// Whether a certificate that was swapped in is what visitors see, and the way back if it is not.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "acme/manager_state.hpp"
#include "base/log.hpp"

namespace gatehouse::acme {

namespace asio = boost::asio;
using Wall = base::WallClock::time_point;

namespace {

/// A certificate that cannot be served costs an order each time: the first try after one comes as
/// late as that after so many failed validations.
constexpr unsigned failures_ahead = 2;

}  // namespace

void Manager::State::check_served(const Swap& swap) {
  if (!hooks.check) return;
  hooks.check(swap.name, swap.fresh,
              [weak = weak_from_this(), swap](const std::optional<std::string>& problem) {
                if (const auto self = weak.lock()) self->checked(swap, problem);
              });
}

void Manager::State::checked(const Swap& swap, const std::optional<std::string>& problem) {
  Entry* entry = find(swap.name);
  if (entry == nullptr || entry->certificate != swap.fresh || stopped) return;
  if (!problem) return;
  if (problem->empty()) {
    entry->deploy_failures = 0;
    return;
  }
  if (!swap.before)
    return deploy_failed(swap, *problem + "; there is no earlier one to return to, and it stays");
  // Is it the certificate, or the way to it? The one before tells.
  entry->on_trial = true;
  if (hooks.serve) hooks.serve(swap.name, swap.before);
  hooks.check(swap.name, swap.before,
              [weak = weak_from_this(), swap,
               problem = *problem](const std::optional<std::string>& problem_before) {
                if (const auto self = weak.lock()) self->judged(swap, problem, problem_before);
              });
}

void Manager::State::judged(const Swap& swap, const std::string& problem,
                            const std::optional<std::string>& problem_before) {
  Entry* entry = find(swap.name);
  if (entry != nullptr) entry->on_trial = false;
  if (entry == nullptr || entry->certificate != swap.fresh || stopped) return;
  // Only the old one before our eyes is a reason to return to it.
  if (!problem_before || !problem_before->empty()) {
    if (hooks.serve) hooks.serve(swap.name, swap.fresh);
    return deploy_failed(swap, problem +
                                   "; the certificate before it is not seen either, so the new one "
                                   "stays: see which program answers at that address");
  }
  const Wall now = clock.wall();
  ++entry->deploy_failures;
  Setback& setback = entry->past.setback;
  setback.kind = FailureClass::internal;
  setback.sentence =
      swap.name + ": the new certificate is not served: " + problem + "; the one before is back";
  entry->certificate = swap.before;
  entry->authority = swap.before_from;
  entry->unsaved = false;
  entry->save_failures = 0;
  agenda.cancel(entry->save_retry);
  forget_look(swap.name);
  plan_advice(*entry);
  plan_notice(*entry);
  const auto wait =
      retry_wait(FailureClass::validation, entry->deploy_failures + failures_ahead, entry->id);
  entry->renew_at = now + wait;
  attempt_at(*entry, now + wait);
  remember(*entry);
  asio::co_spawn(control, roll_back(shared_from_this(), swap), asio::detached);
  deploy_failed(swap, problem + "; the one before is served again, and the next order is placed " +
                          spoken_time(now + wait, now));
}

/// Behind the write of the new one, if that is still under way: both are done in their order.
asio::awaitable<void> Manager::State::roll_back(std::shared_ptr<State> self, Swap swap) {
  const std::string id = certificate_id(swap.name);
  bool moved = false;
  if (swap.desk == self->internal_desk)
    moved = co_await self->vault.roll_back_internal(id, swap.fresh->fingerprint());
  else
    moved = co_await self->vault.roll_back(id, swap.fresh->fingerprint());
  if (moved) base::log::info("{}: the new certificate was moved to quarantine/", swap.name);
  self->note_index_change();
  // Its order must not be continued by a restart.
  co_await swap.desk->orders->authority().forget(id);
}

void Manager::State::deploy_failed(const Swap& swap, const std::string& what) {
  metrics.add(base::Metric::certificate_failures);
  const std::string said =
      fmt::format("{}: the new certificate is not served: {}", swap.name, what);
  base::log::error("{}", said);
  if (const Entry* entry = find(swap.name))
    tell(*entry, Event::Kind::deploy_failed, said, swap.desk->settings.name,
         entry->past.setback.next_attempt);
}

}  // namespace gatehouse::acme
