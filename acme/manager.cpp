// The configuration and what it asks for; the public face.
#include "acme/manager.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "acme/manager_state.hpp"
#include "base/log.hpp"

namespace gatehouse::acme {

namespace asio = boost::asio;
using base::Error;
using base::ErrorKind;
using base::Result;

namespace {

constexpr std::chrono::minutes housekeeping_interval{10};
constexpr std::chrono::hours purge_interval{24};
/// At the stop, for a write that is under way.
constexpr std::chrono::seconds save_patience{5};

}  // namespace

Manager::State::State(asio::io_context& c, base::Fetcher& f, Storage& s, Solvers h,
                      const base::Clock& k, base::MetricShard& m, ManagerHooks given,
                      MakeAuthority make)
    : control(c),
      fetcher(f),
      storage(s),
      solvers(h),
      clock(k),
      metrics(m),
      hooks(std::move(given)),
      make_authority(std::move(make)),
      agenda(c, k),
      ask(c, f, k, m),
      permission(ask),
      vault(s),
      fallbacks(c, s, k, hooks.serve_fallback) {
  agenda.on_clock_jump([this](std::chrono::seconds jump) {
    base::log::warn("the clock was set {} by {} s", jump.count() > 0 ? "forward" : "back",
                    std::abs(jump.count()));
    clock_checked_until = {};
  });
}

Manager::State::~State() = default;

// --- configuration

asio::awaitable<Result<void>> Manager::State::configure(std::shared_ptr<State> self,
                                                        config::SnapshotPtr next) {
  auto tried = co_await try_ask(self, next);
  if (!tried) co_return tried;
  self->ask_tried_for.reset();
  if (!self->storage_read) {
    auto read = co_await self->read_storage();
    if (!read) co_return read;
    self->storage_read = true;
  }
  const auto desks_before = self->desks;
  self->set_desks(next);
  for (const auto& desk : self->desks) co_await load_budget(self, desk);
  if (self->stopped) co_return Result<void>();
  const bool first = self->snapshot == nullptr;
  self->snapshot = next;
  self->claims = Claims(*next, self->own_names);
  self->permission.configure(next->on_demand);
  self->review_entries();
  if (first) self->resume_journalled();
  self->start_standing(first);
  if (!first && self->desks != desks_before) self->ask_others();
  if (next->acme.renew_before) self->vault.ledger().look_before_end(*next->acme.renew_before);
  self->arm_looks();
  if (first) {
    self->keep_house();
    for (size_t lane = 0; lane < survey_lanes; ++lane)
      asio::co_spawn(self->control, survey(self, lane), asio::detached);
  }
  asio::co_spawn(self->control, archive_unclaimed(self), asio::detached);
  co_return Result<void>();
}

asio::awaitable<Result<void>> Manager::State::try_ask(std::shared_ptr<State> self,
                                                      config::SnapshotPtr next) {
  const config::OnDemand& settings = next->on_demand;
  if (settings.ask.empty() || self->ask.proven(settings.ask) || self->ask_tried_for == next)
    co_return Result<void>();
  const Answer answer = co_await self->ask.try_made_up_name(settings.ask);
  if (answer == Answer::allowed)
    co_return Error(ErrorKind::invalid,
                    fmt::format("on_demand.ask: {} allows a made-up name, so anybody could have "
                                "certificates ordered: let it answer 404 for names it does not "
                                "know",
                                settings.ask));
  self->ask_tried_for = next;
  co_return Result<void>();
}

asio::awaitable<Result<void>> Manager::State::read_storage() {
  auto index = co_await vault.read_index();
  if (!index) co_return index;
  co_await fallbacks.read_index();
  co_await read_revoked();
  co_await read_memory();
  co_return Result<void>();
}

/// After a reload: what is no longer claimed is withdrawn, what a person may have mended is tried.
void Manager::State::review_entries() {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries) names.push_back(name);
  for (const auto& name : names) {
    Entry& entry = *find(name);
    const auto found = claims.find(name);
    Claim claim = found.subject == name ? found.claim : Claim::none;
    if (claim == Claim::own || claim == Claim::off) claim = Claim::none;
    const bool waits = entry.on_demand() && !entry.certificate && !entry.ordering &&
                       !entry.loading && !entry.asking;
    if (waits && claim == entry.claim && permission.known(name) == Answer::denied) {
      deny(entry);
      erase(name);
    } else if (claim == entry.claim) {
      review_setback(entry);
    } else {
      review_claim(entry, claim);
    }
  }
}

