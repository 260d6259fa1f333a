// The manager's inside: what it knows of each name, shared by the manager_*.cpp files: desks (one a
// CA), handshakes (who waits and what he is given), loaded (what is in memory, and when the rest is
// looked at), orders (loading, ordering), failures (what they lead to), renewals, renewal_info
// (when the CA wants them), requests (what a person asks for), checks (whether what is new is what
// is seen), memory (what outlasts a restart).
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
#include "acme/certificate_details.hpp"
#include "acme/judgement.hpp"
#include "acme/manager.hpp"
#include "acme/names.hpp"
#include "acme/on_demand.hpp"
#include "acme/orders.hpp"
#include "acme/schedule.hpp"
#include "acme/setbacks.hpp"
#include "acme/turnstile.hpp"
#include "acme/vault.hpp"
#include "acme/visits.hpp"

namespace gatehouse::acme {

/// Certificates from CAs kept in memory; the one not visited for longest makes room.
inline constexpr size_t loaded_max = 3072;
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
/// A wish this old still lets a name's order go before others.
inline constexpr std::chrono::minutes wished_lately{15};
/// In front of a certificate's id, for its orders at a staging directory.
inline constexpr const char* rehearsal_prefix = "_staging_.";
/// Between two reports of the same trouble to a person.
inline constexpr std::chrono::hours told_again_after{24};

struct Waiter {
  uint64_t number = 0;
  std::string client;
  std::function<void(tls::Acquired)> deliver;
  Agenda::Id timeout = 0;
};

/// One CA, with all that is its own: orders, breaker, budget. Its account is the authority's.
struct Desk {
  std::shared_ptr<Orders> orders;
  AuthorityBudget budget{false};
  config::CertificateAuthority settings;
  config::Acme acme;
  uint64_t settings_mark = 0;     // of all that a person could change about it
  std::shared_ptr<Desk> staging;  // its staging directory's; null: it has none
  uint64_t orders_counted = 0;
  uint64_t accounts_counted = 0;
  bool budget_changed = false;
  base::Monotonic::time_point no_advice_until{};  // it has no renewal information
  std::set<std::string> explained;                // addresses that were logged
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
  bool permitted = false;     // on demand: allowed
  bool counted = false;       // on demand: its order has been taken from the budget
  bool journalled = false;    // an order of a former process waits to be continued,
  std::string journalled_at;  // at the CA with this directory; empty: not known
  bool stored_checked = false;
  DeskPtr ordering;         // its order is queued or runs there,
  bool rehearsing = false;  // and will be thrown away: it is at a staging directory
  bool budgeted = false;    // and was taken from the budget
  bool slow = false;        // somebody has already waited in vain for the running order
  bool awaits_ca = false;   // for a breaker to close
  bool by_person = false;   // a person wants it now: may take what is kept for one
  uint64_t turn = 0;        // among those that wait for a budget; 0: does not

  unsigned deploy_failures = 0;  // in a row, of certificates that were obtained and not served
  Past past;                     // outlives the process, see remember()
  bool resumed = false;          // its setback is a former process's, and still to be respected
  std::set<std::string> tried;   // CAs asked in this round
  std::vector<base::WallClock::time_point> ordered_at;  // in the last day
  base::Monotonic::time_point refused_at{};             // by a CA, last
  std::vector<DeskPtr> left_at;  // may hold an order of this name that came to nothing
  Agenda::Id retry = 0;
  base::WallClock::time_point renew_at{};
  base::WallClock::time_point renewed_at{};  // a renewal never follows another at once
  Agenda::Id advice_look = 0;
  bool passing = false;  // in memory for a look alone
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
  /// Of its running order, in storage.
  std::string order_id() const { return rehearsing ? rehearsal_prefix + id : id; }
};

inline Lifetime lifetime_of(const tls::Certificate& certificate) {
  return {certificate.not_before(), certificate.not_after()};
}

/// "in 40 s", "in 25 min", "at 2026-01-02T03:04:05Z".
std::string spoken_time(base::WallClock::time_point when, base::WallClock::time_point now);

struct Manager::State : std::enable_shared_from_this<Manager::State> {
  State(boost::asio::io_context& c, base::Fetcher& f, Storage& s, Solvers h, const base::Clock& k,
        base::MetricShard& m, ManagerHooks given, MakeAuthority make);
  ~State();

  // manager.cpp
  static boost::asio::awaitable<base::Result<void>> configure(std::shared_ptr<State> self,
                                                              config::SnapshotPtr next);
  boost::asio::awaitable<base::Result<void>> read_storage();
  static boost::asio::awaitable<base::Result<void>> try_ask(std::shared_ptr<State> self,
                                                            config::SnapshotPtr next);
  void review_entries();
  void review_claim(Entry& entry, Claim claim);
  void review_setback(Entry& entry);
  void start_standing(bool first);
  void resume_journalled();
  static boost::asio::awaitable<void> archive_unclaimed(std::shared_ptr<State> self);
  static boost::asio::awaitable<void> purge(std::shared_ptr<State> self);
  void keep_house();
  static boost::asio::awaitable<void> save_all(std::shared_ptr<State> self);
  std::vector<CertificateStatus> status() const;
  std::string state_of(const Entry& entry) const;
  CertificateStatus status_of(const Entry& entry) const;
  void stop();
  void tell(const Entry& entry, Event::Kind kind, std::string text, const std::string& authority,
            base::WallClock::time_point next_attempt = {}) const;

