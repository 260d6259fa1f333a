// The life of one certificate once it is there: served, stored, renewed, mourned.
#include <array>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "acme/manager_state.hpp"
#include "acme/times.hpp"
#include "base/log.hpp"

namespace gatehouse::acme {

namespace asio = boost::asio;
using base::Result;
using namespace std::chrono_literals;
using Wall = base::WallClock::time_point;

namespace {

constexpr std::chrono::minutes unanswered_retry{15};
constexpr std::chrono::hours unwanted_recheck{24};
constexpr std::chrono::hours clock_trusted{1};
constexpr std::chrono::minutes clock_recheck{10};
constexpr std::chrono::seconds skew_warned{60};
constexpr std::chrono::hours skew_max{1};
constexpr std::chrono::hours reminder_interval{24};
constexpr std::array<unsigned, stages_max> stage_percent = {100, 25, 10, 5};

}  // namespace

void Manager::State::adopt(Entry& entry, tls::CertificatePtr certificate, std::string authority) {
  if (entry.on_demand() && !entry.certificate) --awaited_on_demand;
  entry.certificate = std::move(certificate);
  entry.authority = std::move(authority);
  list_loaded(entry);
  if (hooks.serve) hooks.serve(entry.name, entry.certificate);
  plan_renewal(entry);
  plan_advice(entry);
  plan_notice(entry);
  make_room();
}

void Manager::State::plan_renewal(Entry& entry) {
  const auto life = lifetime_of(*entry.certificate);
  std::optional<Suggestion> suggested;
  if (const auto instant = advised(entry)) suggested = Suggestion{*instant, entry.past.heeded};
  entry.renew_at = renewal_due(life, snapshot->acme.renew_before, entry.id, suggested);
  // A clock far ahead makes even a new certificate look old.
  if (entry.renewed_at != Wall{} && !suggested)
    entry.renew_at = std::max(entry.renewed_at + life.length() / 10, entry.renew_at);
  if (is_revoked(entry)) entry.renew_at = std::min(entry.renew_at, clock.wall());
  if (entry.on_demand()) visits.first(entry.name, clock.wall());
  if (entry.claim != Claim::internal) {
    if (entry.renew_at > clock.wall() || !renewing.contains(entry.name))
      return plan_look(entry.name, entry.renew_at);
    // It was loaded for that, and has its place among those that renew now.
    agenda.after({}, [this, name = entry.name] {
      if (!renewal_due_now(name)) renewal_over(name);
    });
    return;
  }
  auto& planned = renewals[entry.name];
  agenda.cancel(planned);
  planned = agenda.at_wall(entry.renew_at, [this, name = entry.name] { renewal_due_now(name); });
}

/// False: there is nothing to renew now, and nothing was begun.
bool Manager::State::renewal_due_now(const std::string& name) {
  renewals.erase(name);
  if (stopped) return false;
  Entry* entry = find(name);
  const bool internal = entry != nullptr && entry->claim == Claim::internal;
  if (!internal && !desks.empty()) {
    due_after_check.insert(name);
    if (!clock_known()) return true;
    due_after_check.erase(name);
    if (clock_suspect) {
      due_after_check.insert(name);
      if (clock_retry == 0)
        clock_retry = agenda.at(clock_checked_until, [this] {
          clock_retry = 0;
          look_after_check();
        });
      return true;
    }
  }
  if (entry == nullptr) return renewal_unloaded(name);
  // The clock was set back, or a check came in between.
  if (entry->certificate && entry->renew_at > clock.wall()) {
    plan_renewal(*entry);
    return false;
  }
  if (entry->loading) return true;
  const bool waits =
      entry->retry != 0 || entry->awaits_ca || entry->asking || awaiting_budget.contains(name);
  if (entry->ordering || waits) return false;
  // Even without a certificate: what ended long ago gave way to the fallback before its turn came.
  renew(*entry);
  return true;
}

/// Loading it finds it due again.
bool Manager::State::renewal_unloaded(const std::string& name) {
  const auto found = claims.find(name);
  const bool wanted = found.claim == Claim::automatic ||
                      (found.claim == Claim::on_demand && visits.recent(name, clock.wall()));
  if (found.subject != name || !wanted || !vault.holds(certificate_id(name))) return false;
  Entry& entry = entry_for(name, found.claim);
  entry.passing = true;
  begin_load(entry);
  return true;
}

void Manager::State::look_after_check() {
  for (const auto& name : std::exchange(due_after_check, {}))
    if (!renewal_due_now(name)) renewal_over(name);
}

void Manager::State::renew(Entry& entry) {
  if (!entry.on_demand()) return want(entry);
  if (!visits.recent(entry.name, clock.wall())) {
    return plan_look(entry.name, clock.wall() + unwanted_recheck);
  }
  permission.request(entry.name, {}, [weak = weak_from_this(), name = entry.name](Answer answer) {
    if (const auto self = weak.lock()) self->renew_permitted(name, answer);
  });
}

void Manager::State::renew_permitted(const std::string& name, Answer answer) {
  Entry* entry = find(name);
  if (entry == nullptr || stopped) return renewal_over(name);
  if (answer == Answer::allowed) {
    entry->permitted = entry->counted = true;
    return want(*entry);
  }
  if (answer == Answer::unknown) {
    std::chrono::milliseconds wait = unanswered_retry;
    if (entry->certificate) wait = shortened(wait, lifetime_of(*entry->certificate), clock.wall());
    return attempt_at(*entry, clock.wall() + wait);
  }
  base::log::info("{}: no longer permitted on demand, its certificate is not renewed", name);
  plan_look(name, clock.wall() + unwanted_recheck);
}

// --- the end in sight

/// Whether its end was told within the last day, by an earlier process maybe.
bool Manager::State::mourned_lately(const Entry& entry) const {
  const Wall now = clock.wall();
  const Wall last = entry.past.mourned;
  return last != Wall{} && last <= now && now - last < reminder_interval;
}

/// The next stage of its end that was not told yet, or the daily reminder past it.
void Manager::State::plan_notice(Entry& entry) {
  agenda.cancel(entry.reminder);
  const auto life = lifetime_of(*entry.certificate);
  const uint64_t certificate = mark(entry.certificate->serial());
  if (entry.past.warned_of != certificate) {
    entry.past.warned = 0;
    entry.past.mourned = {};
  }
  entry.past.warned_of = certificate;
  const Wall now = clock.wall();
  const auto past = std::max<Wall::duration>(now - life.not_after, Wall::duration::zero());
  const unsigned stage = expiry_stage(life, now);
  const bool lately = stage == stages_max && mourned_lately(entry);
  const int64_t told = past / reminder_interval + (lately ? 1 : 0);
  const int64_t most = snapshot->notify.max_reminders;
  entry.reminders = static_cast<unsigned>(std::min(told, most));
  Wall when =
      stage > entry.past.warned || stage == stages_max ? now : stage_begins(life, stage + 1);
  // Unless it is the fallback's turn already, which is not told twice either.
  if (lately && told <= most) when = entry.past.mourned + reminder_interval;
  entry.reminder = agenda.at_wall(when, [this, name = entry.name] { notice(name); });
}

void Manager::State::notice(const std::string& name) {
  Entry* entry = find(name);
  if (entry == nullptr) return;
  entry->reminder = 0;
  if (!entry->certificate || stopped) return;
  if (!desks.empty() && entry->claim != Claim::internal) {
    notices_after_check.insert(name);
    if (!clock_known()) return;
    notices_after_check.erase(name);
    if (clock_suspect) {
      entry->reminder = agenda.after(clock_recheck, [this, name] { notice(name); });
      return;
    }
  }
  const unsigned stage = expiry_stage(lifetime_of(*entry->certificate), clock.wall());
  if (stage == stages_max) return remind(*entry);
  notice_of_end(*entry, stage);
  plan_notice(*entry);
}

/// Once for each stage, and only if it should have been renewed by now and somebody wants it.
void Manager::State::notice_of_end(Entry& entry, unsigned stage) {
  if (stage <= entry.past.warned) return;
  entry.past.warned = stage;
  const Wall now = clock.wall();
  const bool wanted = !entry.on_demand() || visits.recent(entry.name, now);
  const bool late = entry.renew_at <= now;
  if (stage == 0 || stage >= stages_max || !wanted || !late) return;
  remember(entry);
  const Setback& setback = entry.past.setback;
  const std::string said = fmt::format(
      "{}: less than {} % of its certificate's life is left, it ends {}{}{}", entry.name,
      stage_percent[stage], spoken_time(entry.certificate->not_after(), now),
      setback.sentence.empty() ? ": it is being renewed" : "; not renewed yet: ", setback.sentence);
  base::log::error("{}", said);
  tell(entry, Event::Kind::expiring, said, entry.authority, setback.next_attempt);
}

/// Once a day after its end; after the last time the fallback takes its place.
void Manager::State::remind(Entry& entry) {
  const std::string name = entry.name;
  if (entry.unsaved) {
    entry.reminder = agenda.after(reminder_interval, [this, name] { notice(name); });
    return;
  }
  if (entry.on_demand() && !entry.ordering && !visits.recent(name, clock.wall()))
    return unload(entry);
  const Setback& setback = entry.past.setback;
  const bool lately = mourned_lately(entry);
  entry.past.warned = stages_max;
  if (!lately) entry.past.mourned = clock.wall();
  remember(entry);
  if (++entry.reminders > snapshot->notify.max_reminders) {
    const std::string said =
        fmt::format("{}: its certificate ended at {}, the fallback is served from now on{}{}", name,
                    timestamp(entry.certificate->not_after()), setback.sentence.empty() ? "" : ": ",
                    setback.sentence);
    base::log::error("{}", said);
    if (!lately) tell(entry, Event::Kind::expired, said, entry.authority, setback.next_attempt);
    if (hooks.withdraw) hooks.withdraw(name);
    if (entry.on_demand()) ++awaited_on_demand;
    unlist(entry);
    entry.certificate.reset();
    return;
  }
  const std::string said = fmt::format("{}: its certificate ended at {} and is still served{}{}",
                                       name, timestamp(entry.certificate->not_after()),
                                       setback.sentence.empty() ? "" : ": ", setback.sentence);
  base::log::error("{}", said);
  tell(entry, Event::Kind::expired, said, entry.authority, setback.next_attempt);
  entry.reminder = agenda.at_wall(clock.wall() + reminder_interval, [this, name] { notice(name); });
}

// --- the clock

/// Whether a CA's clock has been compared with ours lately; if not, that begins, and those in the
/// two lists are called when it is done, which may be before this returns.
bool Manager::State::clock_known() {
  if (clock.monotonic() < clock_checked_until) return true;
  if (std::exchange(clock_checking, true)) return false;
  asio::co_spawn(control, check_clock(shared_from_this()), asio::detached);
  return false;
}

/// What happens by time follows the clock; one that the CAs' contradicts must not start a storm.
asio::awaitable<void> Manager::State::check_clock(std::shared_ptr<State> self) {
  std::optional<Wall> theirs;
  std::string authority;
  const auto asked = self->desks;
  for (const auto& desk : asked) {
    const Wall now = self->clock.wall();
    if (desk->budget.silent_until(now) > now) continue;
    if (desk->orders->authority().date) theirs = co_await desk->orders->authority().date();
    if (!theirs) continue;
    authority = desk->settings.name;
    break;
  }
  self->clock_checking = false;
  if (self->stopped) co_return;
  const auto skew =
      theirs ? std::chrono::duration_cast<std::chrono::seconds>(self->clock.wall() - *theirs) : 0s;
  self->clock_suspect = std::chrono::abs(skew) > skew_max;
  self->clock_checked_until =
      self->clock.monotonic() +
      (self->clock_suspect ? std::chrono::seconds(clock_recheck) : clock_trusted);
  if (std::chrono::abs(skew) > skew_warned)
    base::log::warn("this machine's clock is {} s {} that of {}: set it{}",
                    std::chrono::abs(skew).count(), skew > 0s ? "ahead of" : "behind", authority,
                    self->clock_suspect ? "; renewals wait until it is right" : "");
  self->look_after_check();
  for (const auto& name : std::exchange(self->notices_after_check, {})) self->notice(name);
}

// --- saving

void Manager::State::save(Entry& entry, const DeskPtr& desk) {
  entry.unsaved = true;
  agenda.cancel(entry.save_retry);
  CertificateNote note;
  note.name = entry.name;
  note.authority = entry.authority;
  note.on_demand = entry.on_demand();
  asio::co_spawn(control,
                 write(shared_from_this(), entry.name, entry.certificate, std::move(note), desk,
                       desk == internal_desk),
                 asio::detached);
}

asio::awaitable<void> Manager::State::write(std::shared_ptr<State> self, std::string name,
                                            tls::CertificatePtr certificate, CertificateNote note,
                                            DeskPtr desk, bool internal) {
  const std::string id = certificate_id(name);
  Result<void> result;
  if (internal)
    result = co_await self->vault.save_internal(id, certificate, std::move(note));
  else
    result = co_await self->vault.save(id, certificate, std::move(note));
  self->written(name, certificate, desk, result);
}

void Manager::State::written(const std::string& name, const tls::CertificatePtr& certificate,
                             const DeskPtr& desk, const Result<void>& result) {
  Entry* entry = find(name);
  const bool current = entry != nullptr && entry->certificate == certificate;
  if (result) {
    note_index_change();
    if (current && entry->save_failures > 0) base::log::info("{}: stored now", name);
    if (current) {
      entry->unsaved = false;
      entry->save_failures = 0;
      forget_revoked(*entry);
    }
    // A newer order of this name has a journal of its own by now.
    if (entry != nullptr && (entry->ordering || !current)) return;
    std::vector<DeskPtr> places{desk};
    if (entry != nullptr)
      for (auto& other : std::exchange(entry->left_at, {}))
        if (other != desk) places.push_back(std::move(other));
    for (const auto& place : places)
      asio::co_spawn(control, forget(shared_from_this(), place, certificate_id(name)),
                     asio::detached);
    return;
  }
  if (!current) return;
  if (entry->save_failures++ == 0)
    base::log::error("{}: served from memory only: {}", name, result.error().context);
  if (stopped) return;
  const auto wait = retry_wait(FailureClass::storage, entry->save_failures, entry->id);
  entry->save_retry = agenda.after(wait, [this, name, certificate, desk] {
    Entry* again = find(name);
    if (again == nullptr || again->certificate != certificate) return;
    again->save_retry = 0;
    save(*again, desk);
  });
}

asio::awaitable<void> Manager::State::forget(std::shared_ptr<State>, DeskPtr desk, std::string id) {
  co_await desk->orders->authority().forget(id);
}

}  // namespace gatehouse::acme
