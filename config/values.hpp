// The small types of the configuration, each from its text: durations, sizes, addresses, networks,
// host patterns.
//
// Not the reader (reader.hpp): nothing here knows files or key paths. Pure, any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include <boost/system/result.hpp>

#include "config/snapshot.hpp"
#include "config/text.hpp"

namespace gatehouse::config {

/// Why a text is not a value of the type: half a sentence that also names the way out.
struct Mistake {
  std::string text;
};

template <class T>
using Parsed = boost::system::result<T, Mistake>;

/// "500ms" "10s" "5m" "24h" "365d", whole numbers; "0" needs no unit. At most 100 years.
Parsed<Duration> parse_duration(std::string_view text);

/// "512B" "16KiB" "10MiB" "2GiB" in bytes, or a bare number of bytes. KB, MB and GB are refused:
/// nobody agrees on what they mean.
Parsed<uint64_t> parse_size(std::string_view text);

/// "127.0.0.1:8443", "[::1]:443", ":443", "unix:/path".
Parsed<ListenAddress> parse_listen_address(std::string_view text);

/// "10.0.0.0/8", "fd00::/8", or one address. Bits after the prefix must be zero.
Parsed<Network> parse_network(std::string_view text);

/// "example.com", "*.example.com", "*", an address ("10.0.0.1", "[::1]"). Lower-cased.
Parsed<HostGlob> parse_host_glob(std::string_view text);

/// As `protocol` of an upstream writes it, and as it stands in front of a server's address.
std::string_view protocol_name(UpstreamProtocol protocol);
std::string_view scheme_of(UpstreamProtocol protocol);

/// A server to connect to, as an upstream or one of its servers names it.
struct ServerAddress {
  Endpoint endpoint;    // port 0: none was written (the protocol's default applies)
  bool scheme = false;  // one was written, such as https://
  UpstreamProtocol protocol = UpstreamProtocol::http1;  // what it says
};

/// "localhost:8080", "10.0.0.7", "https://10.0.0.7", "h2c://10.0.0.8:50051",
/// "[::1]:8080", "unix:/run/app.sock".
Parsed<ServerAddress> parse_server_address(std::string_view text);

/// True for a text that names an [upstream.NAME] and cannot be an address.
bool is_upstream_reference(std::string_view text);

}  // namespace gatehouse::config
