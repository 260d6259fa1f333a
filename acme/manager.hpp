// Keeps every name's certificate fresh: loads, obtains, renews, falls back, and says what it did.
//
// Does not talk ACME (issuer) or serve TLS (tls, through the hooks). One for the process, on the
// control thread; a reload of the configuration never aborts an order or drops a certificate.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "acme/authority.hpp"
#include "acme/budget.hpp"
#include "acme/event.hpp"
#include "acme/solver/solvers.hpp"
#include "acme/storage/storage.hpp"
#include "base/clock.hpp"
#include "base/fetch.hpp"
#include "base/metrics.hpp"
#include "config/snapshot.hpp"
#include "tls/certificate.hpp"
#include "tls/certificate_table.hpp"

namespace gatehouse::acme {

struct ManagerHooks {
  /// A certificate to be served for `name` from now on (also "*.zone").
  std::function<void(std::string name, tls::CertificatePtr certificate)> serve;
  /// The self-signed stand-in for `zone` and one label below it.
  std::function<void(std::string zone, tls::CertificatePtr certificate)> serve_fallback;
  /// No longer to be served.
  std::function<void(std::string name)> withdraw;
  /// May be empty: looks, as a visitor would, whether `certificate` is what `name` is answered with
  /// now, and reports once what is wrong, as a sentence's end; empty: it is; nullopt: that cannot
  /// be seen.
  std::function<void(std::string name, tls::CertificatePtr certificate,
                     std::function<void(std::optional<std::string> problem)> report)>
      check;
  /// May be empty: the user's own stand-in for `name` (fallback_certificate), or null.
  std::function<tls::CertificatePtr(const std::string& name)> own_fallback;
  /// May be empty: what a person may want to know. Returns at once.
  std::function<void(const Event&)> tell;
};

/// For `gatehouse certs list` and the admin interface.
struct CertificateStatus {
  std::string name;
  std::string state;   // "active", "ordering", "backoff", "blocked", "waiting", "expired",
                       // "revoked", or "stored": not in memory, as its last visit is long ago;
                       // "file", "custom": the user's own; "archived": no site has it
  std::string issuer;  // empty: none yet
  std::string serial;
  std::chrono::system_clock::time_point not_before, not_after, renew_at;  // epoch: unknown
  bool on_demand = false;
  std::string last_error;
  std::chrono::system_clock::time_point next_attempt;
};

struct CertificateDetails;  // certificate_details.hpp

/// How one CA stands: what may still be ordered there, for commands and the admin interface.
struct BudgetStatus {
  std::string authority;
  bool open = false;  // its breaker: nothing is ordered there before
  std::chrono::system_clock::time_point next_try;
  size_t running = 0;  // orders
  size_t waiting = 0;
  /// `left` of `capacity`, the next one at `ready`; of the many, only those that are used up.
  std::vector<AuthorityBudget::Bucket> buckets;
};

class Manager {
 public:
  /// References outlive the manager and the handlers of `control`. `make_authority` empty: ACME.
  Manager(boost::asio::io_context& control, base::Fetcher& fetcher, Storage& storage,
          Solvers solvers, const base::Clock& clock, base::MetricShard& metrics, ManagerHooks hooks,
          MakeAuthority make_authority = {});
  ~Manager();
  Manager(const Manager&) = delete;
  Manager& operator=(const Manager&) = delete;

  /// Asks `snapshot`'s on_demand.ask, if it is not the one in use, about a made-up name, which it
  /// must deny: the error is for the person. So that a reload can be refused before anything is
  /// switched; configure() does not ask for the same snapshot again.
  boost::asio::awaitable<base::Result<void>> try_ask(config::SnapshotPtr snapshot);

  /// The configuration to work for, at start and at each reload. Loads what is stored, starts what
  /// is missing; never waits for a CA. Begins with try_ask(), whose error stops the start.
  boost::asio::awaitable<base::Result<void>> configure(config::SnapshotPtr snapshot);

  /// A first handshake for `name`, which the table lacks. `deliver` is called exactly once, at the
  /// latest after on_demand.wait. See CERTIFICATES section 3 for the order of checks.
  void acquire(std::string name, std::string client_address,
               std::function<void(tls::Acquired)> deliver);

  /// A handshake was served from the table: keeps the name in memory, and one on demand among those
  /// that renew.
  void seen(const std::string& name);

  std::vector<CertificateStatus> status() const;
  /// How many are in each state, without the list.
  std::map<std::string, size_t> states() const;

  /// One for each CA, in the order of the configuration.
  std::vector<BudgetStatus> budget() const;
  // What a person asks for (manager_requests.cpp). An Error's sentence is for that person; its
  // kind: not_found, unavailable (not now, or not so), protocol (the CA refused), io.

  /// All that is known of the certificate that serves `name`, or shall.
  boost::asio::awaitable<base::Result<CertificateDetails>> show(std::string name);
  /// Orders at once, with no regard to failures before, and with the order that the budget keeps
  /// for a person; returns when the order has begun. Without `force` only what is due, or fails.
  boost::asio::awaitable<base::Result<void>> renew(std::string name, bool force);
  /// Has the CA revoke the certificate, then orders a new one. `reason` is a code of RFC 5280
  /// section 5.3.1; with keyCompromise (1) the revoked one is no longer served.
  boost::asio::awaitable<base::Result<void>> revoke(std::string name, int reason);
  /// Gives the account at that CA a new key.
  boost::asio::awaitable<base::Result<void>> roll_over(std::string authority);

  /// These names have certificates from a person: none is ordered. Names that are no longer among
  /// them are the manager's again.
  void leave_to_owner(std::unordered_set<std::string> names);

  /// Looks at the clocks now: after the machine slept, or a test moved them.
  void recheck();

  /// Stops starting anything; running orders stay journalled and resume at the next start. Calls
  /// `stored` when budgets and visits are in the storage, or cannot get there.
  void stop(std::function<void()> stored = [] {});

  struct State;

 private:
  std::shared_ptr<State> state_;
};

/// The same list from storage alone, for the command line when no gatehouse runs.
boost::asio::awaitable<base::Result<std::vector<CertificateStatus>>> read_status(Storage& storage);

}  // namespace gatehouse::acme
