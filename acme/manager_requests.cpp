// What a person asks the manager for: to show, renew and revoke, and what the limits leave.
#include <algorithm>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "acme/certificate_details.hpp"
#include "acme/manager_state.hpp"
#include "acme/times.hpp"
#include "base/log.hpp"

namespace gatehouse::acme {

namespace asio = boost::asio;
using base::Error;
using base::ErrorKind;
using base::Result;
using Wall = base::WallClock::time_point;

namespace {

constexpr int key_compromise = 1;  // RFC 5280 section 5.3.1
constexpr std::chrono::hours orders_told{24};
constexpr size_t orders_told_max = 1000;

std::string revoked_path(const std::string& id) {
  return "revoked/" + id;
}

Error error_of(const Failure& failure) {
  const bool stored = failure.kind == FailureClass::storage;
  return Error(stored ? ErrorKind::io : ErrorKind::protocol, failure.sentence);
}

Error unknown(const std::string& name) {
  return Error(ErrorKind::not_found, fmt::format("there is no certificate for {}", name));
}

}  // namespace

// --- show

/// The name of the certificate that serves `name`, if there is one or one is wanted; it need not be
/// in memory.
std::string Manager::State::subject_of(const std::string& name) const {
  if (entries.contains(name)) return name;
  const auto found = claims.find(name);
  const bool there = entries.contains(found.subject) || vault.holds(certificate_id(found.subject));
  if (found.claim != Claim::none && there) return found.subject;
  return vault.holds(certificate_id(name)) ? name : std::string();
}

asio::awaitable<Result<CertificateDetails>> Manager::State::show(std::shared_ptr<State> self,
                                                                 std::string name) {
  const std::string subject = self->subject_of(name);
  if (subject.empty()) co_return unknown(name);
  const std::string id = certificate_id(subject);
  CertificateDetails details;
  Entry* entry = self->find(subject);
  const bool internal = entry != nullptr && entry->claim == Claim::internal;
  const auto found = self->claims.find(subject);
  const bool claimed = found.subject == subject;
  const bool archived = self->vault.ledger().place(id) == Ledger::Place::archive;
  const std::string place = (internal ? "internal/leaves/" : archived ? "archive/" : "certs/") + id;
  auto places = co_await self->storage.list(place);
  if (places) details.previous_generation = previous_generation(std::move(*places));
  Result<StoredCertificate> stored = Error(ErrorKind::not_found, "");
  entry = self->find(subject);
  if (entry == nullptr || !entry->certificate) stored = co_await read_place(self->storage, place);
  entry = self->find(subject);
  Entry read;  // of one that is not in memory, for as long as it is shown
  if (entry == nullptr) {
    read.name = subject;
    read.id = id;
    read.claim = claimed ? found.claim : Claim::none;
    read.past = self->setbacks.recall(subject);
    if (stored) read.certificate = stored->certificate;
    if (stored) read.authority = stored->note.authority;
    const auto planned = self->vault.ledger().look(id);
    if (claimed && stored)
      read.renew_at = planned ? *planned
                              : renewal_due(lifetime_of(*read.certificate),
                                            self->snapshot->acme.renew_before, id);
  }
  const Entry& shown = entry == nullptr ? read : *entry;
  details.status = self->status_of(shown);
  if (entry == nullptr && details.status.state != "revoked")
    details.status.state = claimed ? "stored" : "archived";
  details.authority = shown.authority;
  details.failures = shown.past.setback.failures;
  if (shown.certificate && self->advised(shown)) {
    details.window = shown.past.advice.window;
    details.explanation = shown.past.advice.explanation;
  }
  details.orders_today = self->orders_today(shown);
  if (shown.certificate) {
    describe(details, *shown.certificate);
  } else if (stored) {
    details.authority = stored->note.authority;
    describe(details, *stored->certificate);
    if (claimed)
      details.status.renew_at =
          renewal_due(lifetime_of(*stored->certificate), self->snapshot->acme.renew_before, id);
  }
  if (!internal) details.budgets = self->budgets_of(subject);
  co_return details;
}

std::vector<NameBudget> Manager::State::budgets_of(const std::string& name) const {
  std::vector<NameBudget> list;
  const Wall now = clock.wall();
  const auto found = entries.find(name);
  for (const auto& desk : desks) {
    NameBudget one;
    one.authority = desk->settings.name;
    one.answers = !desk->orders->open();
    one.left = desk->budget.left({name}, now);
    AuthorityBudget::Order order;
    order.replaces = found != entries.end() && !replaced_by(*found->second, *desk).empty();
    const Wall ready = desk->budget.ready_at({name}, now, order);
    if (ready > now) one.ready_at = ready;
    list.push_back(std::move(one));
  }
  return list;
}

void Manager::State::note_order(Entry& entry) {
  const Wall now = clock.wall();
  std::erase_if(entry.ordered_at, [now](Wall when) { return now - when >= orders_told; });
  if (entry.ordered_at.size() < orders_told_max) entry.ordered_at.push_back(now);
}

unsigned Manager::State::orders_today(const Entry& entry) const {
  const Wall now = clock.wall();
  return static_cast<unsigned>(
      std::count_if(entry.ordered_at.begin(), entry.ordered_at.end(),
                    [now](Wall when) { return now - when < orders_told; }));
}

// --- renew

/// Whether orders for `subject` are ours, and whose they are.
Result<Claim> Manager::State::may_take_up(const std::string& subject) const {
  const auto found = claims.find(subject);
  const bool claimed = found.subject == subject && found.claim != Claim::none;
  if (claimed && found.claim != Claim::own && found.claim != Claim::off) return found.claim;
  if (claimed)
    return Error(ErrorKind::unavailable,
                 fmt::format("{}: gatehouse orders nothing for this name: it has a certificate of "
                             "your own, or none",
                             subject));
  return Error(ErrorKind::unavailable,
               fmt::format("{}: no site has this name any more, and its certificate is only "
                           "kept in archive/: add the name to a site first",
                           subject));
}

/// The entry of a name, which is loaded if it is not in memory.
asio::awaitable<Result<Entry*>> Manager::State::take_up(std::shared_ptr<State> self,
                                                        std::string name) {
  const std::string subject = self->subject_of(name);
  if (subject.empty()) co_return unknown(name);
  auto claim = self->may_take_up(subject);
  if (!claim) co_return claim.error();
  Entry* entry = self->find(subject);
  if (entry == nullptr) {
    auto stored = co_await self->vault.load(certificate_id(subject), subject);
    if (!stored) co_return stored.error();
    if (self->stopped) co_return Error(ErrorKind::cancelled, "gatehouse is stopping");
    claim = self->may_take_up(subject);  // it may have been reloaded meanwhile
    if (!claim) co_return claim.error();
    entry = &self->entry_for(subject, *claim);
    if (!entry->certificate && !entry->loading && !entry->ordering) {
      entry->stored_checked = true;
      entry->wished = self->clock.monotonic();  // it stays in memory as if it were visited
      self->adopt(*entry, stored->certificate, stored->note.authority);
      entry = self->find(subject);
    }
  }
  if (entry == nullptr || entry->loading)
    co_return Error(ErrorKind::unavailable,
                    fmt::format("{}: its certificate is being read from storage: try again in a "
                                "moment",
                                subject));
  co_return entry;
}

asio::awaitable<Result<void>> Manager::State::renew_by_person(std::shared_ptr<State> self,
                                                              std::string name, bool force) {
  auto taken = co_await take_up(self, std::move(name));
  if (!taken) co_return taken.error();
  Entry& entry = **taken;
  if (entry.ordering) {
    entry.ordering->orders->raise(entry.order_id(), Urgency::expiring);
    co_return Result<void>();
  }
  const Wall now = self->clock.wall();
  if (!force && entry.certificate && entry.past.setback.failures == 0 && entry.renew_at > now)
    co_return Error(ErrorKind::unavailable,
                    fmt::format("{}: its certificate is valid until {} and is renewed at {}: ask "
                                "with --force to renew it now",
                                entry.name, timestamp(entry.certificate->not_after()),
                                timestamp(entry.renew_at)));
  auto started = self->order_by_person(entry);
  co_return started;
}

/// Orders now: without the waits after failures, with the order that is kept for a person.
Result<void> Manager::State::order_by_person(Entry& entry) {
  const std::string name = entry.name;
  awaiting_ca.erase(name);
  leave_budget(name);
  entry.awaits_ca = false;
  entry.asking = false;  // whatever is answered: a person has
  entry.turn = 0;
  entry.renewed_at = {};
  entry.permitted = entry.counted = true;
  absolve_entry(entry);
  entry.past.setback.next_attempt = {};
  base::log::info("{}: a certificate is ordered, asked for by a person", name);
  want(entry);
  const Entry* still = find(name);
  if (still == nullptr) return Error(ErrorKind::unavailable, name + ": it cannot be ordered now");
  const Wall next = still->past.setback.next_attempt;
  if (still->ordering || next == Wall{}) return {};
  return Error(ErrorKind::unavailable,
               fmt::format("{}: no CA takes an order for it now ({}), next attempt {}", name,
                           still->awaits_ca ? "none answers" : "its limits are used up",
                           spoken_time(next, clock.wall())));
}

// --- revoke

asio::awaitable<Result<void>> Manager::State::revoke(std::shared_ptr<State> self, std::string name,
                                                     int reason) {
  auto taken = co_await take_up(self, std::move(name));
  if (!taken) co_return taken.error();
  const std::string subject = (*taken)->name;
  const tls::CertificatePtr certificate = (*taken)->certificate;
  if (!certificate)
    co_return Error(ErrorKind::unavailable,
                    fmt::format("{}: there is no certificate yet to revoke", subject));
  if (self->is_revoked(**taken))
    co_return Error(ErrorKind::unavailable,
                    fmt::format("{}: its certificate is revoked already, and a new one is on its "
                                "way",
                                subject));
  auto desk = self->issuer_of(**taken);
  if (!desk) co_return desk.error();
  auto revoked = co_await (*desk)->orders->authority().revoke(certificate, reason);
  if (!revoked && revoked.error().type != "alreadyRevoked") co_return error_of(revoked.error());
  base::log::warn("{}: its certificate {} is revoked, asked for by a person", subject,
                  certificate->serial());
  auto replaced = co_await replace_revoked(self, subject, certificate, reason == key_compromise);
  co_return replaced;
}

/// A new one is ordered. Until it is there the revoked one is served, unless others may have its
/// key.
asio::awaitable<Result<void>> Manager::State::replace_revoked(std::shared_ptr<State> self,
                                                              std::string name,
                                                              tls::CertificatePtr certificate,
                                                              bool compromised) {
  const std::string id = certificate_id(name);
  const std::string serial = certificate->serial();
  self->revoked[id] = serial;
  Entry* entry = self->find(name);
  if (compromised && entry != nullptr && entry->certificate == certificate) self->drop(*entry);
  // A restart must not take it for a good one.
  auto marked = co_await self->storage.store(revoked_path(id), serial);
  Result<void> away;
  if (compromised) away = co_await self->vault.put_away(id, serial);
  for (const auto* outcome : {&marked, &away})
    if (!*outcome)
      base::log::error("{}: revoked, but it may be served again after a restart: {}", name,
                       outcome->error().context);
  entry = self->find(name);
  if (self->stopped) co_return Result<void>();
  // It left memory meanwhile: being due brings it back.
  if (entry == nullptr && self->vault.holds(id)) self->plan_look(name, self->clock.wall());
  if (entry == nullptr || entry->ordering) co_return Result<void>();
  if (entry->certificate == certificate) self->plan_renewal(*entry);
  auto ordered = self->order_by_person(*entry);
  if (!ordered) base::log::warn("{}", ordered.error().context);
  co_return Result<void>();
}

/// No longer served, nor renewed.
void Manager::State::drop(Entry& entry) {
  if (hooks.withdraw) hooks.withdraw(entry.name);
  forget_look(entry.name);
  agenda.cancel(entry.reminder);
  agenda.cancel(entry.save_retry);
  agenda.cancel(entry.advice_look);
  entry.unsaved = false;
  if (entry.on_demand()) ++awaited_on_demand;
  unlist(entry);
  entry.certificate.reset();
}

Result<DeskPtr> Manager::State::issuer_of(const Entry& entry) const {
  if (entry.claim == Claim::internal)
    return Error(ErrorKind::unavailable,
                 fmt::format("{}: it is of gatehouse's own authority, which publishes no "
                             "revocations: replace it with 'renew --force'",
                             entry.name));
  const DeskPtr desk = desk_of(entry.authority);
  if (desk && desk->orders->authority().revoke) return desk;
  return Error(ErrorKind::unavailable,
               fmt::format("{}: its CA, {}, is no longer configured: add it to acme.ca to revoke "
                           "what it issued",
                           entry.name, entry.authority));
}

bool Manager::State::is_revoked(const Entry& entry) const {
  const auto found = revoked.find(entry.id);
  return found != revoked.end() && entry.certificate &&
         entry.certificate->serial() == found->second;
}

/// After a new certificate is stored: the mark has done its work.
void Manager::State::forget_revoked(const Entry& entry) {
  if (!revoked.contains(entry.id) || is_revoked(entry)) return;
  revoked.erase(entry.id);
  asio::co_spawn(control, unmark(shared_from_this(), entry.id), asio::detached);
}

asio::awaitable<void> Manager::State::unmark(std::shared_ptr<State> self, std::string id) {
  auto removed = co_await self->storage.move(revoked_path(id), "");
  if (!removed) base::log::warn("{}", removed.error().context);
}

asio::awaitable<void> Manager::State::read_revoked() {
  auto ids = co_await storage.list("revoked");
  if (!ids) co_return;
  for (const auto& id : *ids) {
    auto serial = co_await storage.load(revoked_path(id));
    if (!serial) continue;
    revoked[id] = *serial;
    // Loading it finds it revoked.
    const std::string name = vault.ledger().name(id);
    if (!name.empty()) vault.ledger().look_at(name, clock.wall());
  }
}

// --- accounts, and names that are not ours

asio::awaitable<Result<void>> Manager::State::roll_over(std::shared_ptr<State> self,
                                                        std::string authority) {
  for (const auto& desk : self->desks) {
    if (desk->settings.name != authority || !desk->orders->authority().roll_over_account_key)
      continue;
    const DeskPtr kept = desk;
    // Their orders sign with the same key, and do not know of each other.
    const bool busy =
        std::any_of(self->retired.begin(), self->retired.end(), [&](const DeskPtr& one) {
          return one->settings.name == authority &&
                 one->settings.directory == kept->settings.directory && one->orders->running() > 0;
        });
    if (busy)
      co_return Error(ErrorKind::unavailable,
                      fmt::format("{}: orders from before the last reload are at work with the "
                                  "account's key, so it was not changed; try again in some minutes",
                                  authority));
    auto changed = co_await kept->orders->authority().roll_over_account_key();
    if (!changed) co_return error_of(changed.error());
    base::log::info("{}: the account has a new key, asked for by a person", authority);
    co_return Result<void>();
  }
  std::string known;
  for (const auto& desk : self->desks) known += (known.empty() ? "" : ", ") + desk->settings.name;
  co_return Error(ErrorKind::not_found,
                  fmt::format("{} is none of the configured CAs with an account ({})", authority,
                              known.empty() ? "there is none" : known));
}

void Manager::State::leave_to_owner(std::unordered_set<std::string> names) {
  own_names = std::move(names);
  if (!snapshot || stopped) return;
  claims = Claims(*snapshot, own_names);
  review_entries();
  start_standing(false);
}

asio::awaitable<Result<CertificateDetails>> Manager::show(std::string name) {
  return State::show(state_, std::move(name));
}

asio::awaitable<Result<void>> Manager::renew(std::string name, bool force) {
  return State::renew_by_person(state_, std::move(name), force);
}

asio::awaitable<Result<void>> Manager::revoke(std::string name, int reason) {
  return State::revoke(state_, std::move(name), reason);
}

asio::awaitable<Result<void>> Manager::roll_over(std::string authority) {
  return State::roll_over(state_, std::move(authority));
}

void Manager::leave_to_owner(std::unordered_set<std::string> names) {
  state_->leave_to_owner(std::move(names));
}

}  // namespace gatehouse::acme
