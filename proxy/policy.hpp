// What a snapshot means for requests: router, upstreams, TLS contexts, settings of the streams.
//
// Built aside on the control thread, then immutable and shared by all workers; a request keeps the
// one it began with.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "config/snapshot.hpp"
#include "http/client_connection.hpp"
#include "http/http1_server.hpp"
#include "http/http2_server.hpp"
#include "proxy/router.hpp"
#include "proxy/upstream.hpp"
#include "tls/context.hpp"

namespace gatehouse::proxy {

struct Policy {
  config::SnapshotPtr snapshot;
  Router router;
  std::vector<Upstream> upstreams;  // by the router's index
  tls::ContextPtr tls12, tls13;     // by the site's tls_min
  tls::ContextPtr challenge;        // for hellos that offer acme-tls/1
  http::Http1Server::Settings server;
  http::Http2Server::Settings http2_server;
  http::ClientConnection::Settings client;
  uint16_t https_port = 443;  // where plain requests are redirected to

  /// Fails if a file that an upstream's TLS names cannot be used.
  static base::Result<std::shared_ptr<const Policy>> build(config::SnapshotPtr snapshot,
                                                           UpstreamRegistry& registry);

 private:
  explicit Policy(config::SnapshotPtr s) : snapshot(s), router(s) {}
};

using PolicyPtr = std::shared_ptr<const Policy>;

}  // namespace gatehouse::proxy
