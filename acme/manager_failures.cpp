// What a failure leads to: another CA, a rehearsal, a wait, or a person.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "acme/manager_state.hpp"
#include "acme/times.hpp"
#include "base/log.hpp"

namespace gatehouse::acme {

namespace asio = boost::asio;
using Wall = base::WallClock::time_point;

namespace {

constexpr std::chrono::seconds no_ca_retry{60};
constexpr std::chrono::minutes round_retry{15};

}  // namespace

// --- ends of orders

/// The CA could validate the name: production will, too.
void Manager::State::rehearsal_passed(Entry& entry, const DeskPtr& desk) {
  base::log::info("{}: {} could validate it, so {} is asked again", entry.name,
                  desk->staging->settings.name, desk->settings.name);
  asio::co_spawn(control, forget(shared_from_this(), desk->staging, rehearsal_prefix + entry.id),
                 asio::detached);
  rehearsed(entry.past.setback, desk->settings.name);
  remember(entry);
  want(entry);
}

void Manager::State::failed(Entry& entry, const DeskPtr& desk, bool rehearsal, Failure failure) {
  if (failure.sentence.empty()) {
    // It was not asked, and stays one of those that can be waited for.
    if (!rehearsal) entry.tried.erase(desk->settings.name);
    return not_heard(entry);
  }
  const Wall now = clock.wall();
  entry.refused_at = clock.monotonic();
  entry.journalled = false;
  metrics.add(base::Metric::certificate_failures);
  const bool production = !rehearsal && desk != internal_desk;
  if (production && !failure.local) limited(entry, *desk, failure);
  if (production &&
      std::find(entry.left_at.begin(), entry.left_at.end(), desk) == entry.left_at.end())
    entry.left_at.push_back(desk);
  Circumstances circumstances;
  circumstances.authority = desk->settings.name;
  circumstances.settings = desk->settings_mark;
  circumstances.rehearsal = rehearsal;
  circumstances.open = desk->orders->open();
  circumstances.wanted = urgency_of(entry) == Urgency::visited;
  circumstances.id = entry.id;
  if (entry.certificate) circumstances.certificate = lifetime_of(*entry.certificate);
  const Verdict verdict = judge(entry.past.setback, failure, circumstances, now);
  remember(entry);
  Choice choice;
  if (verdict.another && desk != internal_desk && !stopped)
    choice = choose(candidates(entry), entry.past.setback, now);
  const bool next = choice.kind == Choice::Kind::order || choice.kind == Choice::Kind::rehearse;
  if (!next) return put_off(entry, desk, verdict, choice);
  base::log::warn("{}; {} is asked now", failure.sentence, desks[choice.which]->settings.name);
  ask_now(entry, choice);
}

/// The breaker opened before it was this one's turn: another CA, or with it when it closes.
void Manager::State::not_heard(Entry& entry) {
  if (stopped) return give_fallback(entry);
  if (entry.claim == Claim::internal) {
    await_ca(entry);
    return give_fallback(entry);
  }
  const Choice choice = choose(candidates(entry), entry.past.setback, clock.wall());
  if (!ask_now(entry, choice)) wait_for(entry, choice);
}

/// What the budget learns of it.
void Manager::State::limited(Entry& entry, Desk& desk, const Failure& failure) {
  const unsigned failed = failed_validations(failure);
  desk.budget.validation_failed(entry.name, clock.wall(), failed);
  const bool told = failure.kind == FailureClass::rate_limit && failure.retry_at;
  const bool others = told && desk.budget.limited({entry.name}, failure.words, *failure.retry_at);
  desk.budget_changed = desk.budget_changed || failed > 0 || told;
  if (others) desk.orders->fail_waiting();
}

/// Nobody is asked now: the next attempt in its own time, or when a CA answers again.
void Manager::State::put_off(Entry& entry, const DeskPtr& desk, const Verdict& verdict,
                             const Choice& choice) {
  const Setback& setback = entry.past.setback;
  const Wall now = clock.wall();
  const bool last = entry.certificate && expiry_stage(lifetime_of(*entry.certificate), now) > 0;
  Wall next = choice.until;
  if (!verdict.when_open && choice.kind != Choice::Kind::blocked)
    next = std::min(verdict.next, choice.until);
  // Others were asked before it in this round, and are not down: they have their own time.
  const bool others = std::any_of(desks.begin(), desks.end(), [&](const DeskPtr& one) {
    return one != desk && entry.tried.contains(one->settings.name) && !one->orders->open();
  });
  if (verdict.when_open && others) {
    auto wait = std::chrono::milliseconds(round_retry);
    if (entry.certificate) wait = shortened(wait, lifetime_of(*entry.certificate), now);
    next = std::min<Wall>(next, now + wait);
  }
  Wall soonest = next;
  if (verdict.when_open || choice.kind == Choice::Kind::await) {
    await_ca(entry);
    soonest = std::min(soonest, setback.next_attempt);
  }
  if (next != Wall::max()) attempt_at(entry, next);
  entry.past.setback.next_attempt = soonest;
  const std::string when = verdict.when_open
                               ? fmt::format("when {} answers again", desk->settings.name)
                               : spoken_time(soonest, now);
  if (last)
    base::log::error("{}; next attempt {}; its certificate ends {}", setback.sentence, when,
                     spoken_time(entry.certificate->not_after(), now));
  else if (!verdict.when_open || setback.failures == 1)
    // That the CA is still down is said for all names together.
    base::log::warn("{}; next attempt {}", setback.sentence, when);
  tell_failure(entry, desk->settings.name);
  remember(entry);
  give_fallback(entry);
}

/// The first failure of an episode, and then one a day.
void Manager::State::tell_failure(Entry& entry, const std::string& authority) {
  Setback& setback = entry.past.setback;
  const Wall now = clock.wall();
  const bool told = setback.told != Wall{} && now >= setback.told;
  if (told && now - setback.told < told_again_after) return;
  setback.told = now;
  const bool blocked = needs_person(setback) &&
                       choose(candidates(entry), setback, now).kind == Choice::Kind::blocked;
  tell(entry, blocked ? Event::Kind::blocked : Event::Kind::failed, setback.sentence, authority,
       setback.next_attempt);
}

/// A person wants it now: the schedule and refusals are forgotten, what CAs said about their limits
/// is not. The caller orders.
void Manager::State::absolve_entry(Entry& entry) {
  absolve(entry.past.setback);
  entry.resumed = false;
  entry.by_person = true;
  agenda.cancel(entry.retry);
  remember(entry);
}

// --- waiting

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
    return attempt_at(entry, clock.wall() + no_ca_retry);
  entry.past.setback.next_attempt = clock.wall() + (soonest - clock.monotonic());
}

void Manager::State::attempt_at(Entry& entry, Wall when) {
  entry.past.setback.next_attempt = when;
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
  // The first one may be asked alone: one that the CA refuses each time does not stand before the
  // others for ever.
  std::vector<std::pair<base::Monotonic::time_point, std::string>> line;
  for (const auto& name : std::exchange(awaiting_ca, {}))
    if (const Entry* entry = find(name)) line.emplace_back(entry->refused_at, name);
  std::sort(line.begin(), line.end());
  for (const auto& [refused_at, name] : line) {
    Entry* entry = find(name);
    if (entry == nullptr) continue;
    entry->awaits_ca = false;
    agenda.cancel(entry->retry);
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
