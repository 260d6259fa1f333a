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
constexpr std::chrono::seconds small_state_delay{1};
constexpr std::chrono::hours purge_interval{24};
constexpr std::chrono::minutes small_state_retry{1};
constexpr const char* on_demand_rate_path = "on_demand/rate.json";
constexpr const char* visits_path = "on_demand/visits.json";

std::string rate_path(const std::string& ca) {
  return "issuers/" + ca + "/rate.json";
}

bool same(const config::CertificateAuthority& a, const config::CertificateAuthority& b) {
  return a.name == b.name && a.directory == b.directory && a.trust == b.trust &&
         a.profile == b.profile && a.staging == b.staging && a.eab_kid == b.eab_kid &&
         a.eab_hmac_key == b.eab_hmac_key;
}

bool same(const config::Acme& a, const config::Acme& b) {
  return a.email == b.email && a.challenges == b.challenges && a.key_type == b.key_type &&
         a.preferred_chain == b.preferred_chain;
}

}  // namespace

Manager::State::State(asio::io_context& c, base::Fetcher& f, Storage& s, Http01& h,
                      const base::Clock& k, base::MetricShard& m, ManagerHooks given,
                      MakeAuthority make)
    : control(c),
      fetcher(f),
      storage(s),
      http01(h),
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
  auto tested = co_await self->test_ask(next->on_demand);
  if (!tested) co_return tested;
  if (!self->storage_read) {
    auto read = co_await self->read_storage();
    if (!read) co_return read;
    self->storage_read = true;
  }
  self->set_desks(next);
  for (const auto& desk : self->desks) co_await load_budget(self, desk);
  if (self->stopped) co_return Result<void>();
  const bool first = self->snapshot == nullptr;
  self->snapshot = next;
  self->claims = Claims(*next);
  self->permission.configure(next->on_demand);
  self->review_entries();
  if (first) self->resume_journalled();
  self->start_standing(first);
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

asio::awaitable<Result<void>> Manager::State::test_ask(const config::OnDemand& settings) {
  if (settings.ask.empty() || settings.ask == ask_tested_url) co_return Result<void>();
  Ask trial(control, fetcher, clock, metrics);
  trial.configure(settings.ask);
  const Answer answer = co_await trial.try_random_name();
  if (answer == Answer::allowed)
    co_return Error(ErrorKind::invalid,
                    fmt::format("on_demand.ask: {} allows a made-up name, so anybody could have "
                                "certificates ordered: let it answer 404 for names it does not "
                                "know",
                                settings.ask));
  if (answer == Answer::denied) ask_tested_url = settings.ask;
  co_return Result<void>();
}

asio::awaitable<Result<void>> Manager::State::read_storage() {
  auto index = co_await vault.read_index();
  if (!index) co_return index;
  co_await fallbacks.read_index();
  auto rate = co_await storage.load(on_demand_rate_path);
  if (rate) on_demand_budget.buckets = Buckets::from_json(*rate, clock.wall());
  auto visited = co_await storage.load(visits_path);
  if (visited) visits = Visits::from_json(*visited, clock.wall());
  for (const auto* unreadable : {&rate, &visited})
    if (!*unreadable && unreadable->error().kind != ErrorKind::not_found)
      base::log::warn("{}; begun anew", unreadable->error().context);
  co_return Result<void>();
}

DeskPtr Manager::State::make_desk(Authority authority, const config::CertificateAuthority& settings,
                                  const config::Acme& acme) {
  auto desk = std::make_shared<Desk>();
  desk->settings = settings;
  desk->acme = acme;
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
      return desk && same(desk->settings, settings) && same(desk->acme, next->acme);
    });
    if (kept != before.end()) {
      desks.push_back(std::move(*kept));
      continue;
    }
    Authority authority = make_authority
                              ? make_authority(settings, next)
                              : acme_authority(fetcher, storage, http01, clock, settings, next);
    desks.push_back(make_desk(std::move(authority), settings, next->acme));
  }
  for (auto& desk : before)
    if (desk) retired.push_back(std::move(desk));
}

asio::awaitable<void> Manager::State::load_budget(std::shared_ptr<State> self, DeskPtr desk) {
  if (desk->budget.buckets.size() > 0) co_return;
  auto text = co_await self->storage.load(rate_path(desk->settings.name));
  if (text) {
    desk->budget.buckets = Buckets::from_json(*text, self->clock.wall());
  } else if (text.error().kind != ErrorKind::not_found) {
    base::log::warn("{}; begun anew", text.error().context);
  }
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
    if (claim == entry.claim) {
      const bool blocked =
          entry.last.kind == FailureClass::policy || entry.last.kind == FailureClass::account;
      if (entry.failures > 0 && blocked && !entry.ordering && claim != Claim::none) {
        entry.failures = 0;
        attempt_at(entry, clock.wall());
      }
      continue;
    }
    if (entry.certificate && hooks.withdraw) hooks.withdraw(name);
    forget_look(name);
    if (entry.ordering || entry.loading) {
      // It ends with nobody to serve; a new claim on the name starts from what it leaves.
      if (entry.on_demand() && !entry.certificate) --awaited_on_demand;
      unlist(entry);
      entry.certificate.reset();
      entry.claim = claim;
      if (claim == Claim::on_demand) ++awaited_on_demand;
      continue;
    }
    entry.asking = false;
    give_fallback(entry);
    erase(name);
  }
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

// --- the small state: budgets and visits

