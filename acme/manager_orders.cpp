// The life of one certificate until it is there: loaded, permitted, ordered.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "acme/journal.hpp"
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
  place->past = setbacks.recall(name);
  place->resumed = place->past.setback.failures > 0;
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
  agenda.cancel(entry.advice_look);
  awaiting_ca.erase(name);
  leave_budget(name);
  if (entry.on_demand() && !entry.certificate) --awaited_on_demand;
  unlist(entry);
  const auto gone = entries.extract(found);  // `name` may be the entry's own
  renewal_over(name);
}

// --- loading

void Manager::State::begin_load(Entry& entry) {
  if (entry.loading || entry.certificate) return;
  if (entry.claim != Claim::internal && !entry.journalled && !vault.holds(entry.id)) {
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
    if (!self->stopped) self->start_loads();
    co_return;
  }
  before->reading = true;
  const std::string id = before->id;
  const bool journalled = before->journalled;
  Result<StoredCertificate> stored = base::Error();
  if (before->claim == Claim::internal)
    stored = co_await self->vault.load_internal(id);
  else
    stored = co_await self->vault.load(id, name);
  std::string journalled_at;
  if (journalled) journalled_at = co_await journalled_directory(self->storage, id);
  --self->loads_running;
  if (Entry* entry = self->find(name)) {
    entry->journalled_at = std::move(journalled_at);
    self->loaded(*entry, std::move(stored));
  }
  if (!self->stopped) self->start_loads();
}

void Manager::State::loaded(Entry& entry, Result<StoredCertificate> stored) {
  entry.loading = entry.reading = false;
  if (entry.claim == Claim::none) {
    give_fallback(entry);
    if (!entry.ordering) erase(entry.name);
    return;
  }
  if (entry.certificate) {  // an order was faster
    entry.stored_checked = true;
    return give_certificate(entry);
  }
  if (!stored && stored.error().kind == ErrorKind::io) {
    // It is there and cannot be read: an order would only hide that.
    base::log::error("{}: {}; the fallback is served meanwhile", entry.name,
                     stored.error().context);
    entry.past.setback.kind = FailureClass::storage;
    entry.past.setback.sentence = stored.error().context;
    attempt_at(entry, clock.wall() + load_retry);
    return give_fallback(entry);
  }
  entry.stored_checked = true;
  if (entry.past.setback.failures == 0) entry.past.setback.sentence.clear();
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
  } else if (!entry.ordering) {
    entry.journalled = entry.counted = entry.permitted = true;
    want(entry);
  }
}

void Manager::State::missing(Entry& entry) {
  if (entry.ordering) return;  // its end is what matters
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
  entry.past.setback.next_attempt = *ready;
  give_fallback(entry);
  erase(entry.name);
  return false;
}

// --- ordering

/// A new round: every CA may be asked once. Asks whoever can be asked now, else waits.
void Manager::State::want(Entry& entry) {
  if (entry.ordering) return;
  if (stopped) return give_fallback(entry);
  if (entry.claim == Claim::internal) return submit(entry, internal_desk, false);
  if (resume(entry)) return;
  entry.tried.clear();
  // Those whose turn has come go first, whoever asks in the same moment.
  if (entry.turn == 0 && clock.wall() >= budget_due) serve_budget();
  if (entry.ordering) return;
  const Choice choice = choose(candidates(entry), entry.past.setback, clock.wall());
  if (!ask_now(entry, choice)) wait_for(entry, choice);
}

/// What a former process left: an order goes on at its own CA, and a wait that a CA or the schedule
/// imposed is waited for. False: there is nothing of the kind.
bool Manager::State::resume(Entry& entry) {
  Setback& setback = entry.past.setback;
  if (std::exchange(entry.resumed, false) && !entry.journalled) {
    if (review_holds(setback, candidates(entry), clock.wall())) begin_anew(setback);
    // What was found here costs no CA anything: a person may have mended it before he restarted us.
    const bool imposed =
        !setback.local &&
        (setback.kind == FailureClass::validation || setback.kind == FailureClass::rate_limit ||
         setback.kind == FailureClass::policy || setback.kind == FailureClass::account);
    if (imposed && setback.failures > 0 && setback.next_attempt > clock.wall()) {
      base::log::info("{}; as before the restart, next attempt {}", setback.sentence,
                      spoken_time(setback.next_attempt, clock.wall()));
      attempt_at(entry, setback.next_attempt);
      give_fallback(entry);
      return true;
    }
  }
  if (!entry.journalled || entry.journalled_at.empty()) return false;
  for (const auto& desk : desks) {
    if (desk->settings.directory != entry.journalled_at) continue;
    if (desk->orders->open()) {
      await_ca(entry);
      give_fallback(entry);
    } else if (count(entry)) {
      submit(entry, desk, false);
    }
    return true;
  }
  entry.journalled = false;  // its CA is no longer configured
  return false;
}

