// The desks: one for each CA of the configuration and one for its staging directory, each with its
// own orders, breaker and budget; and the queue of those for whom no budget has an order left.
#include "acme/manager_state.hpp"
#include "base/log.hpp"

namespace gatehouse::acme {

using Wall = base::WallClock::time_point;

namespace {

bool same(const config::Acme& a, const config::Acme& b) {
  return a.email == b.email && a.challenges == b.challenges && a.key_type == b.key_type &&
         a.preferred_chain == b.preferred_chain && a.caa == b.caa && a.resolvers == b.resolvers;
}

/// Of what decides whether a CA would refuse again what it has refused.
uint64_t mark_of(const config::CertificateAuthority& settings, const config::Acme& acme) {
  std::string text = fmt::format("{}\n{}\n{}\n{}\n{}\n{}\n{}", settings.directory, settings.trust,
                                 settings.profile, settings.eab_kid, settings.eab_hmac_key,
                                 acme.email, static_cast<int>(acme.key_type));
  for (const auto& challenge : acme.challenges) text += "\n" + challenge;
  if (settings.profile_required) text += "\nprofile required";
  return mark(text);
}

/// The staging directory as a CA of its own: another account, no budget of production's.
config::CertificateAuthority staging_of(const config::CertificateAuthority& settings) {
  config::CertificateAuthority staging = settings;
  staging.name += "-staging";
  staging.directory = settings.staging;
  staging.staging.clear();
  if (!staging.staging_eab_kid.empty()) {
    staging.eab_kid = std::move(staging.staging_eab_kid);
    staging.eab_hmac_key = std::move(staging.staging_eab_hmac_key);
  }
  return staging;
}

}  // namespace

DeskPtr Manager::State::make_desk(Authority authority, const config::CertificateAuthority& settings,
                                  const config::Acme& acme) {
  auto desk = std::make_shared<Desk>();
  desk->settings = settings;
  desk->acme = acme;
  desk->settings_mark = mark_of(settings, acme);
  desk->budget = AuthorityBudget(counts_like_letsencrypt(settings.directory));
  Orders::Events events;
  const auto weak = weak_from_this();
  const std::weak_ptr<Desk> weak_desk = desk;
  events.opened = [weak, weak_desk] {
    const auto self = weak.lock();
    const auto opened = weak_desk.lock();
    if (self && opened) self->ca_opened(opened->orders.get());
  };
  events.available = [weak] {
    if (const auto self = weak.lock()) self->ca_available();
  };
  events.wanted = [weak] {
    const auto self = weak.lock();
    return self && self->ca_wanted();
  };
  desk->orders =
      std::make_shared<Orders>(control, agenda, clock, std::move(authority), std::move(events));
  return desk;
}

DeskPtr Manager::State::desk_for(const config::CertificateAuthority& settings,
                                 const config::SnapshotPtr& next) {
  Authority authority = make_authority
                            ? make_authority(settings, next)
                            : acme_authority(fetcher, storage, solvers, clock, settings, next);
  auto desk = make_desk(std::move(authority), settings, next->acme);
  if (!settings.staging.empty()) desk->staging = desk_for(staging_of(settings), next);
  return desk;
}

/// Desks whose settings did not change keep their breaker and their orders; the others' orders end
/// in their own time.
void Manager::State::set_desks(const config::SnapshotPtr& next) {
  if (!internal_desk) {
    config::CertificateAuthority settings;
    settings.name = internal_authority_name;
    internal_desk = make_desk(internal_authority(storage, clock), settings, next->acme);
  }
  auto before = std::exchange(desks, {});
  for (const auto& settings : next->acme.authorities) {
    if (settings.directory.empty()) continue;  // the internal one
    const auto kept = std::find_if(before.begin(), before.end(), [&](const DeskPtr& desk) {
      return desk && desk->settings == settings && same(desk->acme, next->acme);
    });
    if (kept != before.end()) {
      desks.push_back(std::move(*kept));
      continue;
    }
    desks.push_back(desk_for(settings, next));
    for (const auto& desk : before)
      if (desk && desk->settings.name == settings.name &&
          desk->settings.directory == settings.directory)
        desks.back()->budget = desk->budget;
  }
  for (auto& desk : before) {
    if (!desk) continue;
    if (desk->staging) retired.push_back(desk->staging);
    retired.push_back(std::move(desk));
  }
  dismiss_retired();
}

/// Those that nobody waits for any more: a CA that is not configured is not probed either.
void Manager::State::dismiss_retired() {
  std::unordered_set<DeskPtr> dismissed;
  for (const auto& desk : retired)
    if (desk->orders->running() == 0 && desk->orders->waiting() == 0) dismissed.insert(desk);
  if (dismissed.empty()) return;
  for (const auto& desk : dismissed) desk->orders->detach();
  const auto gone = [&](const DeskPtr& desk) { return dismissed.contains(desk); };
  std::erase_if(retired, gone);
  for (const auto& [name, entry] : entries) std::erase_if(entry->left_at, gone);
}

/// The CAs are others now: one that was down, or had no order left, need not be waited for.
void Manager::State::ask_others() {
  for (auto& [name, until] : awaiting_budget) until = std::min(until, clock.wall());
  serve_budget();
  ca_available();
}

DeskPtr Manager::State::desk_of(const std::string& authority) const {
  for (const auto& desk : desks)
    if (desk->settings.name == authority) return desk;
  return nullptr;
}

std::vector<Candidate> Manager::State::candidates(const Entry& entry) const {
  std::vector<Candidate> list;
  const auto now = clock.wall();
  for (const auto& desk : desks) {
    Candidate candidate;
    candidate.name = desk->settings.name;
    candidate.settings = desk->settings_mark;
    candidate.open = desk->orders->open();
    candidate.staging = desk->staging && !desk->staging->orders->open();
    candidate.tried = entry.tried.contains(candidate.name);
    AuthorityBudget::Order order;
    order.replaces = !replaced_by(entry, *desk).empty();
    order.by_person = entry.by_person;
    // An order that exists already costs nothing more. One that is left now is left at any time:
    // whoever chooses may have looked at the clock before.
    const auto ready = desk->budget.ready_at({entry.name}, now, order);
    if (!entry.journalled && ready > now) candidate.budget = ready;
    list.push_back(std::move(candidate));
  }
  return list;
}

/// What the authority has done at the CA since this was last called.
void Manager::State::count_orders(Desk& desk) {
  const Authority& authority = desk.orders->authority();
  const uint64_t placed = authority.orders_placed();
  if (placed > desk.orders_counted)
    metrics.add(base::Metric::certificate_orders,
                static_cast<int64_t>(placed - desk.orders_counted));
  desk.orders_counted = placed;
  const uint64_t made = authority.accounts_made ? authority.accounts_made() : 0;
  for (; desk.accounts_counted < made; ++desk.accounts_counted) {
    desk.budget.account_made(clock.wall());
    desk.budget_changed = true;
  }
}

std::vector<BudgetStatus> Manager::State::budget() const {
  std::vector<BudgetStatus> list;
  for (const auto& desk : desks) {
    BudgetStatus status;
    status.authority = desk->settings.name;
    status.open = desk->orders->open();
    if (status.open)
      status.next_try = clock.wall() + std::chrono::duration_cast<base::WallClock::duration>(
                                           desk->orders->next_try() - clock.monotonic());
    status.running = desk->orders->running();
    status.waiting = desk->orders->waiting();
    status.buckets = desk->budget.report(clock.wall());
    list.push_back(std::move(status));
  }
  return list;
}

// --- the queue for a budget that is used up

void Manager::State::await_budget(Entry& entry, Wall until) {
  if (entry.turn == 0) {
    entry.turn = ++last_turn;
    base::log::warn("{}: the CA's limits leave no order for it before, it is ordered {}",
                    entry.name, spoken_time(until, clock.wall()));
  }
  agenda.cancel(entry.retry);
  renewal_over(entry.name);
  entry.past.setback.next_attempt = until;
  if (awaiting_budget.insert_or_assign(entry.name, until).second)
    metrics.add(base::Metric::certificate_orders_delayed);
  if (until < budget_due) wake_for_budget(until);
}

void Manager::State::leave_budget(const std::string& name) {
  if (awaiting_budget.erase(name) > 0) metrics.add(base::Metric::certificate_orders_delayed, -1);
}

void Manager::State::wake_for_budget(Wall when) {
  budget_due = when;
  agenda.cancel(budget_timer);
  if (when == Wall::max()) return;
  const auto wait = std::max<Wall::duration>(when - clock.wall(), Wall::duration::zero());
  budget_timer = agenda.after(wait, [this] {
    budget_timer = 0;
    serve_budget();
  });
}

/// Those whose time has come, the urgent ones first; who comes too late again waits on.
void Manager::State::serve_budget() {
  std::vector<std::tuple<Urgency, uint64_t, std::string>> line;
  const Wall now = clock.wall();
  for (const auto& [name, until] : awaiting_budget) {
    const Entry* entry = find(name);
    if (entry != nullptr && until <= now) line.emplace_back(urgency_of(*entry), entry->turn, name);
  }
  std::sort(line.begin(), line.end());
  for (const auto& [urgency, turn, name] : line) leave_budget(name);
  budget_due = Wall::max();
  for (const auto& [urgency, turn, name] : line)
    if (find(name) != nullptr) retry_now(name);
  Wall earliest = Wall::max();
  for (const auto& [name, until] : awaiting_budget) earliest = std::min(earliest, until);
  wake_for_budget(earliest);
}

Urgency Manager::State::urgency_of(const Entry& entry) const {
  if (entry.certificate && expiry_stage(lifetime_of(*entry.certificate), clock.wall()) > 0)
    return Urgency::expiring;
  const bool wished = entry.wished != base::Monotonic::time_point{} &&
                      clock.monotonic() - entry.wished < wished_lately;
  if (!entry.waiters.empty() || wished) return Urgency::visited;
  return entry.certificate ? Urgency::due : Urgency::fresh;
}

}  // namespace gatehouse::acme
