#include "config/values.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <optional>

#include <boost/asio/ip/address.hpp>
#include <fmt/format.h>

namespace gatehouse::config {

namespace ip = boost::asio::ip;

namespace {

constexpr size_t host_bytes_max = 253;       // RFC 1035 section 2.3.4, without the final dot
constexpr size_t label_bytes_max = 63;       // the same
constexpr size_t unix_path_bytes_max = 107;  // sockaddr_un::sun_path with its terminator
constexpr uint64_t duration_ms_max = uint64_t{100} * 365 * 24 * 3600 * 1000;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

struct Quantity {
  uint64_t number = 0;
  std::string_view unit;
};

/// Digits, then a unit; nothing when there are no digits or they do not fit.
std::optional<Quantity> split_quantity(std::string_view text) {
  Quantity result;
  const auto* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, result.number);
  if (error != std::errc{}) return std::nullopt;
  result.unit = std::string_view(rest, static_cast<size_t>(end - rest));
  return result;
}

Mistake mistake(std::string text) {
  return Mistake{std::move(text)};
}

std::optional<uint16_t> parse_port(std::string_view text) {
  uint32_t port = 0;
  const auto* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, port);
  if (error != std::errc{} || rest != end || port == 0 || port > 65535) return std::nullopt;
  return static_cast<uint16_t>(port);
}

Mistake bad_port(std::string_view port) {
  return mistake(fmt::format("{} is no port: use 1 to 65535", in_quotes(port)));
}

std::optional<ip::address> parse_address(std::string_view text) {
  boost::system::error_code error;
  const auto address = ip::make_address(std::string(text), error);
  if (error || (address.is_v6() && address.to_v6().scope_id() != 0)) return std::nullopt;
  return address;
}

/// The path of "unix:/path".
Parsed<std::string> parse_unix_path(std::string_view text) {
  const auto path = text.substr(text.find(':') + 1);
  if (path.empty() || path.front() != '/') {
    return mistake(fmt::format("{}: a socket needs an absolute path, such as 'unix:/run/app.sock'",
                               in_quotes(text)));
  }
  if (path.size() > unix_path_bytes_max || path.find('\0') != path.npos) {
    return mistake(fmt::format("{}: a socket's path has at most {} bytes", in_quotes(text),
                               unix_path_bytes_max));
  }
  return Parsed<std::string>(boost::system::in_place_value, path);
}

struct HostPort {
  std::string_view host;  // without brackets
  std::string_view port;
  bool brackets = false;
  bool has_port = false;
};

std::optional<HostPort> split_host_port(std::string_view text) {
  HostPort result;
  if (text.starts_with('[')) {
    const auto close = text.find(']');
    if (close == text.npos) return std::nullopt;
    result.host = text.substr(1, close - 1);
    result.brackets = true;
    text.remove_prefix(close + 1);
    if (text.empty()) return result;
    if (text.front() != ':') return std::nullopt;
    result.port = text.substr(1);
    result.has_port = true;
    return result;
  }
  const auto colon = text.find(':');
  if (colon == text.npos) {
    result.host = text;
    return result;
  }
  if (text.find(':', colon + 1) != text.npos) return std::nullopt;  // IPv6 without brackets
  result.host = text.substr(0, colon);
  result.port = text.substr(colon + 1);
  result.has_port = true;
  return result;
}

/// A name by the rules of RFC 1123 section 2.1, with the underscore that private names use.
std::string host_problem(std::string_view host) {
  if (host.empty()) return "is empty";
  if (host.size() > host_bytes_max) return fmt::format("is longer than {} bytes", host_bytes_max);
  if (host.back() == '.') return "ends in a dot: leave it out";
  size_t begin = 0;
  while (begin <= host.size()) {
    const auto end = std::min(host.find('.', begin), host.size());
    const auto label = host.substr(begin, end - begin);
    if (label.empty()) return "has an empty label";
    if (label.size() > label_bytes_max) {
      return fmt::format("has a label longer than {} bytes", label_bytes_max);
    }
    for (const char c : label) {
      if (static_cast<unsigned char>(c) >= 0x80) return "is not ASCII: write its xn-- form";
      if (c == '*') return "has a * in the wrong place: only the whole first label may be *";
      if (!is_letter(c) && !is_digit(c) && c != '-' && c != '_') return "is no host name";
    }
    if (label.front() == '-' || label.back() == '-') return "has a label with - at its edge";
    begin = end + 1;
  }
  return {};
}

}  // namespace