/// A refusal stands until what was refused has changed: the CA's settings, or the list of CAs.
void Manager::State::review_setback(Entry& entry) {
  Setback& setback = entry.past.setback;
  if (setback.holds.empty() || entry.ordering || entry.claim == Claim::none) return;
  const auto list = candidates(entry);
  const bool mended = review_holds(setback, list, clock.wall());
  const bool waits = entry.retry != 0 || entry.awaits_ca;
  const auto kind = choose(list, setback, clock.wall()).kind;
  const bool free = needs_person(setback) && kind == Choice::Kind::order;
  // The limit of one CA says nothing about another's.
  const bool elsewhere = setback.kind == FailureClass::rate_limit && kind == Choice::Kind::order;
  if (!waits || (!mended && !free && !elsewhere)) return;
  if (mended || free) begin_anew(setback);
  remember(entry);
  attempt_at(entry, clock.wall());
}

/// Its site has another mode now, or none.
void Manager::State::review_claim(Entry& entry, Claim claim) {
  const std::string name = entry.name;
  absolve(entry.past.setback);
  remember(entry);
  if (entry.certificate && hooks.withdraw) hooks.withdraw(name);
  forget_look(name);
  if (entry.ordering || entry.loading) {
    // It ends with nobody to serve; a new claim on the name starts from what it leaves.
    if (entry.on_demand() && !entry.certificate) --awaited_on_demand;
    unlist(entry);
    entry.certificate.reset();
    entry.claim = claim;
    if (claim == Claim::on_demand) ++awaited_on_demand;
    // What is stored is served at once: the order may take its time, or fail.
    if (claim != Claim::none) begin_load(entry);
    return;
  }
  entry.asking = false;
  give_fallback(entry);
  erase(name);
}

/// Orders what is missing. Of what is stored a part is loaded at the start; the rest has its turn
/// at its first handshake, or when it is to be renewed.
void Manager::State::start_standing(bool first) {
  size_t loaded = 0;
  for (const Claims::Standing* standing : claims.standing()) {
    const auto& [name, claim] = *standing;
    const bool stored = claim == Claim::automatic &&
                        vault.ledger().place(certificate_id(name)) == Ledger::Place::certs;
    const bool planned = vault.ledger().look(certificate_id(name)).has_value();
    if (stored && find(name) == nullptr && (first ? ++loaded > loaded_at_start_max : planned))
      continue;
    Entry& entry = entry_for(name, claim);
    if (entry.certificate || entry.ordering || entry.loading || entry.retry != 0 || entry.awaits_ca)
      continue;
    begin_load(entry);
  }
}

void Manager::State::resume_journalled() {
  for (const auto& id : vault.journalled()) {
    if (id.starts_with(rehearsal_prefix)) continue;  // continued if it is wanted again
    const std::string name = name_of(id);
    const auto found = claims.find(name);
    if (name.empty() || found.subject != name) continue;
    if (found.claim != Claim::automatic && found.claim != Claim::on_demand) continue;
    Entry& entry = entry_for(name, found.claim);
    entry.journalled = true;
    begin_load(entry);
  }
}

asio::awaitable<void> Manager::State::archive_unclaimed(std::shared_ptr<State> self) {
  if (self->archiving) co_return;
  self->archiving = true;
  for (size_t part = 0; part < Ledger::parts; ++part) {
    // A handshake does not wait for the whole list.
    co_await asio::post(self->control, asio::use_awaitable);
    const auto ids = self->vault.ledger().ids(Ledger::Place::certs, part);
    for (const auto& id : ids) {
      const std::string name = self->vault.ledger().name(id);
      if (name.empty() || self->stopped) continue;
      const auto found = self->claims.find(name);
      const bool claimed = found.subject == name && found.claim != Claim::none;
      if (claimed || self->find(name) != nullptr) continue;
      auto moved = co_await self->vault.archive(id);
      if (moved) self->vault.ledger().forget_look(name);
      if (!moved) {
        base::log::warn("{}: not archived: {}", name, moved.error().context);
      } else {
        base::log::info("{}: no site has it any more, its certificate is kept in archive/", name);
      }
    }
  }
  self->archiving = false;
  self->note_index_change();
}

// --- housekeeping