  // manager_memory.cpp
  boost::asio::awaitable<void> read_memory();
  static boost::asio::awaitable<void> load_budget(std::shared_ptr<State> self, DeskPtr desk);
  void remember(const Entry& entry);
  void note_change();
  static boost::asio::awaitable<void> save_small_state(std::shared_ptr<State> self);
  static boost::asio::awaitable<bool> save_setbacks(std::shared_ptr<State> self, size_t& bytes);

  // manager_desks.cpp
  void set_desks(const config::SnapshotPtr& next);
  DeskPtr desk_for(const config::CertificateAuthority& settings, const config::SnapshotPtr& next);
  DeskPtr make_desk(Authority authority, const config::CertificateAuthority& settings,
                    const config::Acme& acme);
  void dismiss_retired();
  void ask_others();
  DeskPtr desk_of(const std::string& authority) const;
  std::vector<Candidate> candidates(const Entry& entry) const;
  void count_orders(Desk& desk);
  std::vector<BudgetStatus> budget() const;

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
  void look_for_advice(const std::string& id);
  void arm_looks();
  void take_due_looks();
  void renewal_over(const std::string& name);
  bool takes_orders() const;
  void look_at_outage();
  static boost::asio::awaitable<void> tell_unloaded(std::shared_ptr<State> self);
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
  bool resume(Entry& entry);
  bool ask_now(Entry& entry, const Choice& choice);
  void wait_for(Entry& entry, const Choice& choice);
  void await_budget(Entry& entry, base::WallClock::time_point until);
  void leave_budget(const std::string& name);
  void wake_for_budget(base::WallClock::time_point when);
  void serve_budget();
  Urgency urgency_of(const Entry& entry) const;
  void submit(Entry& entry, const DeskPtr& desk, bool rehearsal);
  void ordered(const std::string& name, const DeskPtr& desk, bool rehearsal,
               Outcome<Issued> outcome);
  void unclaimed(Entry& entry, const DeskPtr& desk, tls::CertificatePtr issued);
  void count_placed(Entry& entry, Desk& desk, unsigned orders);
  void obtained(Entry& entry, const DeskPtr& desk, Issued issued);

  // manager_failures.cpp
  void rehearsal_passed(Entry& entry, const DeskPtr& desk);
  void failed(Entry& entry, const DeskPtr& desk, bool rehearsal, Failure failure);
  void not_heard(Entry& entry);
  void limited(Entry& entry, Desk& desk, const Failure& failure);
  void put_off(Entry& entry, const DeskPtr& desk, const Verdict& verdict, const Choice& choice);
  void tell_failure(Entry& entry, const std::string& authority);
  void absolve_entry(Entry& entry);
  void await_ca(Entry& entry);
  void attempt_at(Entry& entry, base::WallClock::time_point when);
  void retry_now(const std::string& name);
  void ca_opened(const Orders* orders);
  void ca_available();
  bool ca_wanted() const;

  // manager_checks.cpp
  /// A certificate that took the place of `before`, null if there was none to return to.
  struct Swap {
    std::string name;
    tls::CertificatePtr fresh, before;
    std::string before_from;  // the CA that issued it
    DeskPtr desk;
  };
  void check_served(const Swap& swap);
  void checked(const Swap& swap, const std::optional<std::string>& problem);
  void judged(const Swap& swap, const std::string& problem,
              const std::optional<std::string>& problem_before);
  static boost::asio::awaitable<void> roll_back(std::shared_ptr<State> self, Swap swap);
  void deploy_failed(const Swap& swap, const std::string& what);
  // manager_renewal_info.cpp
  std::string replaced_by(const Entry& entry, const Desk& desk) const;
  std::optional<base::WallClock::time_point> advised(const Entry& entry) const;
  void plan_advice(Entry& entry);
  void look_after(Entry& entry, base::Monotonic::duration wait);
  void queue_advice(const std::string& name);
  void ask_next();
  static boost::asio::awaitable<void> ask_advice(std::shared_ptr<State> self, DeskPtr desk,
                                                 std::string name, tls::CertificatePtr certificate);
  void take_advice(Entry& entry, Desk& desk, const RenewalInfo& info);