/// True: somebody is asked, or the entry is gone.
bool Manager::State::ask_now(Entry& entry, const Choice& choice) {
  const bool rehearsal = choice.kind == Choice::Kind::rehearse;
  if (!rehearsal && choice.kind != Choice::Kind::order) return false;
  const DeskPtr desk = desks[choice.which];
  if (count(entry)) submit(entry, desk, rehearsal);
  return true;
}

void Manager::State::wait_for(Entry& entry, const Choice& choice) {
  const bool timed = choice.until != Wall::max();
  if (choice.kind == Choice::Kind::wait && timed && choice.of_budget) {
    await_budget(entry, choice.until);
    return give_fallback(entry);
  }
  entry.turn = 0;
  if (choice.kind == Choice::Kind::await || !timed) {
    await_ca(entry);
    const Wall probed = entry.past.setback.next_attempt;
    if (timed) attempt_at(entry, choice.until);
    entry.past.setback.next_attempt = std::min(probed, entry.past.setback.next_attempt);
  } else {
    base::log::warn("{}: no CA may be asked for it before, next attempt {}", entry.name,
                    spoken_time(choice.until, clock.wall()));
    attempt_at(entry, choice.until);
  }
  give_fallback(entry);
}

// --- ordering

void Manager::State::submit(Entry& entry, const DeskPtr& desk, bool rehearsal) {
  agenda.cancel(entry.retry);
  awaiting_ca.erase(entry.name);
  leave_budget(entry.name);
  entry.awaits_ca = false;
  entry.turn = 0;
  const DeskPtr& asked = rehearsal ? desk->staging : desk;
  entry.ordering = asked;
  entry.rehearsing = rehearsal;
  entry.slow = false;
  if (!rehearsal) note_order(entry);
  entry.tried.insert(desk->settings.name);
  Order order;
  order.wanted.id = entry.order_id();
  order.wanted.names = {entry.name};
  order.wanted.another = entry.certificate != nullptr && !entry.journalled;
  order.wanted.first_challenge = entry.past.challenge;
  if (!rehearsal) order.wanted.verdicts_max = validations_left(entry.past.setback, clock.wall());
  if (!rehearsal) order.wanted.replaces = replaced_by(entry, *desk);
  order.urgency = urgency_of(entry);
  order.done = [weak = weak_from_this(), name = entry.name, desk,
                rehearsal](Outcome<Issued> outcome) {
    if (const auto self = weak.lock()) self->ordered(name, desk, rehearsal, std::move(outcome));
  };
  const std::string name = entry.name;
  entry.budgeted = !rehearsal && !entry.journalled && order.wanted.replaces.empty();
  if (entry.budgeted) {
    desk->budget.ordered(order.wanted.names, clock.wall());
    desk->budget_changed = true;
    note_change();
  }
  if (asked->orders->submit(std::move(order))) return;
  Entry* still = find(name);
  if (still == nullptr) return;
  still->ordering.reset();
  still->rehearsing = false;
  if (std::exchange(still->budgeted, false)) desk->budget.not_ordered({name});
  attempt_at(*still, clock.wall() + full_queue_retry);
  give_fallback(*still);
}

