// All workers as one: binds listeners, publishes what workers share, drains.
//
// Does not load configuration or certificates (app hands them in) and touches no request: workers
// do. Lives on the control thread; `publish` is the only verb across threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "base/error.hpp"
#include "base/metrics.hpp"
#include "config/snapshot.hpp"
#include "proxy/access_log.hpp"
#include "tls/certificate_table.hpp"
#include "tls/ticket_keys.hpp"

namespace gatehouse::proxy {

class Worker;

/// Answers some targets on plain listeners ahead of everything else: HTTP-01. Called on worker
/// `worker`'s thread; the body, or null to go on. The pointer is valid until the next event.
using LocalResponder = std::function<const std::string*(size_t worker, std::string_view host,
                                                        std::string_view target)>;

/// The certificate for a hello that offers acme-tls/1 (RFC 8737), or null. Called on worker
/// `worker`'s thread.
using ChallengeCertificate =
    std::function<tls::CertificatePtr(size_t worker, const std::string& server_name)>;

struct ServerHooks {
  tls::AcquireCertificate acquire;                    // called on a worker's thread
  LocalResponder local;                               // called on a worker's thread
  ChallengeCertificate challenge_certificate;         // called on a worker's thread
  std::function<void(const std::string& name)> seen;  // served from the table; any worker's thread
};

struct ServerStatus {
  size_t workers = 0;
  int64_t connections = 0;
  int64_t requests_active = 0;
};

class Server {
 public:
  Server(boost::asio::io_context& control, base::Metrics& metrics, AccessLog& access_log,
         ServerHooks hooks);
  ~Server();

  /// The number of workers a snapshot asks for: `workers`, or one for each CPU this process may
  /// use.
  static size_t worker_count(const config::Snapshot& snapshot);

  /// Binds every listener (all errors name the address and the way out), builds routers and TLS
  /// contexts; nothing is accepted before run().
  base::Result<void> bind(config::SnapshotPtr snapshot);
  /// Starts the worker threads.
  void run();

  /// Switches to `snapshot`: new listeners are bound first (a failure changes nothing), then all
  /// workers switch, then removed listeners close and their connections drain. Kept connections
  /// and requests under way are untouched.
  boost::asio::awaitable<base::Result<void>> reload(config::SnapshotPtr snapshot);

  void publish_certificates(tls::CertificateTablePtr table, std::function<void()> done);
  void publish_ticket_keys(tls::TicketKeysPtr keys, std::function<void()> done);
  /// Calls `change(worker index)` on each worker's thread; `done` on the control thread when all
  /// have run.
  void publish(std::function<void(size_t worker)> change, std::function<void()> done);

  /// Stops accepting, lets requests end (responses carry Connection: close), and returns when all
  /// have, or after the snapshot's `grace`. Then stop() ends the threads.
  boost::asio::awaitable<void> drain();
  void stop();

  ServerStatus status() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace gatehouse::proxy