  // manager_renewals.cpp
  void adopt(Entry& entry, tls::CertificatePtr certificate, std::string authority);
  void plan_renewal(Entry& entry);
  bool renewal_due_now(const std::string& name);
  bool renewal_unloaded(const std::string& name);
  void look_after_check();
  void renew(Entry& entry);
  void renew_permitted(const std::string& name, Answer answer);
  bool mourned_lately(const Entry& entry) const;
  void plan_notice(Entry& entry);
  void notice(const std::string& name);
  void notice_of_end(Entry& entry, unsigned stage);
  void remind(Entry& entry);
  bool clock_known();
  static boost::asio::awaitable<void> check_clock(std::shared_ptr<State> self);
  void save(Entry& entry, const DeskPtr& desk);
  static boost::asio::awaitable<void> write(std::shared_ptr<State> self, std::string name,
                                            tls::CertificatePtr certificate, CertificateNote note,
                                            DeskPtr desk, bool internal);
  void written(const std::string& name, const tls::CertificatePtr& certificate, const DeskPtr& desk,
               const base::Result<void>& result);
  static boost::asio::awaitable<void> forget(std::shared_ptr<State> self, DeskPtr desk,
                                             std::string id);

  // manager_requests.cpp
  template <class T>
  using Answered = boost::asio::awaitable<base::Result<T>>;
  std::string subject_of(const std::string& name) const;
  static Answered<CertificateDetails> show(std::shared_ptr<State> self, std::string name);
  std::vector<NameBudget> budgets_of(const std::string& name) const;
  void note_order(Entry& entry);
  unsigned orders_today(const Entry& entry) const;
  base::Result<Claim> may_take_up(const std::string& subject) const;
  static Answered<Entry*> take_up(std::shared_ptr<State> self, std::string name);
  static Answered<void> renew_by_person(std::shared_ptr<State> self, std::string name, bool force);
  base::Result<void> order_by_person(Entry& entry);
  static Answered<void> revoke(std::shared_ptr<State> self, std::string name, int reason);
  static Answered<void> replace_revoked(std::shared_ptr<State> self, std::string name,
                                        tls::CertificatePtr certificate, bool compromised);
  void drop(Entry& entry);
  base::Result<DeskPtr> issuer_of(const Entry& entry) const;
  bool is_revoked(const Entry& entry) const;
  void forget_revoked(const Entry& entry);
  static boost::asio::awaitable<void> unmark(std::shared_ptr<State> self, std::string id);
  boost::asio::awaitable<void> read_revoked();
  static Answered<void> roll_over(std::shared_ptr<State> self, std::string authority);
  void leave_to_owner(std::unordered_set<std::string> names);

  boost::asio::io_context& control;
  base::Fetcher& fetcher;
  Storage& storage;
  Solvers solvers;
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
  Setbacks setbacks;

  config::SnapshotPtr snapshot;
  Claims claims;
  std::unordered_set<std::string> own_names;             // with certificates from a person
  std::unordered_map<std::string, std::string> revoked;  // id → serial, until it is replaced
  std::vector<DeskPtr> desks;                            // as configured, tried in order
  std::vector<DeskPtr> retired;  // no longer configured; their orders still end
  DeskPtr internal_desk;

  std::unordered_map<std::string, std::unique_ptr<Entry>> entries;
  std::unordered_map<std::string, Agenda::Id> renewals;  // of the internal authority's
  std::unordered_set<std::string> renewing;              // looks that were due and have no end yet
  std::list<std::string> loaded_names;                   // the last visited first
  std::set<std::string> awaiting_ca;
  std::map<std::string, base::WallClock::time_point> awaiting_budget;  // until when
  base::WallClock::time_point budget_due = base::WallClock::time_point::max();
  Agenda::Id budget_timer = 0;
  uint64_t last_turn = 0;
  std::deque<std::string> load_queue;
  size_t loads_running = 0;
  std::deque<std::string> advice_queue;
  std::set<std::string> advice_queued;
  Agenda::Id advice_timer = 0;
  size_t looks_running = 0;
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
  std::optional<base::Monotonic::time_point> no_ca_since;
  base::Monotonic::time_point unloaded_told{};  // during that
  std::vector<std::string> looked_over;  // ids, of the part before look_over_part, still to be read
  size_t look_over_part = 0;
  size_t lanes_surveyed = 0;
  Agenda::Id index_save = 0;
  bool index_saving = false;
  bool index_failed = false;
  bool storage_read = false;
  Turnstile saving;
  config::SnapshotPtr ask_tried_for;  // until it is the one in use
  bool small_state_saving = false;
  bool small_state_failed = false;
  base::Monotonic::time_point small_state_rest{};  // not before: much was written
  size_t last_shard = Setbacks::shard_count - 1;   // of the setbacks, written
  bool archiving = false;
  bool stopped = false;
  // The CA's clock against ours: renewals by time wait while ours cannot be right.
  bool clock_checking = false;
  bool clock_suspect = false;
  Agenda::Id clock_retry = 0;
  base::Monotonic::time_point clock_checked_until{};
  std::set<std::string> due_after_check;
  std::set<std::string> notices_after_check;
};

}  // namespace gatehouse::acme
