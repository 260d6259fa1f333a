// The life of one certificate until it is there: loaded, permitted, ordered.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "acme/manager_state.hpp"
#include "acme/times.hpp"
#include "base/log.hpp"

namespace gatehouse::acme {

namespace asio = boost::asio;
using base::ErrorKind;
using base::Result;
using Wall = base::WallClock::time_point;

namespace {

constexpr std::chrono::seconds load_retry{60};
constexpr std::chrono::seconds full_queue_retry{60};
constexpr std::chrono::minutes wished_lately{15};
constexpr std::chrono::minutes throttle_told_every{1};

}  // namespace

std::string spoken_time(Wall when, Wall now) {
  const auto away = std::chrono::duration_cast<std::chrono::seconds>(when - now).count();
  if (away <= 120) return fmt::format("in {} s", std::max<int64_t>(away, 0));
  if (away <= 7200) return fmt::format("in {} min", away / 60);
  return "at " + timestamp(when);
}

Entry& Manager::State::entry_for(const std::string& name, Claim claim) {
  auto& place = entries[name];
  if (place) return *place;
  place = std::make_unique<Entry>();
  place->name = name;
  place->id = certificate_id(name);
  place->claim = claim;
  if (claim == Claim::on_demand) ++awaited_on_demand;
  return *place;
}

Entry* Manager::State::find(const std::string& name) {
  const auto found = entries.find(name);
  return found == entries.end() ? nullptr : found->second.get();
}

void Manager::State::erase(const std::string& name) {
  const auto found = entries.find(name);
  if (found == entries.end()) return;
  Entry& entry = *found->second;
  ASSERT(entry.waiters.empty() && !entry.ordering);
  agenda.cancel(entry.retry);
  agenda.cancel(entry.reminder);
  agenda.cancel(entry.save_retry);
  awaiting_ca.erase(name);
  if (entry.on_demand() && !entry.certificate) --awaited_on_demand;
  unlist(entry);
  const std::string gone = name;  // `name` may be the entry's own
  entries.erase(found);
  renewal_over(gone);
}

// --- loading

void Manager::State::begin_load(Entry& entry) {
  if (entry.loading || entry.certificate) return;
  if (entry.claim != Claim::internal && !vault.holds(entry.id)) {
    entry.stored_checked = true;
    return missing(entry);
  }
  entry.loading = true;
  // A handshake waits for some of them.
  if (entry.waiters.empty())
    load_queue.push_back(entry.name);
  else
    load_queue.push_front(entry.name);
  start_loads();
}

void Manager::State::start_loads() {
  while (loads_running < loads_max && !load_queue.empty()) {
    ++loads_running;
    const std::string name = std::move(load_queue.front());
    load_queue.pop_front();
    asio::co_spawn(control, load(shared_from_this(), name), asio::detached);
  }
}

asio::awaitable<void> Manager::State::load(std::shared_ptr<State> self, std::string name) {
  Entry* before = self->find(name);
  if (before == nullptr || !before->loading || before->reading) {
    --self->loads_running;
    co_return;
  }
  before->reading = true;
  const std::string id = before->id;
  Result<StoredCertificate> stored = base::Error();
  if (before->claim == Claim::internal)
    stored = co_await self->vault.load_internal(id);
  else
    stored = co_await self->vault.load(id, name);
  --self->loads_running;
  if (Entry* entry = self->find(name)) self->loaded(*entry, std::move(stored));
  if (!self->stopped) self->start_loads();
}

void Manager::State::loaded(Entry& entry, Result<StoredCertificate> stored) {
  entry.loading = entry.reading = false;
  if (entry.claim == Claim::none) {
    give_fallback(entry);
    return erase(entry.name);
  }
  if (!stored && stored.error().kind == ErrorKind::io) {
    // It is there and cannot be read: an order would only hide that.
    base::log::error("{}: {}; the fallback is served meanwhile", entry.name,
                     stored.error().context);
    entry.last.kind = FailureClass::storage;
    entry.last.sentence = stored.error().context;
    attempt_at(entry, clock.wall() + load_retry);
    return give_fallback(entry);
  }
  entry.stored_checked = true;
  if (stored && !stored->certificate->covers(entry.name) &&
      std::find(stored->certificate->names().begin(), stored->certificate->names().end(),
                entry.name) == stored->certificate->names().end())
    stored = base::Error(ErrorKind::corrupt, "the stored certificate is for other names");
  if (stored &&
      (stored->note.authority == internal_authority_name) != (entry.claim == Claim::internal))
    return missing(entry);  // the site changed its mode while this was read
  if (!stored) {
    if (stored.error().kind != ErrorKind::not_found)
      base::log::warn("{}: {}; it is obtained anew", entry.name, stored.error().context);
    return missing(entry);
  }
  const std::string name = entry.name;
  const bool journalled = std::exchange(entry.journalled, false);
  adopt(entry, stored->certificate, stored->note.authority);
  give_certificate(entry);
  if (!journalled || desks.empty()) return;
  if (entry.renew_at > clock.wall()) {
    // Left over from between the save and the end of the order.
    asio::co_spawn(control, forget(shared_from_this(), desks.front(), entry.id), asio::detached);
  } else {
    entry.journalled = entry.counted = entry.permitted = true;
    want(entry);
  }
}

void Manager::State::missing(Entry& entry) {
  if (!entry.on_demand() || entry.permitted) return want(entry);
  if (entry.journalled) {
    entry.permitted = entry.counted = true;  // it was, before the restart
    return want(entry);
  }
  ask_permission(entry);
}

// --- permission and budget

void Manager::State::ask_permission(Entry& entry) {
  entry.asking = true;
  const std::string client = entry.waiters.empty() ? std::string() : entry.waiters.front().client;
  permission.request(entry.name, client,
                     [weak = weak_from_this(), name = entry.name](Answer answer) {
                       if (const auto self = weak.lock()) self->permitted(name, answer);
                     });
}

void Manager::State::permitted(const std::string& name, Answer answer) {
  Entry* entry = find(name);
  if (entry == nullptr || !entry->asking) return;
  entry->asking = false;
  if (stopped) {
    give_fallback(*entry);
    return;
  }
  if (answer == Answer::allowed && entry->claim == Claim::on_demand) {
    entry->permitted = true;
    return want(*entry);
  }
  deny(*entry);
  visits.forget(name);
  erase(name);
}

/// Takes a new on-demand name from the budget; false: it is used up, and the entry is gone.
bool Manager::State::count(Entry& entry) {
  if (!entry.on_demand() || entry.counted || entry.certificate) return true;
  const auto ready = on_demand_budget.take(entry.name, clock.wall());
  if (!ready) {
    entry.counted = true;
    note_change();
    return true;
  }
  metrics.add(base::Metric::ondemand_throttled);
  const bool told = clock.monotonic() < throttle_told_until;
  if (!told) throttle_told_until = clock.monotonic() + throttle_told_every;
  if (!told)
    base::log::warn(
        "{}: the limit for new on-demand certificates is reached, the fallback is served "
        "and the next handshake may try again {}; said once a minute",
        entry.name, spoken_time(*ready, clock.wall()));
  entry.next_attempt = *ready;
  give_fallback(entry);
  erase(entry.name);
  return false;
}

// --- ordering

DeskPtr Manager::State::pick_desk(const Entry& entry, Wall& earliest, bool& any_open) {
  if (entry.claim == Claim::internal) return internal_desk;
  const Wall now = clock.wall();
  for (const auto& desk : desks) {
    if (desk->orders->open()) {
      any_open = true;
      continue;
    }
    const auto held = entry.held.find(desk->settings.name);
    Wall ready = held == entry.held.end() ? now : held->second;
    if (!entry.journalled) ready = std::max(ready, desk->budget.ready_at({entry.name}, now));
    if (ready <= now) return desk;
    earliest = std::min(earliest, ready);
  }
  return nullptr;
}

void Manager::State::want(Entry& entry) {
  if (entry.ordering) return;
  if (stopped) return give_fallback(entry);
  Wall earliest = Wall::max();
  bool any_open = false;
  const DeskPtr desk = pick_desk(entry, earliest, any_open);
  if (desk) {
    if (!count(entry)) return;
    return submit(entry, desk);
  }
  if (earliest != Wall::max() && !any_open) {
    base::log::warn("{}: the limits of the CA leave no order for it now, next attempt {}",
                    entry.name, spoken_time(earliest, clock.wall()));
    attempt_at(entry, earliest);
  } else {
    await_ca(entry);
  }
  give_fallback(entry);
}

Urgency Manager::State::urgency_of(const Entry& entry) const {
  if (entry.certificate) {
    const Lifetime life = lifetime_of(*entry.certificate);
    return life.not_after - clock.wall() <= life.length() / 5 ? Urgency::expiring : Urgency::due;
  }
  const bool wished = entry.wished != base::Monotonic::time_point{};
  return wished || !entry.waiters.empty() ? Urgency::visited : Urgency::fresh;
}

void Manager::State::submit(Entry& entry, const DeskPtr& desk) {
  agenda.cancel(entry.retry);
  entry.ordering = desk;
  entry.slow = false;
  Order order;
  order.id = entry.id;
  order.names = {entry.name};
  order.urgency = urgency_of(entry);
  order.done = [weak = weak_from_this(), name = entry.name,
                desk](Outcome<tls::CertificatePtr> outcome) {
    if (const auto self = weak.lock()) self->ordered(name, desk, std::move(outcome));
  };
  const std::string name = entry.name;
  if (!entry.journalled) {
    desk->budget.ordered(order.names, clock.wall());
    desk->budget_changed = true;
    note_change();
  }
  if (desk->orders->submit(std::move(order))) return;
  Entry* still = find(name);
  if (still == nullptr) return;
  still->ordering.reset();
  desk->budget.not_issued({name});
  attempt_at(*still, clock.wall() + full_queue_retry);
  give_fallback(*still);
}

void Manager::State::ordered(const std::string& name, const DeskPtr& desk,
                             Outcome<tls::CertificatePtr> outcome) {
  const uint64_t placed = desk->orders->authority().orders_placed();
  if (placed > desk->orders_counted)
    metrics.add(base::Metric::certificate_orders,
                static_cast<int64_t>(placed - desk->orders_counted));
  desk->orders_counted = placed;
  Entry* entry = find(name);
  if (entry == nullptr) return;
  entry->ordering.reset();
  if (outcome || !outcome.error().sentence.empty()) renewal_over(name);
  if (!outcome) desk->budget.not_issued({name});
  if (entry->claim == Claim::none) {  // its site was removed meanwhile: kept for its return
    if (outcome) {
      CertificateNote note;
      note.name = name;
      note.authority = desk->settings.name;
      asio::co_spawn(control,
                     write(shared_from_this(), name, *outcome, note, desk, desk == internal_desk),
                     asio::detached);
    }
    give_fallback(*entry);
    return erase(name);
  }
  if (outcome)
    obtained(*entry, desk, *outcome);
  else
    failed(*entry, desk, outcome.error());
}

void Manager::State::obtained(Entry& entry, const DeskPtr& desk, tls::CertificatePtr certificate) {
  const bool renewed = entry.certificate != nullptr;
  metrics.add(renewed ? base::Metric::certificates_renewed : base::Metric::certificates_issued);
  entry.failures = 0;
  entry.last = Failure();
  entry.held.clear();
  entry.journalled = entry.slow = false;
  entry.next_attempt = {};
  entry.reminders = 0;
  agenda.cancel(entry.retry);
  // A clock far ahead makes even a new certificate look old.
  entry.renewed_until = clock.wall() + lifetime_of(*certificate).length() / 10;
  const Swap swap{entry.name, certificate, entry.certificate, desk};
  adopt(entry, std::move(certificate), desk->settings.name);
  base::log::info("{}: certificate {} from {}, valid until {}, to be renewed {}", entry.name,
                  renewed ? "renewed" : "obtained", desk->settings.name,
                  timestamp(entry.certificate->not_after()),
                  spoken_time(entry.renew_at, clock.wall()));
  // Served before it is stored: the journal holds all that a restart needs to fetch it again.
  const std::string name = entry.name;
  give_certificate(entry);
  if (Entry* still = find(name)) save(*still, desk);
  check_served(swap);
}

void Manager::State::failed(Entry& entry, const DeskPtr& desk, Failure failure) {
  const Wall now = clock.wall();
  if (failure.sentence.empty()) {
    await_ca(entry);
    return give_fallback(entry);
  }
  ++entry.failures;
  entry.journalled = false;
  metrics.add(base::Metric::certificate_failures);
  if (failure.kind == FailureClass::validation) desk->budget.validation_failed(entry.name, now);
  const bool told = failure.kind == FailureClass::rate_limit && failure.retry_at;
  if (told) {
    entry.held[desk->settings.name] = *failure.retry_at;
    desk->budget.limited({entry.name}, failure.sentence, *failure.retry_at);
    desk->budget_changed = true;
  }
  note_change();
  entry.last = failure;
  if (desk->orders->open()) {
    // Once for each name; that the CA is still down is said for all of them together.
    if (entry.failures == 1)
      base::log::warn("{}; next attempt when {} answers again", failure.sentence,
                      desk->settings.name);
    await_ca(entry);
    return give_fallback(entry);
  }
  Wall next = now + retry_wait(failure.kind, entry.failures, entry.id);
  if (entry.certificate && failure.kind != FailureClass::policy &&
      failure.kind != FailureClass::account)
    next = now + shortened(std::chrono::duration_cast<std::chrono::milliseconds>(next - now),
                           lifetime_of(*entry.certificate), now);
  if (told) {
    next = *failure.retry_at;
    Wall earliest = Wall::max();
    bool any_open = false;
    if (pick_desk(entry, earliest, any_open)) next = now;  // another CA, at once
  }
  base::log::warn("{}; next attempt {}", failure.sentence, spoken_time(next, now));
  attempt_at(entry, next);
  give_fallback(entry);
}

void Manager::State::await_ca(Entry& entry) {
  entry.awaits_ca = true;
  awaiting_ca.insert(entry.name);
  auto soonest = base::Monotonic::time_point::max();
  for (const auto& desk : desks) {
    if (!desk->orders->open()) continue;
    if (!entry.waiters.empty()) desk->orders->wished();
    soonest = std::min(soonest, desk->orders->next_try());
  }
  if (soonest == base::Monotonic::time_point::max())
    return attempt_at(entry, clock.wall() + full_queue_retry);
  entry.next_attempt = clock.wall() + (soonest - clock.monotonic());
}

void Manager::State::attempt_at(Entry& entry, Wall when) {
  entry.next_attempt = when;
  if (when > clock.wall()) renewal_over(entry.name);
  agenda.cancel(entry.retry);
  const auto wait = std::max<Wall::duration>(when - clock.wall(), Wall::duration::zero());
  entry.retry = agenda.after(wait, [this, name = entry.name] { retry_now(name); });
}

void Manager::State::retry_now(const std::string& name) {
  Entry* entry = find(name);
  if (entry == nullptr) return;
  entry->retry = 0;
  if (stopped || entry->ordering) return;
  const bool unwanted =
      entry->on_demand() && !entry->certificate && entry->waiters.empty() &&
      clock.monotonic() - entry->wished > std::chrono::hours(awaited_on_demand_kept);
  if (unwanted) return erase(name);
  if (!entry->stored_checked) return begin_load(*entry);
  if (entry->certificate) return renew(*entry);
  want(*entry);
}

void Manager::State::ca_opened(const Orders* orders) {
  std::vector<std::string> waiting;
  for (const auto& [name, entry] : entries)
    if (entry->ordering && entry->ordering->orders.get() == orders && !entry->waiters.empty())
      waiting.push_back(name);
  for (const auto& name : waiting)
    if (Entry* entry = find(name)) {
      entry->slow = true;
      give_fallback(*entry);
    }
}

void Manager::State::ca_available() {
  for (const auto& name : std::exchange(awaiting_ca, {})) {
    Entry* entry = find(name);
    if (entry == nullptr) continue;
    entry->awaits_ca = false;
    if (!stopped) retry_now(name);
  }
  take_due_looks();
}

/// Names without any certificate that the user configured, or that somebody lately came for.
bool Manager::State::ca_wanted() const {
  const auto now = clock.monotonic();
  return std::any_of(awaiting_ca.begin(), awaiting_ca.end(), [&](const std::string& name) {
    const auto found = entries.find(name);
    if (found == entries.end()) return false;
    const Entry& entry = *found->second;
    const bool visited =
        entry.wished != base::Monotonic::time_point{} && now - entry.wished < wished_lately;
    return (!entry.certificate && !entry.on_demand()) || visited;
  });
}

}  // namespace gatehouse::acme
