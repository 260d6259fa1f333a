// The header of the PROXY protocol, versions 1 and 2: what a proxy says about a connection ahead of
// the connection's own bytes (HAProxy's proxy-protocol.txt, sections 2.1 and 2.2).
//
// Pure: bytes in, facts out, and back. Decides no trust and waits for nothing. Any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include <boost/asio/ip/tcp.hpp>

#include "config/snapshot.hpp"

namespace gatehouse::http {

/// The longest line of version 1, its CR LF included (section 2.1).
inline constexpr size_t proxy_v1_bytes_max = 107;
/// The longest header of version 2 that is taken. The format allows 65,551; what senders send, a
/// client's certificate among the TLVs included, fits in this.
inline constexpr size_t proxy_v2_bytes_max = 4096;

/// Who connected to what. IPv4 addresses are never in their IPv6-mapped form.
struct ProxyAddresses {
  boost::asio::ip::tcp::endpoint source;
  boost::asio::ip::tcp::endpoint destination;
};

struct ProxyHeader {
  /// For whom the sender speaks.
  enum class Speaker : uint8_t {
    client,   // one that it names: `addresses`
    unnamed,  // one without an Internet address that it could tell (UNKNOWN, UNSPEC, Unix sockets)
    itself,   // nobody (LOCAL): a health check
  };
  Speaker speaker = Speaker::itself;
  ProxyAddresses addresses;
  size_t size = 0;  // in bytes; what follows is the connection's own
};

struct ProxyHeaderParse {
  enum class Status : uint8_t { need_more, complete, malformed };
  Status status = Status::need_more;
  ProxyHeader header;             // when complete
  const char* problem = nullptr;  // when malformed: "it …"
};

/// `bytes` are all that came so far; more may follow the header. Says malformed as soon as no
/// further byte could mend it. TLVs are skipped, their lengths and a CRC32C verified.
ProxyHeaderParse parse_proxy_header(std::string_view bytes);

struct ProxyHeaderText {
  std::array<char, proxy_v1_bytes_max> bytes;
  size_t size = 0;
  std::string_view view() const { return {bytes.data(), size}; }
};

/// A header to be sent; not with `off`. Without addresses it says that they are unknown (UNKNOWN,
/// UNSPEC). An IPv4 address beside an IPv6 one is written in its mapped form: a header has one
/// family.
ProxyHeaderText write_proxy_header(config::ProxyProtocol version,
                                   const std::optional<ProxyAddresses>& addresses);

}  // namespace gatehouse::http
