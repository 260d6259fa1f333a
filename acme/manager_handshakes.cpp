// Handshakes that ask for a certificate: who waits, for how long, and what he is given.
#include "acme/manager_state.hpp"

namespace gatehouse::acme {

using tls::Acquired;

namespace {

constexpr std::chrono::seconds retry_after_default{10};
constexpr std::chrono::seconds retry_after_max{3600};

Acquired refusal(Acquired::Outcome outcome) {
  Acquired acquired;
  acquired.outcome = outcome;
  return acquired;
}

}  // namespace

void Manager::State::acquire(std::string name, std::string client,
                             std::function<void(Acquired)> deliver) {
  const auto found = claims.find(name);
  if (stopped) return hand_fallback(name, found.claim, retry_after_default, std::move(deliver));
  switch (found.claim) {
    case Claim::none:
    case Claim::off:
      return deliver(refusal(Acquired::Outcome::denied));
    case Claim::own:
      return hand_fallback(name, found.claim, retry_after_default, std::move(deliver));
    default:
      break;
  }
  const bool on_demand = found.claim == Claim::on_demand;
  Entry* entry = find(found.subject);
  if (entry == nullptr && on_demand && !vault.holds(certificate_id(name))) {
    // Nothing is remembered of a name that may not have a certificate.
    const auto known = permission.known(name);
    if (known && *known != Answer::allowed) {
      metrics.add(base::Metric::ondemand_denied);
      return deliver(refusal(Acquired::Outcome::denied));
    }
  }
  // Visits are remembered of certificates only, not of every name that is tried.
  if (on_demand &&
      (entry != nullptr ? entry->certificate != nullptr : vault.holds(certificate_id(name))))
    visits.seen(name, clock.wall());
  if (entry == nullptr) {
    if (on_demand && awaited_on_demand >= awaited_on_demand_max) keep_house();
    if (on_demand && awaited_on_demand >= awaited_on_demand_max)
      return deliver(refusal(Acquired::Outcome::failed));
    entry = &entry_for(found.subject, found.claim);
    entry->wished = clock.monotonic();
    if (!park(*entry, std::move(client), std::move(deliver)) && on_demand) return erase(name);
    return begin_load(*entry);
  }
  entry->wished = clock.monotonic();
  if (entry->certificate) {
    Acquired ready;
    ready.outcome = Acquired::Outcome::ready;
    ready.certificate = entry->certificate;
    return deliver(std::move(ready));
  }
  // Its first order, or one that a former process had begun, or another CA is at it in the place of
  // one that would not.
  const bool hopeful =
      entry->past.setback.failures == 0 || entry->journalled || entry->tried.size() > 1;
  const bool first_order = entry->ordering && hopeful && !entry->slow;
  if (entry->loading || entry->asking || first_order) {
    if (entry->ordering) entry->ordering->orders->raise(entry->order_id(), Urgency::visited);
    // The first of those who wait takes it to the front.
    const bool hurry = entry->loading && !entry->reading && entry->waiters.empty();
    if (hurry) load_queue.push_front(entry->name);
    park(*entry, std::move(client), std::move(deliver));
    return;
  }
  // In backoff, or behind an open breaker: the answer is known, and the wish is noted.
  if (entry->awaits_ca)
    for (const auto& desk : desks) desk->orders->wished();
  hand_fallback(entry->name, entry->claim, retry_after(*entry), std::move(deliver));
}

/// False: too many wait already, and he was answered at once.
bool Manager::State::park(Entry& entry, std::string client, std::function<void(Acquired)> deliver) {
  if (!parking.enter(entry.name, client)) {
    metrics.add(base::Metric::ondemand_throttled);
    if (entry.on_demand() && !entry.permitted)
      deliver(refusal(Acquired::Outcome::failed));
    else
      hand_fallback(entry.name, entry.claim, retry_after_default, std::move(deliver));
    return false;
  }
  auto& waiter = entry.waiters.emplace_back();
  waiter.number = ++last_waiter;
  waiter.client = std::move(client);
  waiter.deliver = std::move(deliver);
  waiter.timeout =
      agenda.after(snapshot->on_demand.wait,
                   [this, name = entry.name, number = waiter.number] { timed_out(name, number); });
  return true;
}

void Manager::State::timed_out(const std::string& name, uint64_t number) {
  Entry* entry = find(name);
  if (entry == nullptr) return;
  const auto waiter = std::find_if(entry->waiters.begin(), entry->waiters.end(),
                                   [number](const Waiter& one) { return one.number == number; });
  if (waiter == entry->waiters.end()) return;
  parking.leave(entry->name, waiter->client);
  auto deliver = std::move(waiter->deliver);
  entry->waiters.erase(waiter);
  if (entry->ordering) entry->slow = true;
  if (entry->on_demand() && !entry->permitted) return deliver(refusal(Acquired::Outcome::failed));
  hand_fallback(entry->name, entry->claim, retry_after(*entry), std::move(deliver));
}

std::list<Waiter> Manager::State::take_waiters(Entry& entry) {
  auto waiters = std::exchange(entry.waiters, {});
  for (auto& waiter : waiters) {
    agenda.cancel(waiter.timeout);
    parking.leave(entry.name, waiter.client);
  }
  return waiters;
}

void Manager::State::give_certificate(Entry& entry) {
  Acquired ready;
  ready.outcome = Acquired::Outcome::ready;
  ready.certificate = entry.certificate;
  for (auto& waiter : take_waiters(entry)) waiter.deliver(ready);
}

void Manager::State::give_fallback(Entry& entry) {
  const std::string name = entry.name;
  const Claim claim = entry.claim;
  const auto wait = retry_after(entry);
  for (auto& waiter : take_waiters(entry))
    hand_fallback(name, claim, wait, std::move(waiter.deliver));
}

void Manager::State::deny(Entry& entry) {
  for (auto& waiter : take_waiters(entry)) {
    metrics.add(base::Metric::ondemand_denied);
    waiter.deliver(refusal(Acquired::Outcome::denied));
  }
}

void Manager::State::hand_fallback(const std::string& name, Claim claim, std::chrono::seconds wait,
                                   std::function<void(Acquired)> deliver) {
  const bool alert = claim == Claim::on_demand && snapshot &&
                     snapshot->on_demand.on_timeout == config::OnTimeout::alert;
  if (alert || claim == Claim::none || claim == Claim::off)
    return deliver(refusal(Acquired::Outcome::failed));
  std::string why;
  if (const Entry* entry = find(name); entry != nullptr && !entry->past.setback.sentence.empty())
    why = "the certificate is not there yet: " + entry->past.setback.sentence;
  const auto hand = [wait, why = std::move(why)](const std::function<void(Acquired)>& to,
                                                 tls::CertificatePtr stand_in) {
    Acquired acquired;
    acquired.outcome = stand_in ? Acquired::Outcome::fallback : Acquired::Outcome::failed;
    acquired.certificate = std::move(stand_in);
    acquired.retry_after = wait;
    acquired.why = why;
    to(std::move(acquired));
  };
  if (hooks.own_fallback)
    if (auto own = hooks.own_fallback(name)) return hand(deliver, std::move(own));
  fallbacks.provide(fallback_zone(name),
                    [hand, deliver = std::move(deliver)](tls::CertificatePtr certificate) {
                      hand(deliver, std::move(certificate));
                    });
}

std::chrono::seconds Manager::State::retry_after(const Entry& entry) const {
  const auto next = entry.past.setback.next_attempt;
  if (next <= clock.wall()) return retry_after_default;
  const auto wait = std::chrono::duration_cast<std::chrono::seconds>(next - clock.wall());
  return std::clamp<std::chrono::seconds>(wait, std::chrono::seconds(1), retry_after_max);
}

}  // namespace gatehouse::acme
