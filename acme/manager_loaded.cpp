// Which certificates are in memory, and when each of the others is looked at: what a storage of
// 100,000 costs no more than the index of.
#include <algorithm>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "acme/manager_state.hpp"
#include "acme/times.hpp"
#include "base/log.hpp"

namespace gatehouse::acme {

namespace asio = boost::asio;
using base::ErrorKind;
using Wall = base::WallClock::time_point;

namespace {

/// Changes of the index that are written together.
constexpr std::chrono::seconds index_delay{10};
constexpr std::chrono::minutes index_retry{5};
/// Between two certificates whose files are read only to see that they can be.
constexpr std::chrono::milliseconds look_over_interval{1000};
constexpr std::chrono::hours look_over_rest{24};
/// Renewal information of what is not in memory.
constexpr std::chrono::hours advice_interval{24};
/// No CA can be asked for so long: a person is told of what ends soon and is not in memory.
constexpr std::chrono::hours outage_told_after{1};
constexpr std::chrono::hours ends_soon{7 * 24};

}  // namespace

// --- in memory

void Manager::State::list_loaded(Entry& entry) {
  if (entry.listed || entry.claim == Claim::internal) return;
  // One that was loaded to be renewed goes before those that are visited.
  const bool visited = !entry.waiters.empty() || entry.wished != base::Monotonic::time_point{};
  entry.loaded_place =
      loaded_names.insert(visited ? loaded_names.begin() : loaded_names.end(), entry.name);
  entry.listed = true;
}

void Manager::State::unlist(Entry& entry) {
  if (std::exchange(entry.listed, false)) loaded_names.erase(entry.loaded_place);
}

bool Manager::State::may_unload(const Entry& entry) const {
  return !entry.unsaved && !entry.on_trial && !entry.ordering && !entry.asking && !entry.loading &&
         entry.waiters.empty() && entry.deploy_failures == 0 && !entry.awaits_ca &&
         !renewing.contains(entry.name) && !advice_queued.contains(entry.name);
}

/// Not at once: whoever made it necessary is still at work with his entry.
void Manager::State::make_room() {
  if (loaded_names.size() <= loaded_max || std::exchange(making_room, true)) return;
  asio::post(control, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    self->making_room = false;
    size_t looked = self->loaded_names.size() - std::min(self->loaded_names.size(), loaded_max);
    for (; looked > 0 && !self->stopped; --looked) {
      Entry* oldest = self->find(self->loaded_names.back());
      ASSERT(oldest != nullptr);
      if (self->may_unload(*oldest)) {
        self->unload(*oldest);
      } else {
        self->loaded_names.splice(self->loaded_names.begin(), self->loaded_names,
                                  oldest->loaded_place);
      }
    }
  });
}

/// Out of memory and out of the table; its renewal stays planned.
void Manager::State::unload(Entry& entry) {
  const std::string name = entry.name;
  const auto planned = vault.ledger().look(entry.id);
  Wall next = planned.value_or(std::max(entry.renew_at, entry.past.setback.next_attempt));
  // Its CA may want it renewed earlier.
  if (entry.advice_look != 0) next = std::min(next, clock.wall() + advice_interval);
  if (planned != next) plan_look(name, next);
  if (hooks.withdraw) hooks.withdraw(name);
  erase(name);
}

// --- looks

void Manager::State::plan_look(const std::string& name, Wall when) {
  vault.ledger().look_at(name, when);
  if (when > clock.wall()) renewing.erase(name);
  note_index_change();
  arm_looks();
}

void Manager::State::forget_look(const std::string& name) {
  vault.ledger().forget_look(name);
  if (const auto planned = renewals.find(name); planned != renewals.end()) {
    agenda.cancel(planned->second);
    renewals.erase(planned);
  }
  due_after_check.erase(name);
  renewal_over(name);
}

void Manager::State::renewal_over(const std::string& name) {
  if (renewing.erase(name) > 0) arm_looks();
}

/// Whether some CA can be asked at all: while none can, what is due stays on the disk.
bool Manager::State::takes_orders() const {
  return std::any_of(desks.begin(), desks.end(),
                     [](const DeskPtr& desk) { return !desk->orders->open(); });
}

