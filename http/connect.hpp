// A new connection to an origin: resolve, connect, TLS handshake, SETTINGS, all within one
// deadline.
//
// Does not choose the origin (balancer) or keep connections (pool). Lives on one worker's thread.
#pragma once

#include <memory>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <vector>

#include "base/metrics.hpp"
#include "base/reactor.hpp"
#include "base/task.hpp"
#include "http/client_connection.hpp"
#include "tls/context.hpp"

namespace gatehouse::http {

/// Of the descriptors that the process may have, clients and connections to origins take no more
/// than these: the rest is for files, CAs and the admin interface.
inline constexpr unsigned descriptors_percent = 94;

/// Where an origin is and how to speak to it. Immutable.
struct Origin {
  std::string text;  // as configured, for messages
  std::string host;  // a name or an address; empty with unix_path
  uint16_t port = 0;
  std::string unix_path;
  tls::ContextPtr tls;   // null: plain
  std::string tls_name;  // sent as SNI and verified
  bool verify = true;
  config::ProxyProtocol proxy_protocol = config::ProxyProtocol::off;
  bool http2 = false;  // over TLS by ALPN, over plain with prior knowledge

  /// One connection carries many requests.
  bool multiplexed() const { return http2; }
};

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

/// What a name resolved to, kept by the caller between connections. One worker's.
struct ResolvedAddresses {
  static constexpr std::chrono::seconds lifetime{10};
  static constexpr size_t addresses_max = 16;
  std::vector<SocketAddress> addresses;
  base::Monotonic::time_point until;
};

/// Lets somebody give a connect up while it runs: it ends at once, with a failure.
class Connecting {
 public:
  void cancel();

 private:
  friend struct Deadline;
  struct Deadline* deadline_ = nullptr;
};

/// Tries each address in turn. Errors are the upstream's, safe to retry elsewhere: no byte of a
/// request was sent. `preamble` is sent ahead of everything, TLS included. `origin`, `resolved`,
/// `connecting` and the preamble outlive the task.
base::Task<base::Result<std::unique_ptr<ClientConnection>>> connect(
    base::Reactor& reactor, base::MetricShard& metrics, const Origin& origin,
    ResolvedAddresses& resolved, config::Duration timeout,
    const ClientConnection::Settings& settings, std::string_view preamble, Connecting& connecting);

}  // namespace gatehouse::http