void Manager::State::keep_house() {
  agenda.cancel(housekeeping);
  housekeeping = agenda.after(housekeeping_interval, [this] {
    housekeeping = 0;
    keep_house();
  });
  const auto now = clock.monotonic();
  std::vector<std::string> stale;
  for (const auto& [name, entry] : entries)
    if (entry->on_demand() && !entry->certificate && !entry->ordering && !entry->loading &&
        !entry->asking && entry->waiters.empty() && now - entry->wished > awaited_on_demand_kept)
      stale.push_back(name);
  for (const auto& name : stale) erase(name);
  dismiss_retired();
  on_demand_budget.buckets.tidy(clock.wall());
  for (const auto& desk : desks) desk->budget.buckets.tidy(clock.wall());
  if (visits.changed()) note_change();
  look_at_outage();
  if (now < purged_until) return;
  purged_until = now + purge_interval;
  setbacks.tidy(clock.wall(), [this](const std::string& name) { return find(name) != nullptr; });
  asio::co_spawn(control, purge(shared_from_this()), asio::detached);
}

asio::awaitable<void> Manager::State::purge(std::shared_ptr<State> self) {
  co_await self->vault.purge(self->clock.wall());
}

asio::awaitable<void> Manager::State::save_all(std::shared_ptr<State> self) {
  // What is being written was true a moment ago.
  const bool ended = co_await self->saving.close(save_patience);
  if (ended) self->saving.open();
  co_await save_small_state(self);
  co_await save_index(self);
}

// --- status and end

std::string Manager::State::state_of(const Entry& entry) const {
  const auto now = clock.wall();
  if (entry.ordering) return "ordering";
  if (is_revoked(entry)) return "revoked";
  if (entry.certificate) return now < entry.certificate->not_after() ? "active" : "expired";
  const Setback& setback = entry.past.setback;
  if (setback.failures == 0) return "waiting";
  const bool blocked = needs_person(setback) &&
                       choose(candidates(entry), setback, now).kind == Choice::Kind::blocked;
  return blocked ? "blocked" : "backoff";
}

std::map<std::string, size_t> Manager::states() const {
  const auto& state = *state_;
  std::map<std::string, size_t> counts;
  for (const auto& [name, entry] : state.entries) ++counts[state.state_of(*entry)];
  const auto& ledger = state.vault.ledger();
  for (size_t part = 0; part < Ledger::parts; ++part)
    for (const auto& id : ledger.ids(Ledger::Place::certs, part))
      if (!state.entries.contains(ledger.name(id))) ++counts["stored"];
  return counts;
}

CertificateStatus Manager::State::status_of(const Entry& entry) const {
  const Setback& setback = entry.past.setback;
  CertificateStatus status;
  status.name = entry.name;
  status.state = state_of(entry);
  status.on_demand = entry.on_demand();
  status.last_error = setback.sentence;
  if (!entry.ordering) status.next_attempt = setback.next_attempt;
  if (entry.certificate) {
    status.issuer = entry.certificate->issuer();
    status.serial = entry.certificate->serial();
    status.not_before = entry.certificate->not_before();
    status.not_after = entry.certificate->not_after();
    status.renew_at = entry.renew_at;
  }
  return status;
}

