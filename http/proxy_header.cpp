#include "http/proxy_header.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

#include <fmt/format.h>

#include "base/error.hpp"

namespace gatehouse::http {

namespace {

namespace ip = boost::asio::ip;
using Endpoint = ip::tcp::endpoint;
using Speaker = ProxyHeader::Speaker;
using Status = ProxyHeaderParse::Status;

constexpr std::string_view v1_start = "PROXY ";
constexpr std::string_view v2_signature("\r\n\r\n\0\r\nQUIT\n", 12);

// Of version 2: the signature, version and command, family and protocol, the length of the rest.
constexpr size_t command_at = 12;
constexpr size_t family_at = 13;
constexpr size_t length_at = 14;
constexpr size_t v2_fixed_bytes = 16;

constexpr unsigned v2_local = 0x20;
constexpr unsigned v2_proxy = 0x21;
// The upper half of the family byte.
constexpr unsigned family_unspecified = 0;
constexpr unsigned family_inet = 1;
constexpr unsigned family_inet6 = 2;
constexpr unsigned family_unix = 3;
// The lower half.
constexpr unsigned transport_unspecified = 0;
constexpr unsigned transport_stream = 1;
constexpr unsigned transport_datagram = 2;

constexpr size_t inet_bytes = 12;
constexpr size_t inet6_bytes = 36;
constexpr size_t unix_bytes = 216;

constexpr size_t tlv_fixed_bytes = 3;  // type, length
constexpr unsigned tlv_crc32c = 0x03;
constexpr size_t crc32c_bytes = 4;

ProxyHeaderParse need_more() {
  return {};
}

ProxyHeaderParse malformed(const char* problem) {
  return {Status::malformed, {}, problem};
}

ProxyHeaderParse complete(Speaker speaker, size_t size, const ProxyAddresses& addresses = {}) {
  return {Status::complete, {speaker, addresses, size}, nullptr};
}

/// Whether `bytes` begin with `start`, or may still come to.
bool may_begin(std::string_view bytes, std::string_view start) {
  const size_t common = std::min(bytes.size(), start.size());
  return bytes.substr(0, common) == start.substr(0, common);
}

/// A dual-stack sender writes its IPv4 clients in the mapped form; access lists think in IPv4.
ip::address unmapped(const ip::address& address) {
  if (!address.is_v6() || !address.to_v6().is_v4_mapped()) return address;
  return ip::make_address_v4(ip::v4_mapped, address.to_v6());
}

// --- version 1

/// Section 2.1: canonical decimal, no leading zeroes.
std::optional<uint16_t> parse_port(std::string_view text) {
  uint16_t port = 0;
  if (text.empty() || (text.front() == '0' && text.size() > 1)) return std::nullopt;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (failed != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return port;
}

std::optional<ip::address> parse_address(std::string_view text, bool ipv6) {
  // Nothing but what an address is written with: no zone, and no NUL that would end it early.
  if (text.find_first_not_of("0123456789abcdefABCDEF:.") != text.npos) return std::nullopt;
  boost::system::error_code failed;
  const auto address = ipv6 ? ip::address(ip::make_address_v6(text, failed))
                            : ip::address(ip::make_address_v4(text, failed));
  if (failed) return std::nullopt;
  return unmapped(address);
}

/// "192.0.2.1 198.51.100.1 56324 443": single spaces, nothing more.
std::optional<ProxyAddresses> parse_v1_addresses(std::string_view text, bool ipv6) {
  std::array<std::string_view, 4> words;
  for (size_t i = 0; i < words.size(); ++i) {
    const size_t space = text.find(' ');
    if ((space == text.npos) != (i == words.size() - 1)) return std::nullopt;
    words[i] = text.substr(0, space);
    if (space != text.npos) text.remove_prefix(space + 1);
  }
  const auto source = parse_address(words[0], ipv6);
  const auto destination = parse_address(words[1], ipv6);
  const auto source_port = parse_port(words[2]);
  const auto destination_port = parse_port(words[3]);
  if (!source || !destination || !source_port || !destination_port) return std::nullopt;
  return ProxyAddresses{{*source, *source_port}, {*destination, *destination_port}};
}

ProxyHeaderParse parse_v1(std::string_view bytes) {
  const std::string_view most = bytes.substr(0, proxy_v1_bytes_max);
  const size_t end = most.find('\n');
  if (end == most.npos) {
    return most.size() < proxy_v1_bytes_max ? need_more()
                                            : malformed("its line is longer than 107 bytes");
  }
  if (most.find('\r') != end - 1) return malformed("its line does not end with CR LF");
  std::string_view line = most.substr(0, end - 1);
  line.remove_prefix(std::min(v1_start.size(), line.size()));
  const std::string_view family = line.substr(0, line.find(' '));
  // What else stands in the line of an unknown protocol must be ignored.
  if (family == "UNKNOWN") return complete(Speaker::unnamed, end + 1);
  if (family != "TCP4" && family != "TCP6") {
    return malformed("its protocol is none of TCP4, TCP6 and UNKNOWN");
  }
  if (line.size() == family.size()) return malformed("its addresses are missing");
  line.remove_prefix(family.size() + 1);
  const auto addresses = parse_v1_addresses(line, family == "TCP6");
  if (!addresses) return malformed("its addresses are malformed");
  return complete(Speaker::client, end + 1, *addresses);
}

// --- version 2

unsigned byte_at(std::string_view bytes, size_t at) {
  return static_cast<uint8_t>(bytes[at]);
}

unsigned number_at(std::string_view bytes, size_t at) {
  return byte_at(bytes, at) << 8 | byte_at(bytes, at + 1);
}

uint32_t word_at(std::string_view bytes, size_t at) {
  return number_at(bytes, at) << 16 | number_at(bytes, at + 2);
}

constexpr auto crc32c_table = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0x82f63b78 : 0);
    table[i] = value;
  }
  return table;
}();

