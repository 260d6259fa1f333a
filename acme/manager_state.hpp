// The manager's inside: what it knows of each name, shared by manager.cpp (configuration, status),
// manager_handshakes.cpp (who waits and what he is given), manager_loaded.cpp (what is in memory,
// and when the rest is looked at), manager_orders.cpp (loading, ordering) and manager_renewals.cpp
// (renewing, saving), manager_checks.cpp (whether what is new is what is seen).
//
// Not for others: they include manager.hpp. Control thread.
#pragma once

#include <deque>
#include <list>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "acme/agenda.hpp"
#include "acme/ask.hpp"
#include "acme/budget.hpp"
#include "acme/manager.hpp"
#include "acme/names.hpp"
#include "acme/on_demand.hpp"
#include "acme/orders.hpp"
#include "acme/schedule.hpp"
#include "acme/vault.hpp"
#include "acme/visits.hpp"

namespace gatehouse::acme {

/// Certificates from CAs kept in memory; the one not visited for longest makes room.
inline constexpr size_t loaded_max = 4096;
/// Of configured names, so many are loaded at the start; the others at their first handshake.
inline constexpr size_t loaded_at_start_max = 1024;
/// Renewals that are loaded, ordered or waiting for their CA at once; the others are due in the
/// ledger.
inline constexpr size_t renewals_max = 128;
/// Certificates that are read at once to make the index anew, of the storage's threads.
inline constexpr size_t survey_lanes = 4;
/// On-demand names without a certificate that are remembered, for their failure and next attempt.
inline constexpr size_t awaited_on_demand_max = 10'000;
inline constexpr std::chrono::hours awaited_on_demand_kept{1};
/// Certificates read from storage at once.
inline constexpr size_t loads_max = 32;
/// Daily notices after a certificate ran out; then the fallback takes its place.
inline constexpr unsigned reminders_max = 30;

struct Waiter {
  uint64_t number = 0;
  std::string client;
  std::function<void(tls::Acquired)> deliver;
  Agenda::Id timeout = 0;
};

struct Desk {
  std::shared_ptr<Orders> orders;
  AuthorityBudget budget{false};
  config::CertificateAuthority settings;
  config::Acme acme;
  uint64_t orders_counted = 0;
  bool budget_changed = false;
};
using DeskPtr = std::shared_ptr<Desk>;

/// One certificate's name and all that is known of it.
struct Entry {
  std::string name;
  std::string id;
  Claim claim = Claim::none;
  tls::CertificatePtr certificate;
  std::string authority;  // who issued it

  bool loading = false;  // queued for reading, or
  bool reading = false;  // being read from storage
  bool asking = false;
  bool permitted = false;   // on demand: allowed
  bool counted = false;     // on demand: its order has been taken from the budget
  bool journalled = false;  // an order of a former process waits to be continued
  bool stored_checked = false;
  DeskPtr ordering;        // its order is queued or runs there
  bool slow = false;       // somebody has already waited in vain for the running order
  bool awaits_ca = false;  // for a breaker to close

  unsigned failures = 0;         // in a row
  unsigned deploy_failures = 0;  // in a row, of certificates that were obtained and not served
  Failure last;
  std::map<std::string, base::WallClock::time_point> held;  // CA → not before (429)
  base::WallClock::time_point next_attempt{};
  Agenda::Id retry = 0;
  base::WallClock::time_point renew_at{};
  base::WallClock::time_point renewed_until{};  // a renewal never follows another at once
  Agenda::Id reminder = 0;
  unsigned reminders = 0;

  bool unsaved = false;   // served from memory until storage takes it
  bool on_trial = false;  // the certificate before it is looked at in its place
  unsigned save_failures = 0;
  Agenda::Id save_retry = 0;

  base::Monotonic::time_point wished{};
  std::list<Waiter> waiters;
  std::list<std::string>::iterator loaded_place;  // valid if `listed`
  bool listed = false;                            // among those that can make room