void Manager::State::note_change() {
  if (small_state_save != 0 || stopped) return;
  small_state_save = agenda.after(small_state_delay, [this] {
    small_state_save = 0;
    asio::co_spawn(control, save_small_state(shared_from_this()), asio::detached);
  });
}

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
  on_demand_budget.buckets.tidy(clock.wall());
  for (const auto& desk : desks) desk->budget.buckets.tidy(clock.wall());
  if (visits.changed()) note_change();
  if (now < purged_until) return;
  purged_until = now + purge_interval;
  asio::co_spawn(control, purge(shared_from_this()), asio::detached);
}

asio::awaitable<void> Manager::State::purge(std::shared_ptr<State> self) {
  co_await self->vault.purge(self->clock.wall());
}

asio::awaitable<void> Manager::State::save_small_state(std::shared_ptr<State> self) {
  if (self->small_state_saving) {
    self->note_change();
    co_return;
  }
  self->small_state_saving = true;
  std::vector<std::pair<std::string, std::string>> files;
  files.emplace_back(on_demand_rate_path, self->on_demand_budget.buckets.to_json());
  for (const auto& desk : self->desks)
    if (std::exchange(desk->budget_changed, false))
      files.emplace_back(rate_path(desk->settings.name), desk->budget.buckets.to_json());
  if (self->visits.changed())
    files.emplace_back(visits_path, self->visits.to_json(self->clock.wall()));
  bool well = true;
  for (auto& [path, text] : files) {
    auto stored = co_await self->storage.store(path, text);
    if (!stored && !std::exchange(self->small_state_failed, true))
      base::log::warn("{}: limits and visits are kept in memory only", stored.error().context);
    well = well && stored;
  }
  if (well) self->small_state_failed = false;
  self->small_state_saving = false;
  if (well || self->stopped || self->small_state_save != 0) co_return;
  for (const auto& desk : self->desks) desk->budget_changed = true;
  self->small_state_save = self->agenda.after(small_state_retry, [state = self.get()] {
    state->small_state_save = 0;
    state->note_change();
  });
}

asio::awaitable<void> Manager::State::save_all(std::shared_ptr<State> self) {
  co_await save_small_state(self);
  co_await save_index(self);
}

// --- status and end

std::string Manager::State::state_of(const Entry& entry) const {
  const bool blocked =
      entry.last.kind == FailureClass::policy || entry.last.kind == FailureClass::account;
  if (entry.ordering) return "ordering";
  if (entry.certificate)
    return clock.wall() < entry.certificate->not_after() ? "active" : "expired";
  if (entry.failures > 0) return blocked ? "blocked" : "backoff";
  return "waiting";
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

std::vector<CertificateStatus> Manager::State::status() const {
  std::vector<CertificateStatus> list;
  for (const auto& [name, entry] : entries) {
    CertificateStatus status;
    status.name = name;
    status.on_demand = entry->on_demand();
    status.last_error = entry->last.sentence;
    status.next_attempt = entry->next_attempt;
    if (entry->certificate) {
      status.issuer = entry->certificate->issuer();
      status.serial = entry->certificate->serial();
      status.not_before = entry->certificate->not_before();
      status.not_after = entry->certificate->not_after();
      status.renew_at = entry->renew_at;
    }
    status.state = state_of(*entry);
    list.push_back(std::move(status));
  }
  for (size_t part = 0; part < Ledger::parts; ++part) {
    for (const auto& id : vault.ledger().ids(Ledger::Place::certs, part)) {
      const std::string name = vault.ledger().name(id);
      const auto facts = vault.ledger().facts(id);
      if (name.empty() || !facts || entries.contains(name)) continue;
      CertificateStatus stored;
      stored.name = name;
      stored.state = "stored";
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
  for (const auto& desk : desks) desk->orders->stop();
  for (const auto& desk : retired) desk->orders->stop();
  if (internal_desk) internal_desk->orders->stop();
  std::vector<std::string> waiting;
  for (const auto& [name, entry] : entries)
    if (!entry->ordering && !entry->waiters.empty()) waiting.push_back(name);
  for (const auto& name : waiting)
    if (Entry* entry = find(name)) give_fallback(*entry);
}

Manager::Manager(asio::io_context& control, base::Fetcher& fetcher, Storage& storage,
                 Http01& http01, const base::Clock& clock, base::MetricShard& metrics,
                 ManagerHooks hooks, MakeAuthority make_authority)
    : state_(std::make_shared<State>(control, fetcher, storage, http01, clock, metrics,
                                     std::move(hooks), std::move(make_authority))) {}

Manager::~Manager() {
  auto& state = *state_;
  state.stopped = true;
  state.agenda.stop();
  for (const auto& desk : state.desks) desk->orders->detach();
  for (const auto& desk : state.retired) desk->orders->detach();
  if (state.internal_desk) state.internal_desk->orders->detach();
  state.fallbacks.detach();
  state.hooks = {};
  for (auto& [name, entry] : state.entries) entry->waiters.clear();
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
  std::vector<CertificateStatus> list;
  auto ids = co_await storage.list("certs");
  if (!ids) co_return ids.error();
  for (const auto& id : *ids) {
    CertificateStatus status;
    status.name = name_of(id).empty() ? id : name_of(id);
    auto files = co_await storage.load_set("certs/" + id);
    if (files) {
      auto note = read_description((*files)["meta.json"]);
      if (note) status.name = note->name;
      if (note) status.on_demand = note->on_demand;
      auto parsed = tls::Certificate::from_pem((*files)["fullchain.pem"], (*files)["privkey.pem"],
                                               "certs/" + id);
      if (parsed) {
        status.issuer = (*parsed)->issuer();
        status.serial = (*parsed)->serial();
        status.not_before = (*parsed)->not_before();
        status.not_after = (*parsed)->not_after();
        status.renew_at = renewal_due({status.not_before, status.not_after}, std::nullopt, id);
        status.state = base::WallClock::now() < status.not_after ? "active" : "expired";
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
