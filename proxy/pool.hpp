// Idle connections to upstream endpoints, kept for the next request.
//
// Does not choose endpoints (balancer) or open connections (http/connect). Lives on one worker; a
// pool never shares a connection with another thread.
#pragma once

#include <memory>
#include <vector>

#include "base/metrics.hpp"
#include "base/reactor.hpp"
#include "http/connect.hpp"
#include "http/http1_client.hpp"

namespace gatehouse::proxy {

class Pool final : public http::Http1Client::Keeper {
 public:
  /// Idle connections kept for one endpoint; the oldest goes when one more comes.
  static constexpr size_t idle_max = 512;

  Pool(base::Reactor& reactor, base::MetricShard& metrics) : reactor_(reactor), metrics_(metrics) {}
  ~Pool();

  /// Takes an idle connection of that endpoint, newest first: the newest is the least likely to
  /// have been closed by the other side while idle. `settings` hold from now on. Null: there is
  /// none.
  std::unique_ptr<http::Http1Client> acquire(size_t endpoint_id,
                                             const http::Http1Client::Settings& settings);
  /// Takes a connection back after an exchange: keeps it if it may be reused, else closes it.
  void release(size_t endpoint_id, std::unique_ptr<http::Http1Client> client);
  /// Closes a connection and frees it when that is safe.
  void discard(std::unique_ptr<http::Http1Client> client);
  /// Closes everything idle (at stop).
  void clear();

  /// What the endpoint's name resolved to on this worker.
  http::ResolvedAddresses& resolved(size_t endpoint_id) { return at(endpoint_id).resolved; }

 private:
  struct Kept {
    std::vector<std::unique_ptr<http::Http1Client>> idle;  // the newest last
    http::ResolvedAddresses resolved;
  };

  void on_idle_lost(http::Http1Client& client) override;
  Kept& at(size_t endpoint_id);

  base::Reactor& reactor_;
  base::MetricShard& metrics_;
  std::vector<std::unique_ptr<Kept>> kept_;
};

}  // namespace gatehouse::proxy