void Manager::State::arm_looks() {
  if (stopped || taking_looks || renewing.size() >= renewals_max || !takes_orders()) return;
  const auto next = vault.ledger().next_look();
  if (!next || (looks != 0 && looks_armed_for <= *next)) return;
  agenda.cancel(looks);
  looks_armed_for = *next;
  looks = agenda.at_wall(*next, [this] {
    looks = 0;
    take_due_looks();
  });
}

void Manager::State::take_due_looks() {
  if (stopped || std::exchange(taking_looks, true)) return;
  while (renewing.size() < renewals_max && takes_orders()) {
    const std::string name = vault.ledger().take_due(clock.wall());
    if (name.empty()) break;
    renewing.insert(name);
    if (!renewal_due_now(name)) renewing.erase(name);
  }
  taking_looks = false;
  arm_looks();
}

// --- while no CA can be asked

/// Of what is in memory each speaks for itself; what is not is not loaded while it cannot be
/// renewed.
void Manager::State::look_at_outage() {
  const auto now = clock.monotonic();
  if (desks.empty() || takes_orders()) {
    no_ca_since.reset();
    return;
  }
  if (!no_ca_since) {
    no_ca_since = now;
    unloaded_told = {};
  }
  const bool told = unloaded_told != base::Monotonic::time_point{};
  if (now - *no_ca_since < outage_told_after || clock_suspect) return;
  if (told && now - unloaded_told < told_again_after) return;
  unloaded_told = now;
  asio::co_spawn(control, tell_unloaded(shared_from_this()), asio::detached);
}

/// From the index alone: all together, once a day.
asio::awaitable<void> Manager::State::tell_unloaded(std::shared_ptr<State> self) {
  size_t ending = 0;
  size_t ended = 0;
  Event first;
  first.not_after = Wall::max();
  for (size_t part = 0; part < Ledger::parts; ++part) {
    // A handshake does not wait for the whole list.
    co_await asio::post(self->control, asio::use_awaitable);
    if (self->stopped) co_return;
    const Wall now = self->clock.wall();
    const Ledger& ledger = self->vault.ledger();
    for (const auto& id : ledger.ids(Ledger::Place::certs, part)) {
      const auto facts = ledger.facts(id);
      const auto look = ledger.look(id);
      if (!facts || !look || *look > now || facts->not_after > now + ends_soon) continue;
      const std::string name = ledger.name(id);
      if (self->find(name) != nullptr || !self->keeps_fresh(name)) continue;
      ++(facts->not_after > now ? ending : ended);
      if (facts->not_after >= first.not_after) continue;
      first.name = name;
      first.authority = facts->authority;
      first.not_after = facts->not_after;
    }
  }
  if (ending + ended == 0) co_return;
  const Wall now = self->clock.wall();
  const bool over = first.not_after <= now;
  first.kind = over ? Event::Kind::expired : Event::Kind::expiring;
  first.text = fmt::format(
      "no CA can be asked: of the certificates that are not in memory {} end within 7 days and {} "
      "have ended, the first, {}, {}",
      ending, ended, first.name,
      over ? "at " + timestamp(first.not_after) : spoken_time(first.not_after, now));
  base::log::error("{}", first.text);
  if (self->hooks.tell) self->hooks.tell(first);
}

// --- the index against the folders

/// After the start, in the background: what another process, a crash or a backup left in the
/// folders and not in the index.
asio::awaitable<void> Manager::State::survey(std::shared_ptr<State> self, size_t lane) {
  Ledger& ledger = self->vault.ledger();
  for (size_t part = lane; part < Ledger::parts; part += survey_lanes) {
    const auto ids = ledger.ids(Ledger::Place::certs, part);
    co_await self->vault.compare(ids);
    for (const auto& id : ids) {
      if (self->stopped) co_return;
      const std::string name = ledger.name(id);
      const bool planned = ledger.look(id).has_value() || self->renewing.contains(name);
      self->look_for_advice(id);
      if (ledger.known(id) && (planned || !self->keeps_fresh(name))) continue;
      if (self->find(name) != nullptr) continue;  // being loaded: that tells as much
      auto note = co_await self->vault.look(id);
      self->surveyed(id, note);
    }
  }
  self->note_index_change();
  if (++self->lanes_surveyed == survey_lanes) self->look_over_next();
}