Parsed<Duration> parse_duration(std::string_view text) {
  static constexpr std::string_view way_out =
      "write a number and a unit: 500ms, 10s, 5m, 24h, 365d";
  const auto quantity = split_quantity(text);
  if (!quantity) return mistake(fmt::format("{} is no duration: {}", in_quotes(text), way_out));
  uint64_t factor = 0;
  if (quantity->unit == "ms") factor = 1;
  if (quantity->unit == "s") factor = 1000;
  if (quantity->unit == "m") factor = 60'000;
  if (quantity->unit == "h") factor = 3'600'000;
  if (quantity->unit == "d") factor = 86'400'000;
  if (factor == 0 && quantity->unit.empty() && quantity->number == 0) return Duration(0);
  if (factor == 0) {
    const auto* what = quantity->unit.empty() ? "lacks a unit" : "has an unknown unit";
    return mistake(fmt::format("the duration {} {}: {}", in_quotes(text), what, way_out));
  }
  if (quantity->number > duration_ms_max / factor) {
    return mistake(fmt::format("the duration {} is over 100 years", in_quotes(text)));
  }
  return Duration(static_cast<int64_t>(quantity->number * factor));
}

Parsed<uint64_t> parse_size(std::string_view text) {
  static constexpr std::string_view way_out = "write a number and a unit: 512B, 16KiB, 10MiB, 2GiB";
  const auto quantity = split_quantity(text);
  if (!quantity) return mistake(fmt::format("{} is no size: {}", in_quotes(text), way_out));
  int shift = -1;
  if (quantity->unit.empty() || quantity->unit == "B") shift = 0;
  if (quantity->unit == "KiB") shift = 10;
  if (quantity->unit == "MiB") shift = 20;
  if (quantity->unit == "GiB") shift = 30;
  if (shift < 0) {
    const auto letter = lower_case(quantity->unit.substr(0, 1));
    const auto* instead = letter == "k"   ? "KiB"
                          : letter == "m" ? "MiB"
                          : letter == "g" ? "GiB"
                                          : nullptr;
    if (instead != nullptr) {
      return mistake(fmt::format("the size {} has an unknown unit: did you mean '{}{}'?",
                                 in_quotes(text), quantity->number, instead));
    }
    return mistake(fmt::format("the size {} has an unknown unit: {}", in_quotes(text), way_out));
  }
  if (quantity->number > (uint64_t{1} << (62 - shift))) {
    return mistake(fmt::format("the size {} is too large", in_quotes(text)));
  }
  return quantity->number << shift;
}

Parsed<ListenAddress> parse_listen_address(std::string_view text) {
  static constexpr std::string_view way_out =
      "write ':443', '127.0.0.1:8443', '[::1]:443' or 'unix:/path'";
  ListenAddress result;
  result.text = text;
  if (text.starts_with("unix:")) {
    auto path = parse_unix_path(text);
    if (!path) return path.error();
    result.unix_path = std::move(*path);
    return result;
  }
  const auto parts = split_host_port(text);
  if (!parts || !parts->has_port) {
    return mistake(fmt::format("{} is no address to listen on: {}", in_quotes(text), way_out));
  }
  const auto port = parse_port(parts->port);
  if (!port) return bad_port(parts->port);
  result.port = *port;
  if (parts->host.empty() && !parts->brackets) return result;
  const auto address = parse_address(parts->host);
  if (!address || address->is_v6() != parts->brackets) {
    return mistake(fmt::format("{} is no IP address: {}", in_quotes(parts->host), way_out));
  }
  result.host = address->to_string();
  return result;
}