/// Of the whole header, the checksum's own place counted as zeroes (section 2.2.2).
uint32_t crc32c(std::string_view header, size_t checksum_at) {
  uint32_t crc = 0xffffffff;
  for (size_t i = 0; i < header.size(); ++i) {
    const bool own = i >= checksum_at && i < checksum_at + crc32c_bytes;
    crc = crc >> 8 ^ crc32c_table[(crc ^ (own ? 0 : byte_at(header, i))) & 0xff];
  }
  return ~crc;
}

/// What is wrong with the TLVs that begin at `at`; null: nothing.
const char* tlv_problem(std::string_view header, size_t at) {
  bool verified = false;
  while (at < header.size()) {
    if (header.size() - at < tlv_fixed_bytes) return "it ends inside a TLV";
    const unsigned type = byte_at(header, at);
    const size_t length = number_at(header, at + 1);
    at += tlv_fixed_bytes;
    if (length > header.size() - at) return "it ends inside a TLV";
    if (type == tlv_crc32c) {
      if (length != crc32c_bytes || verified) return "its CRC32C is malformed";
      if (word_at(header, at) != crc32c(header, at)) return "its CRC32C does not match";
      verified = true;
    }
    at += length;
  }
  return nullptr;
}

/// How many bytes the addresses of a family take; nothing for a family that must be refused.
std::optional<size_t> address_bytes(unsigned family) {
  switch (family) {
    case family_unspecified:
      return 0;
    case family_inet:
      return inet_bytes;
    case family_inet6:
      return inet6_bytes;
    case family_unix:
      return unix_bytes;
    default:
      return std::nullopt;
  }
}

template <class Address>
Endpoint endpoint_at(std::string_view bytes, size_t address_at, size_t port_at) {
  typename Address::bytes_type raw;
  std::memcpy(raw.data(), bytes.data() + address_at, raw.size());
  return {unmapped(Address(raw)), static_cast<uint16_t>(number_at(bytes, port_at))};
}

ProxyAddresses v2_addresses(std::string_view bytes, bool ipv6) {
  constexpr size_t at = v2_fixed_bytes;
  if (ipv6) {
    return {endpoint_at<ip::address_v6>(bytes, at, at + 32),
            endpoint_at<ip::address_v6>(bytes, at + 16, at + 34)};
  }
  return {endpoint_at<ip::address_v4>(bytes, at, at + 8),
          endpoint_at<ip::address_v4>(bytes, at + 4, at + 10)};
}

/// What can be said of the first bytes, as many as have come; null: nothing is wrong with them.
const char* v2_start_problem(std::string_view bytes) {
  if (bytes.size() <= command_at) return nullptr;
  const unsigned command = byte_at(bytes, command_at);
  if (command >> 4 != 2) return "its version is not 2";
  if (command != v2_local && command != v2_proxy) return "its command is neither LOCAL nor PROXY";
  if (bytes.size() <= family_at) return nullptr;
  const auto needed = address_bytes(byte_at(bytes, family_at) >> 4);
  const bool known = needed && (byte_at(bytes, family_at) & 0xf) <= transport_datagram;
  if (command == v2_proxy && !known) return "its address family or transport is unknown";
  if (bytes.size() < v2_fixed_bytes) return nullptr;
  const size_t length = number_at(bytes, length_at);
  if (v2_fixed_bytes + length > proxy_v2_bytes_max) return "it is longer than 4096 bytes";
  if (command == v2_proxy && length < *needed) return "it is shorter than its addresses";
  return nullptr;
}