void Manager::State::ordered(const std::string& name, const DeskPtr& desk, bool rehearsal,
                             Outcome<Issued> outcome) {
  count_orders(rehearsal ? *desk->staging : *desk);
  Entry* entry = find(name);
  if (entry == nullptr) return;
  entry->ordering.reset();
  entry->rehearsing = false;
  if (!rehearsal) count_placed(*entry, *desk, outcome ? outcome->orders : outcome.error().orders);
  if (outcome || !outcome.error().sentence.empty()) renewal_over(name);
  if (!outcome && entry->budgeted) {
    const Failure& failure = outcome.error();
    const bool asked = failure.orders > 0 || (!failure.local && !failure.sentence.empty());
    asked ? desk->budget.not_issued({name}) : desk->budget.not_ordered({name});
  }
  entry->budgeted = false;
  const bool other_mode = (entry->claim == Claim::internal) != (desk == internal_desk);
  if (entry->claim == Claim::none || other_mode) {
    const bool kept = outcome && !rehearsal;
    return unclaimed(*entry, desk, kept ? outcome->certificate : nullptr);
  }
  if (!outcome)
    failed(*entry, desk, rehearsal, outcome.error());
  else if (rehearsal)
    rehearsal_passed(*entry, desk);
  else
    obtained(*entry, desk, std::move(*outcome));
}

/// Its site was removed while it was ordered, or has another mode now: what came of the order is
/// kept for a return.
void Manager::State::unclaimed(Entry& entry, const DeskPtr& desk, tls::CertificatePtr issued) {
  const std::string name = entry.name;
  if (issued) {
    CertificateNote note;
    note.name = name;
    note.authority = desk->settings.name;
    asio::co_spawn(control,
                   write(shared_from_this(), name, std::move(issued), std::move(note), desk,
                         desk == internal_desk),
                   asio::detached);
  }
  if (entry.claim == Claim::none) {
    give_fallback(entry);
    return erase(name);
  }
  entry.journalled = false;
  begin_load(entry);
}

/// What the CA counts of one attempt's orders beyond what was taken when it began: those after a
/// challenge that failed, and the one without the predecessor that it was to replace.
void Manager::State::count_placed(Entry& entry, Desk& desk, unsigned orders) {
  if (orders == 0) return;
  if (!std::exchange(entry.budgeted, true)) desk.budget.ordered({entry.name}, clock.wall());
  for (unsigned further = 1; further < orders; ++further) desk.budget.ordered_again(clock.wall());
  desk.budget_changed = true;
}

void Manager::State::obtained(Entry& entry, const DeskPtr& desk, Issued issued) {
  const bool renewed = entry.certificate != nullptr;
  metrics.add(renewed ? base::Metric::certificates_renewed : base::Metric::certificates_issued);
  const bool recovered = entry.past.setback.told != Wall{};
  note_failed_validations(entry.past.setback, issued.verdicts, clock.wall());
  desk->budget.validation_failed(entry.name, clock.wall(), issued.verdicts);
  desk->budget_changed = desk->budget_changed || issued.verdicts > 0;
  end_episode(entry.past.setback, clock.wall());
  if (renewed && advised(entry).value_or(Wall::max()) <= clock.wall())
    entry.past.heeded = clock.wall();
  entry.past.advice = {};
  if (!issued.challenge.empty()) {
    const auto& challenges = snapshot->acme.challenges;
    const bool usual = !challenges.empty() && challenges.front() == issued.challenge;
    entry.past.challenge = usual ? std::string() : issued.challenge;
  }
  entry.journalled = entry.slow = entry.by_person = false;
  entry.tried.clear();
  agenda.cancel(entry.retry);
  // A clock far ahead makes even a new certificate look old.
  entry.renewed_at = clock.wall();
  // A revoked one is nothing to return to.
  const auto before = is_revoked(entry) ? nullptr : entry.certificate;
  const Swap swap{entry.name, issued.certificate, before, entry.authority, desk};
  adopt(entry, std::move(issued.certificate), desk->settings.name);
  remember(entry);
  const std::string said = fmt::format(
      "{}: certificate {} from {}, valid until {}, to be renewed {}", entry.name,
      renewed ? "renewed" : "obtained", desk->settings.name,
      timestamp(entry.certificate->not_after()), spoken_time(entry.renew_at, clock.wall()));
  base::log::info("{}", said);
  tell(entry, renewed ? Event::Kind::renewed : Event::Kind::obtained, said, desk->settings.name);
  if (recovered)
    tell(entry, Event::Kind::recovered,
         fmt::format("{}: it has a valid certificate again, from {}", entry.name,
                     desk->settings.name),
         desk->settings.name);
  // Served before it is stored: the journal holds all that a restart needs to fetch it again.
  const std::string name = entry.name;
  give_certificate(entry);
  if (Entry* still = find(name)) save(*still, desk);
  check_served(swap);
}

}  // namespace gatehouse::acme