  bool on_demand() const { return claim == Claim::on_demand; }
};

inline Lifetime lifetime_of(const tls::Certificate& certificate) {
  return {certificate.not_before(), certificate.not_after()};
}

/// "in 40 s", "in 25 min", "at 2026-01-02T03:04:05Z".
std::string spoken_time(base::WallClock::time_point when, base::WallClock::time_point now);

struct Manager::State : std::enable_shared_from_this<Manager::State> {
  State(boost::asio::io_context& c, base::Fetcher& f, Storage& s, Http01& h, const base::Clock& k,
        base::MetricShard& m, ManagerHooks given, MakeAuthority make);
  ~State();

  // manager.cpp
  static boost::asio::awaitable<base::Result<void>> configure(std::shared_ptr<State> self,
                                                              config::SnapshotPtr next);
  boost::asio::awaitable<base::Result<void>> read_storage();
  boost::asio::awaitable<base::Result<void>> test_ask(const config::OnDemand& settings);
  void set_desks(const config::SnapshotPtr& next);
  DeskPtr make_desk(Authority authority, const config::CertificateAuthority& settings,
                    const config::Acme& acme);
  static boost::asio::awaitable<void> load_budget(std::shared_ptr<State> self, DeskPtr desk);
  void review_entries();
  void start_standing(bool first);
  void resume_journalled();
  static boost::asio::awaitable<void> archive_unclaimed(std::shared_ptr<State> self);
  static boost::asio::awaitable<void> purge(std::shared_ptr<State> self);
  void keep_house();
  void note_change();
  static boost::asio::awaitable<void> save_small_state(std::shared_ptr<State> self);
  static boost::asio::awaitable<void> save_all(std::shared_ptr<State> self);
  std::vector<CertificateStatus> status() const;
  std::string state_of(const Entry& entry) const;
  void stop();

  // manager_handshakes.cpp
  void acquire(std::string name, std::string client, std::function<void(tls::Acquired)> deliver);
  bool park(Entry& entry, std::string client, std::function<void(tls::Acquired)> deliver);
  void timed_out(const std::string& name, uint64_t number);
  void give_certificate(Entry& entry);
  void give_fallback(Entry& entry);
  void deny(Entry& entry);
  void hand_fallback(const std::string& name, Claim claim, std::chrono::seconds retry_after,
                     std::function<void(tls::Acquired)> deliver);
  std::chrono::seconds retry_after(const Entry& entry) const;
  std::list<Waiter> take_waiters(Entry& entry);

  // manager_loaded.cpp
  void list_loaded(Entry& entry);
  void unlist(Entry& entry);
  void make_room();
  bool may_unload(const Entry& entry) const;
  void unload(Entry& entry);
  void plan_look(const std::string& name, base::WallClock::time_point when);
  void forget_look(const std::string& name);
  void arm_looks();
  void take_due_looks();
  void renewal_over(const std::string& name);
  bool takes_orders() const;
  bool keeps_fresh(const std::string& name) const;
  static boost::asio::awaitable<void> survey(std::shared_ptr<State> self, size_t lane);
  void surveyed(const std::string& id, const base::Result<CertificateNote>& note);
  void lost(const std::string& id);
  void look_over_next();
  static boost::asio::awaitable<void> look_over(std::shared_ptr<State> self, std::string id);
  void note_index_change();
  static boost::asio::awaitable<void> save_index(std::shared_ptr<State> self);

  // manager_orders.cpp
  Entry& entry_for(const std::string& name, Claim claim);
  Entry* find(const std::string& name);
  void erase(const std::string& name);
  void begin_load(Entry& entry);
  void start_loads();
  static boost::asio::awaitable<void> load(std::shared_ptr<State> self, std::string name);
  void loaded(Entry& entry, base::Result<StoredCertificate> stored);
  void missing(Entry& entry);
  void ask_permission(Entry& entry);
  void permitted(const std::string& name, Answer answer);
  bool count(Entry& entry);
  void want(Entry& entry);
  DeskPtr pick_desk(const Entry& entry, base::WallClock::time_point& earliest, bool& any_open);
  Urgency urgency_of(const Entry& entry) const;
  void submit(Entry& entry, const DeskPtr& desk);
  void ordered(const std::string& name, const DeskPtr& desk, Outcome<tls::CertificatePtr> outcome);
  void obtained(Entry& entry, const DeskPtr& desk, tls::CertificatePtr certificate);
  void failed(Entry& entry, const DeskPtr& desk, Failure failure);
  void await_ca(Entry& entry);
  void attempt_at(Entry& entry, base::WallClock::time_point when);
  void ca_opened(const Orders* orders);
  void ca_available();
  bool ca_wanted() const;