ProxyHeaderParse parse_v2(std::string_view bytes) {
  if (const char* problem = v2_start_problem(bytes)) return malformed(problem);
  if (bytes.size() < v2_fixed_bytes) return need_more();
  const size_t size = v2_fixed_bytes + number_at(bytes, length_at);
  if (bytes.size() < size) return need_more();
  const std::string_view header = bytes.substr(0, size);
  // The rest of a LOCAL header, its family included, must be discarded unread.
  if (byte_at(header, command_at) == v2_local) return complete(Speaker::itself, size);
  const unsigned family = byte_at(header, family_at) >> 4;
  const unsigned transport = byte_at(header, family_at) & 0xf;
  if (family == family_unspecified || transport == transport_unspecified) {
    return complete(Speaker::unnamed, size);
  }
  const char* problem = tlv_problem(header, v2_fixed_bytes + *address_bytes(family));
  if (problem != nullptr) return malformed(problem);
  if (family == family_unix) return complete(Speaker::unnamed, size);
  // A client that came to the sender over datagrams (QUIC) is the client all the same.
  return complete(Speaker::client, size, v2_addresses(header, family == family_inet6));
}

// --- writing

bool both_v4(const ProxyAddresses& addresses) {
  return addresses.source.address().is_v4() && addresses.destination.address().is_v4();
}

/// Without a zone, which means nothing on another machine.
ip::address_v6 as_v6(const ip::address& address) {
  if (address.is_v4()) return ip::make_address_v6(ip::v4_mapped, address.to_v4());
  return ip::address_v6(address.to_v6().to_bytes());
}

void append(ProxyHeaderText& out, std::string_view bytes) {
  ASSERT(bytes.size() <= out.bytes.size() - out.size);
  std::memcpy(out.bytes.data() + out.size, bytes.data(), bytes.size());
  out.size += bytes.size();
}

void append_number(ProxyHeaderText& out, size_t number) {
  const char bytes[] = {static_cast<char>(number >> 8 & 0xff), static_cast<char>(number & 0xff)};
  append(out, {bytes, sizeof bytes});
}

template <class Address>
void append_address(ProxyHeaderText& out, const Address& address) {
  const auto raw = address.to_bytes();
  append(out, {reinterpret_cast<const char*>(raw.data()), raw.size()});
}

void write_v1(ProxyHeaderText& out, const std::optional<ProxyAddresses>& addresses) {
  if (!addresses) return append(out, "PROXY UNKNOWN\r\n");
  const bool v4 = both_v4(*addresses);
  const auto text = [v4](const Endpoint& endpoint) {
    return v4 ? endpoint.address().to_string() : as_v6(endpoint.address()).to_string();
  };
  append(out, fmt::format("PROXY {} {} {} {} {}\r\n", v4 ? "TCP4" : "TCP6", text(addresses->source),
                          text(addresses->destination), addresses->source.port(),
                          addresses->destination.port()));
}

void write_v2(ProxyHeaderText& out, const std::optional<ProxyAddresses>& addresses) {
  append(out, v2_signature);
  // PROXY also without addresses: LOCAL would say that no client is behind the connection.
  const unsigned family = !addresses            ? family_unspecified
                          : both_v4(*addresses) ? family_inet
                                                : family_inet6;
  append_number(out, v2_proxy << 8 | family << 4 | (addresses ? transport_stream : 0));
  append_number(out, *address_bytes(family));
  if (!addresses) return;
  for (const auto& endpoint : {addresses->source, addresses->destination}) {
    if (family == family_inet) {
      append_address(out, endpoint.address().to_v4());
    } else {
      append_address(out, as_v6(endpoint.address()));
    }
  }
  append_number(out, addresses->source.port());
  append_number(out, addresses->destination.port());
}

}  // namespace

ProxyHeaderParse parse_proxy_header(std::string_view bytes) {
  if (may_begin(bytes, v2_signature)) return parse_v2(bytes);
  if (may_begin(bytes, v1_start)) return parse_v1(bytes);
  return malformed("there is none: the first bytes are something else");
}

ProxyHeaderText write_proxy_header(config::ProxyProtocol version,
                                   const std::optional<ProxyAddresses>& addresses) {
  ASSERT(version != config::ProxyProtocol::off);
  ProxyHeaderText out;
  if (version == config::ProxyProtocol::v1) {
    write_v1(out, addresses);
  } else {
    write_v2(out, addresses);
  }
  return out;
}

}  // namespace gatehouse::http