Parsed<Network> parse_network(std::string_view text) {
  const auto slash = text.find('/');
  const auto address = parse_address(text.substr(0, slash));
  if (!address) {
    return mistake(fmt::format("{} is no network: write '10.0.0.0/8', 'fd00::/8' or one address",
                               in_quotes(text)));
  }
  const uint32_t bits = address->is_v4() ? 32 : 128;
  uint32_t prefix = bits;
  if (slash != text.npos) {
    const auto digits = text.substr(slash + 1);
    const auto quantity = split_quantity(digits);
    if (!quantity || !quantity->unit.empty() || quantity->number > bits) {
      return mistake(fmt::format("{} has no valid prefix: use /0 to /{}", in_quotes(text), bits));
    }
    prefix = static_cast<uint32_t>(quantity->number);
  }
  Network result{*address, static_cast<uint8_t>(prefix)};
  const auto masked = [prefix](auto bytes) {
    for (size_t i = 0; i < bytes.size(); ++i) {
      const auto kept = std::clamp<int>(static_cast<int>(prefix) - static_cast<int>(i) * 8, 0, 8);
      bytes[i] = static_cast<unsigned char>(bytes[i] & (0xff00 >> kept));
    }
    return bytes;
  };
  const ip::address base = address->is_v4()
                               ? ip::address(ip::address_v4(masked(address->to_v4().to_bytes())))
                               : ip::address(ip::address_v6(masked(address->to_v6().to_bytes())));
  if (base != *address) {
    return mistake(fmt::format("{} has bits set after its prefix: did you mean '{}/{}'?",
                               in_quotes(text), base.to_string(), prefix));
  }
  if (result.address.is_v6() && result.address.to_v6().is_v4_mapped() && prefix >= 96) {
    result.address = ip::make_address_v4(ip::v4_mapped, result.address.to_v6());
    result.prefix = static_cast<uint8_t>(prefix - 96);
  }
  return result;
}

Parsed<HostGlob> parse_host_glob(std::string_view text) {
  if (text == "*") return HostGlob{"*"};
  if (text.find("://") != text.npos || text.find('/') != text.npos) {
    return mistake(fmt::format("{} is not a host: leave out scheme and path", in_quotes(text)));
  }
  if (text.starts_with('[')) {
    const auto address = text.ends_with(']') ? parse_address(text.substr(1, text.size() - 2))
                                             : std::optional<ip::address>();
    if (!address || !address->is_v6()) {
      return mistake(fmt::format("{} is no host: write an IPv6 address as '[::1]', without a port",
                                 in_quotes(text)));
    }
    return HostGlob{"[" + address->to_string() + "]"};
  }
  if (text.find(':') != text.npos) {
    return mistake(fmt::format("{} is not a host: leave out the port, which server.https names",
                               in_quotes(text)));
  }
  const auto name = text.starts_with("*.") ? text.substr(2) : text;
  if (const auto problem = host_problem(name); !problem.empty()) {
    return mistake(fmt::format("the host {} {}", in_quotes(text), problem));
  }
  const auto last = name.substr(name.rfind('.') == name.npos ? 0 : name.rfind('.') + 1);
  const bool number = std::all_of(last.begin(), last.end(), is_digit);
  if (number && (text != name || !parse_address(name))) {
    return mistake(fmt::format("the host {} is neither a name nor an address", in_quotes(text)));
  }
  return HostGlob{lower_case(text)};
}

namespace {

struct ProtocolWords {
  UpstreamProtocol protocol;
  std::string_view name;
  std::string_view scheme;
};
constexpr ProtocolWords protocols[] = {{UpstreamProtocol::http1, "http1", "http"},
                                       {UpstreamProtocol::https, "https", "https"},
                                       {UpstreamProtocol::h2c, "h2c", "h2c"},
                                       {UpstreamProtocol::h2, "h2", "h2"}};

const ProtocolWords& words_of(UpstreamProtocol protocol) {
  return *std::ranges::find(protocols, protocol, &ProtocolWords::protocol);
}

}  // namespace

std::string_view protocol_name(UpstreamProtocol protocol) {
  return words_of(protocol).name;
}

std::string_view scheme_of(UpstreamProtocol protocol) {
  return words_of(protocol).scheme;
}

