// SSL_CTX for a policy: one for the server side of each tls_min, one for challenges, one for each
// upstream's client side. Certificates are attached to each SSL (certificate_table), not to a
// context.
//
// Immutable once made; contexts are shared by all threads.
#pragma once

#include <memory>
#include <string>

#include "base/error.hpp"
#include "config/snapshot.hpp"

struct ssl_ctx_st;

namespace gatehouse::tls {

using base::Result;

class Context {
 public:
  /// Server side: TLS 1.2 (ECDHE + AEAD only) and 1.3; AES-128-GCM first, ChaCha20 for clients
  /// that prefer it; X25519MLKEM768 (where OpenSSL has it), X25519, P-256, P-384; one ticket;
  /// stateless tickets from current_ticket_keys(); no renegotiation, no compression, no early
  /// data, no session cache; ALPN selects "h2" before "http/1.1" (a client that offers ALPN without
  /// either gets no_application_protocol). SSL_MODE_RELEASE_BUFFERS, ENABLE_PARTIAL_WRITE,
  /// ACCEPT_MOVING_WRITE_BUFFER.
  static Result<std::shared_ptr<const Context>> server(config::TlsVersion minimum);
  /// Server side for hellos that offer acme-tls/1 (RFC 8737): selects that protocol and no other,
  /// issues no tickets; TLS 1.2 and 1.3.
  static Result<std::shared_ptr<const Context>> challenge();
  /// Client side for `https` upstreams: verification with the system's roots or `tls.ca`, session
  /// resumption left to OpenSSL's defaults, ALPN h2 or http/1.1. Errors name the file at fault.
  static Result<std::shared_ptr<const Context>> client(const config::UpstreamTls& settings,
                                                       bool http2 = false);

  ssl_ctx_st* native() const { return context_.get(); }

 private:
  explicit Context(ssl_ctx_st* context);
  std::shared_ptr<ssl_ctx_st> context_;
};

using ContextPtr = std::shared_ptr<const Context>;

}  // namespace gatehouse::tls