/// What an earlier process had in memory was planned for its renewal: its CA may want it renewed
/// before, and is asked within a day, one after the other.
void Manager::State::look_for_advice(const std::string& id) {
  const std::string name = vault.ledger().name(id);
  const auto planned = vault.ledger().look(id);
  const auto facts = vault.ledger().facts(id);
  if (!planned || !facts || find(name) != nullptr || !keeps_fresh(name)) return;
  const DeskPtr desk = desk_of(facts->authority);
  if (!desk || !desk->orders->authority().renewal_info) return;
  const Wall latest = clock.wall() + std::chrono::minutes(advice_interval) *
                                         static_cast<int64_t>(mark(id) % 1000) / 1000;
  if (*planned > latest && facts->not_after > latest) plan_look(name, latest);
}

/// A standing name, or an on-demand one that was visited lately.
bool Manager::State::keeps_fresh(const std::string& name) const {
  const auto found = claims.find(name);
  if (name.empty() || found.subject != name) return false;
  return found.claim == Claim::automatic ||
         (found.claim == Claim::on_demand && visits.recent(name, clock.wall()));
}

void Manager::State::surveyed(const std::string& id, const base::Result<CertificateNote>& note) {
  if (stopped) return;
  if (!note) {
    if (note.error().kind == ErrorKind::not_found) lost(id);
    return;
  }
  const Lifetime lifetime{note->not_before, note->not_after};
  if (certificate_id(note->name) != id || find(note->name) != nullptr) return;
  const bool now = revoked.contains(id);
  plan_look(note->name,
            now ? clock.wall() : renewal_due(lifetime, snapshot->acme.renew_before, id));
  look_for_advice(id);
}

/// Nothing whole is left of it: a standing name is ordered before somebody comes for it.
void Manager::State::lost(const std::string& id) {
  const std::string name = vault.ledger().name(id);
  if (vault.ledger().place(id) == Ledger::Place::archive) return;
  const auto found = claims.find(name);
  if (found.subject != name || found.claim != Claim::automatic || find(name) != nullptr) return;
  begin_load(entry_for(name, found.claim));
}

/// One after the other, the files of what is not loaded: damage is found while the CA has time.
void Manager::State::look_over_next() {
  if (stopped) return;
  while (looked_over.empty() && look_over_part < Ledger::parts)
    looked_over = vault.ledger().ids(Ledger::Place::certs, look_over_part++);
  if (looked_over.empty()) {
    look_over_part = 0;
    agenda.after(look_over_rest, [this] { look_over_next(); });
    return;
  }
  const std::string id = std::move(looked_over.back());
  looked_over.pop_back();
  if (find(vault.ledger().name(id)) != nullptr) {
    asio::post(control, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->look_over_next();
    });
    return;
  }
  agenda.after(look_over_interval, [this, id] {
    asio::co_spawn(control, look_over(shared_from_this(), id), asio::detached);
  });
}

asio::awaitable<void> Manager::State::look_over(std::shared_ptr<State> self, std::string id) {
  if (self->vault.ledger().place(id) == Ledger::Place::certs) {
    auto stored = co_await self->vault.load(id, self->vault.ledger().name(id));
    const bool gone = !stored && stored.error().kind != ErrorKind::io;
    if (gone && !self->stopped) self->lost(id);
  }
  self->look_over_next();
}

void Manager::State::note_index_change() {
  if (index_save != 0 || stopped || !vault.ledger().changed_part()) return;
  index_save = agenda.after(index_failed ? std::chrono::seconds(index_retry) : index_delay, [this] {
    index_save = 0;
    asio::co_spawn(control, save_index(shared_from_this()), asio::detached);
  });
}

asio::awaitable<void> Manager::State::save_index(std::shared_ptr<State> self) {
  if (std::exchange(self->index_saving, true)) co_return;
  co_await self->saving.enter();
  const Inside inside(self->saving);
  auto saved = co_await self->vault.save_index();
  self->index_saving = false;
  if (!saved && !self->index_failed)
    base::log::warn("{}: the next start reads every certificate to know when to renew it",
                    saved.error().context);
  self->index_failed = !saved;
  self->note_index_change();
}

}  // namespace gatehouse::acme