std::vector<CertificateStatus> Manager::State::status() const {
  std::vector<CertificateStatus> list;
  for (const auto& [name, entry] : entries) list.push_back(status_of(*entry));
  for (size_t part = 0; part < Ledger::parts; ++part) {
    for (const auto& id : vault.ledger().ids(Ledger::Place::certs, part)) {
      const std::string name = vault.ledger().name(id);
      const auto facts = vault.ledger().facts(id);
      if (name.empty() || !facts || entries.contains(name)) continue;
      CertificateStatus stored;
      stored.name = name;
      stored.state = revoked.contains(id) ? "revoked" : "stored";
      stored.on_demand = facts->on_demand;
      stored.not_after = facts->not_after;
      stored.renew_at = vault.ledger().look(id).value_or(base::WallClock::time_point());
      list.push_back(std::move(stored));
    }
  }
  std::sort(list.begin(), list.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return list;
}

void Manager::State::stop() {
  if (stopped) return;
  stopped = true;
  for (const auto& desk : desks) {
    desk->orders->stop();
    if (desk->staging) desk->staging->orders->stop();
  }
  for (const auto& desk : retired) desk->orders->stop();
  if (internal_desk) internal_desk->orders->stop();
  std::vector<std::string> waiting;
  for (const auto& [name, entry] : entries)
    if (!entry->ordering && !entry->waiters.empty()) waiting.push_back(name);
  for (const auto& name : waiting)
    if (Entry* entry = find(name)) give_fallback(*entry);
}

void Manager::State::tell(const Entry& entry, Event::Kind kind, std::string text,
                          const std::string& authority,
                          base::WallClock::time_point next_attempt) const {
  if (!hooks.tell) return;
  Event event;
  event.kind = kind;
  event.name = entry.name;
  event.text = std::move(text);
  event.authority = authority;
  if (entry.certificate) event.not_after = entry.certificate->not_after();
  event.next_attempt = next_attempt;
  hooks.tell(event);
}

Manager::Manager(asio::io_context& control, base::Fetcher& fetcher, Storage& storage,
                 Solvers solvers, const base::Clock& clock, base::MetricShard& metrics,
                 ManagerHooks hooks, MakeAuthority make_authority)
    : state_(std::make_shared<State>(control, fetcher, storage, solvers, clock, metrics,
                                     std::move(hooks), std::move(make_authority))) {}

Manager::~Manager() {
  auto& state = *state_;
  state.stopped = true;
  state.agenda.stop();
  for (const auto& desk : state.desks) {
    desk->orders->detach();
    if (desk->staging) desk->staging->orders->detach();
  }
  for (const auto& desk : state.retired) desk->orders->detach();
  if (state.internal_desk) state.internal_desk->orders->detach();
  state.fallbacks.detach();
  state.hooks = {};
  for (auto& [name, entry] : state.entries) entry->waiters.clear();
}

asio::awaitable<Result<void>> Manager::try_ask(config::SnapshotPtr snapshot) {
  return State::try_ask(state_, std::move(snapshot));
}

asio::awaitable<Result<void>> Manager::configure(config::SnapshotPtr snapshot) {
  return State::configure(state_, std::move(snapshot));
}

void Manager::acquire(std::string name, std::string client_address,
                      std::function<void(tls::Acquired)> deliver) {
  state_->acquire(std::move(name), std::move(client_address), std::move(deliver));
}

void Manager::seen(const std::string& name) {
  auto& state = *state_;
  Entry* entry = state.find(name);
  if (entry == nullptr) entry = state.find(state.claims.find(name).subject);
  if (entry == nullptr) return;
  if (entry->on_demand()) state.visits.seen(name, state.clock.wall());
  if (entry->listed)
    state.loaded_names.splice(state.loaded_names.begin(), state.loaded_names, entry->loaded_place);
}

std::vector<CertificateStatus> Manager::status() const {
  return state_->status();
}
std::vector<BudgetStatus> Manager::budget() const {
  return state_->budget();
}
void Manager::recheck() {
  state_->agenda.check();
}
void Manager::stop(std::function<void()> stored) {
  state_->stop();
  if (!state_->storage_read) return stored();
  asio::co_spawn(state_->control, State::save_all(state_),
                 [stored = std::move(stored)](const std::exception_ptr&) { stored(); });
}

asio::awaitable<Result<std::vector<CertificateStatus>>> read_status(Storage& storage) {
  // As they are served: the first of a name goes before the others.
  std::map<std::string, std::string> places;
  for (const std::string folder : {"custom", "certs", "internal/leaves"}) {
    auto ids = co_await storage.list(folder);
    if (!ids) co_return ids.error();
    for (const auto& id : *ids) places.emplace(id, folder + "/" + id);
  }
  std::vector<CertificateStatus> list;
  for (const auto& [id, place] : places) {
    CertificateStatus status;
    status.name = name_of(id).empty() ? id : name_of(id);
    auto files = co_await storage.load_set(place);
    if (files) {
      auto note = read_description((*files)["meta.json"]);
      if (note) status.name = note->name;
      if (note) status.on_demand = note->on_demand;
      auto parsed =
          tls::Certificate::from_pem((*files)["fullchain.pem"], (*files)["privkey.pem"], place);
      if (parsed) {
        status.issuer = (*parsed)->issuer();
        status.serial = (*parsed)->serial();
        status.not_before = (*parsed)->not_before();
        status.not_after = (*parsed)->not_after();
        if (!place.starts_with("custom/"))
          status.renew_at = renewal_due({status.not_before, status.not_after}, std::nullopt, id);
        const char* const served = place.starts_with("custom/") ? "custom" : "active";
        status.state = base::WallClock::now() < status.not_after ? served : "expired";
      } else {
        status.last_error = parsed.error().context;
      }
    } else {
      status.last_error = files.error().context;
    }
    if (status.state.empty()) status.state = "waiting";
    list.push_back(std::move(status));
  }
  co_return list;
}

}  // namespace gatehouse::acme