Parsed<ServerAddress> parse_server_address(std::string_view text) {
  static constexpr std::string_view way_out =
      "write 'localhost:8080', 'https://10.0.0.7', '[::1]:8080' or 'unix:/run/app.sock'";
  ServerAddress result;
  result.endpoint.text = text;
  if (text.starts_with("unix:")) {
    auto path = parse_unix_path(text);
    if (!path) return path.error();
    result.endpoint.unix_path = std::move(*path);
    return result;
  }
  auto rest = text;
  if (const auto scheme = text.find("://"); scheme != text.npos) {
    const auto name = text.substr(0, scheme);
    const auto* const words = std::ranges::find(protocols, name, &ProtocolWords::scheme);
    if (words == std::end(protocols)) {
      return mistake(fmt::format(
          "{} has an unknown scheme: use http://, https://, h2c:// or h2:// (HTTP/2 over TLS)",
          in_quotes(text)));
    }
    result.scheme = true;
    result.protocol = words->protocol;
    rest.remove_prefix(scheme + 3);
    if (rest.ends_with('/')) rest.remove_suffix(1);
  }
  if (rest.find_first_of("/?#@") != rest.npos) {
    return mistake(fmt::format("{} has more than a host and a port: leave out path and user",
                               in_quotes(text)));
  }
  const auto parts = split_host_port(rest);
  if (!parts) return mistake(fmt::format("{} is no address: {}", in_quotes(text), way_out));
  if (parts->has_port) {
    const auto port = parse_port(parts->port);
    if (!port) return bad_port(parts->port);
    result.endpoint.port = *port;
  }
  if (parts->host.empty()) {
    return mistake(fmt::format("{} lacks a host: write 'localhost{}'", in_quotes(text), rest));
  }
  if (parts->brackets) {
    const auto address = parse_address(parts->host);
    if (!address || !address->is_v6()) {
      return mistake(fmt::format("{} is no IPv6 address", in_quotes(parts->host)));
    }
    result.endpoint.host = address->to_string();
    return result;
  }
  if (const auto problem = host_problem(parts->host); !problem.empty()) {
    return mistake(
        fmt::format("{}: the host {} {}", in_quotes(text), in_quotes(parts->host), problem));
  }
  result.endpoint.host = lower_case(parts->host);
  return result;
}

bool is_upstream_reference(std::string_view text) {
  return text != "localhost" && text.find_first_of(":./") == text.npos;
}

bool Network::contains(const ip::address& candidate) const {
  ip::address other = candidate;
  if (address.is_v4() && other.is_v6() && other.to_v6().is_v4_mapped()) {
    other = ip::make_address_v4(ip::v4_mapped, other.to_v6());
  }
  if (address.is_v4() != other.is_v4()) return false;
  const auto same = [this](const auto& a, const auto& b) {
    const size_t whole = prefix / 8;
    if (!std::equal(a.begin(), a.begin() + whole, b.begin())) return false;
    const int rest = prefix % 8;
    return rest == 0 || ((a[whole] ^ b[whole]) & (0xff00 >> rest) & 0xff) == 0;
  };
  if (address.is_v4()) return same(address.to_v4().to_bytes(), other.to_v4().to_bytes());
  return same(address.to_v6().to_bytes(), other.to_v6().to_bytes());
}

bool HostGlob::is_address() const {
  if (text.starts_with('[')) return true;
  const size_t dot = text.rfind('.');
  const auto last = std::string_view(text).substr(dot == text.npos ? 0 : dot + 1);
  return std::all_of(last.begin(), last.end(), is_digit);
}

std::string_view HostGlob::name() const {
  if (!text.starts_with('[')) return text;
  return std::string_view(text).substr(1, text.size() - 2);
}

bool HostGlob::matches(std::string_view host) const {
  if (text == "*") return !host.empty();
  if (!text.starts_with("*.")) return text == host || name() == host;
  const auto dot = host.find('.');
  return dot != host.npos && dot != 0 && host.substr(dot) == std::string_view(text).substr(1);
}

}  // namespace gatehouse::config