  // manager_checks.cpp
  /// A certificate that took the place of `before`, null if there was none.
  struct Swap {
    std::string name;
    tls::CertificatePtr fresh, before;
    DeskPtr desk;
  };
  void check_served(const Swap& swap);
  void checked(const Swap& swap, const std::string& problem);
  void judged(const Swap& swap, const std::string& problem, const std::string& problem_before);
  static boost::asio::awaitable<void> roll_back(std::shared_ptr<State> self, Swap swap);
  void deploy_failed(const Swap& swap, const std::string& what);

  // manager_renewals.cpp
  void adopt(Entry& entry, tls::CertificatePtr certificate, std::string authority);
  void plan_renewal(Entry& entry);
  bool renewal_due_now(const std::string& name);
  bool renewal_unloaded(const std::string& name);
  void look_after_check();
  void renew(Entry& entry);
  void renew_permitted(const std::string& name, Answer answer);
  void retry_now(const std::string& name);
  void plan_reminder(Entry& entry);
  void remind(const std::string& name);
  static boost::asio::awaitable<void> check_clock(std::shared_ptr<State> self);
  void save(Entry& entry, const DeskPtr& desk);
  static boost::asio::awaitable<void> write(std::shared_ptr<State> self, std::string name,
                                            tls::CertificatePtr certificate, CertificateNote note,
                                            DeskPtr desk, bool internal);
  void written(const std::string& name, const tls::CertificatePtr& certificate, const DeskPtr& desk,
               const base::Result<void>& result);
  static boost::asio::awaitable<void> forget(std::shared_ptr<State> self, DeskPtr desk,
                                             std::string id);

  boost::asio::io_context& control;
  base::Fetcher& fetcher;
  Storage& storage;
  Http01& http01;
  const base::Clock& clock;
  base::MetricShard& metrics;
  ManagerHooks hooks;
  MakeAuthority make_authority;

  Agenda agenda;
  Ask ask;
  Permission permission;
  Parking parking;
  Vault vault;
  Fallbacks fallbacks;
  OnDemandBudget on_demand_budget;
  Visits visits;

  config::SnapshotPtr snapshot;
  Claims claims;
  std::vector<DeskPtr> desks;    // as configured, tried in order
  std::vector<DeskPtr> retired;  // no longer configured; their orders still end
  DeskPtr internal_desk;

  std::unordered_map<std::string, std::unique_ptr<Entry>> entries;
  std::unordered_map<std::string, Agenda::Id> renewals;  // of the internal authority's
  std::unordered_set<std::string> renewing;              // looks that were due and have no end yet
  std::list<std::string> loaded_names;                   // the last visited first
  std::set<std::string> awaiting_ca;
  std::deque<std::string> load_queue;
  size_t loads_running = 0;
  size_t awaited_on_demand = 0;  // on-demand entries without a certificate
  uint64_t last_waiter = 0;
  base::Monotonic::time_point throttle_told_until{};
  base::Monotonic::time_point purged_until{};

  Agenda::Id housekeeping = 0;
  Agenda::Id small_state_save = 0;
  Agenda::Id looks = 0;
  base::WallClock::time_point looks_armed_for{};
  bool taking_looks = false;
  bool making_room = false;
  std::vector<std::string> looked_over;  // ids, of the part before look_over_part, still to be read
  size_t look_over_part = 0;
  size_t lanes_surveyed = 0;
  Agenda::Id index_save = 0;
  bool index_saving = false;
  bool index_failed = false;
  bool storage_read = false;
  std::string ask_tested_url;
  bool small_state_saving = false;
  bool small_state_failed = false;
  bool archiving = false;
  bool stopped = false;
  // The CA's clock against ours: renewals by time wait while ours cannot be right.
  bool clock_checking = false;
  bool clock_suspect = false;
  Agenda::Id clock_retry = 0;
  base::Monotonic::time_point clock_checked_until{};
  std::set<std::string> due_after_check;
};

}  // namespace gatehouse::acme
