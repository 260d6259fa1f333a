// SNI and ALPN from the raw bytes of a ClientHello, before an SSL object exists (RFC 8446 4.1.2).
//
// Pure and bounded: reads, never writes, any thread. Not a handshake.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace gatehouse::tls {

inline constexpr size_t client_hello_max = 64 * 1024;

struct ClientHello {
  std::string server_name;  // lower case, without a trailing dot; empty: no SNI
  bool offers_http1 = false;
  bool offers_h2 = false;
  bool offers_acme = false;  // acme-tls/1 (RFC 8737)
  bool has_alpn = false;
  bool tls13 = false;  // supported_versions names TLS 1.3
};

enum class HelloStatus : uint8_t { need_more, complete, malformed, not_tls, too_large };

/// Several records (at most 64) and segments are allowed. `out` is filled only when complete.
/// `malformed` includes a server name that is not a valid LDH host name; an IP address there counts
/// as no SNI.
HelloStatus parse_client_hello(std::span<const uint8_t> bytes, ClientHello& out);

}  // namespace gatehouse::tls
