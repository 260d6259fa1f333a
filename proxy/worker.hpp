// One thread of the data path: its io_context and reactor, its listeners, connections and pool.
//
// Shares nothing that changes with other workers. Everything here is called on the worker's own
// thread, except what says otherwise.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include "base/metrics.hpp"
#include "base/reactor.hpp"
#include "proxy/access_log.hpp"
#include "proxy/connection.hpp"
#include "proxy/limits.hpp"
#include "proxy/listener.hpp"
#include "proxy/policy.hpp"
#include "proxy/pool.hpp"
#include "proxy/retry_budget.hpp"
#include "proxy/server.hpp"
#include "tls/certificate_table.hpp"
#include "tls/ticket_keys.hpp"

namespace gatehouse::proxy {

class Worker {
 public:
  Worker(size_t index, base::MetricShard& metrics, AccessLog::Shard& access_log,
         ConnectionLimits& limits, const ServerHooks& hooks);
  ~Worker();

  // --- the control thread
  /// Runs until stop(). Called once, on the thread that becomes the worker's.
  void run();
  /// Runs `change` on the worker's thread.
  void post(std::function<void()> change) { reactor_.post(std::move(change)); }
  /// Ends run().
  void stop();

  // --- the worker's thread (before run(), the control thread)
  void use(PolicyPtr policy);
  void use(tls::CertificateTablePtr table) { certificates_ = std::move(table); }
  void listen(size_t id, config::ListenAddress address, bool encrypted, BoundSocket socket);
  /// Accepts what is queued, closes the listener, drains its connections.
  void unlisten(size_t id);
  /// Closes all listeners and drains every connection; `done` when the last one has ended.
  void drain(std::function<void()> done);
  /// Ends every connection now.
  void break_off();

  size_t index() const { return index_; }
  base::Reactor& reactor() { return reactor_; }
  base::MetricShard& metrics() { return metrics_; }
  AccessLog::Shard& access_log() { return access_log_; }
  Pool& pool() { return pool_; }
  /// A copy keeps the policy alive; copies are cheap here, their counter is this worker's own.
  const PolicyPtr& policy() const { return policy_; }
  const tls::CertificateTablePtr& certificates() const { return certificates_; }
  RetryBudget& retry_budget(size_t upstream_index) { return retry_budgets_[upstream_index]; }
  BalanceTurn& balance_turn(size_t upstream_index) { return balance_turns_[upstream_index]; }
  const LocalResponder& local() const { return hooks_.local; }

  /// For a hello that offers acme-tls/1; null: no challenge for that name runs.
  tls::CertificatePtr challenge_certificate(const std::string& server_name) const {
    return hooks_.challenge_certificate ? hooks_.challenge_certificate(index_, server_name)
                                        : nullptr;
  }
  void acquire(const std::string& name, const std::string& client,
               std::function<void(tls::Acquired)> deliver);
  void seen(const std::string& name);
  /// Counts a connection whose client became known late; false: that client has too many.
  bool admit_client(Connection& connection);
  /// The connection has ended: frees it at the end of the batch.
  void remove(Connection& connection);

 private:
  void accept(size_t id, Listener& listener, int fd, const boost::asio::ip::tcp::endpoint& peer);

  size_t index_;
  base::MetricShard& metrics_;
  AccessLog::Shard& access_log_;
  ConnectionLimits& limits_;
  const ServerHooks& hooks_;
  boost::asio::io_context context_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  base::Reactor reactor_;
  Pool pool_;
  PolicyPtr policy_;
  tls::CertificateTablePtr certificates_ = tls::CertificateTable::empty();
  std::vector<RetryBudget> retry_budgets_;  // by upstream index, like the next
  std::vector<BalanceTurn> balance_turns_;
  struct Listening {
    size_t id;
    std::unique_ptr<Listener> listener;
  };
  std::vector<Listening> listeners_;
  std::vector<std::unique_ptr<Connection>> connections_;
  // On-demand names reported lately, by hash: the keeper of certificates wants to know roughly when
  // a name was used, not every time.
  struct Seen {
    size_t hash = 0;
    base::Monotonic::time_point until;
  };
  static constexpr size_t seen_slots = 4096;
  static constexpr std::chrono::hours seen_interval{1};
  std::vector<Seen> seen_{seen_slots};
  std::function<void()> drained_;
};

}  // namespace gatehouse::proxy
