#include "tls/client_hello.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

namespace gatehouse::tls {

namespace {

using Bytes = std::span<const uint8_t>;

constexpr size_t record_header_size = 5;
constexpr size_t record_max = 16 * 1024;  // RFC 8446 section 5.1
constexpr size_t records_max = 64;        // a hello in shreds is read anew at every segment
constexpr size_t message_header_size = 4;
constexpr size_t name_max = 253;  // RFC 1035 section 2.3.4, in text form
constexpr size_t label_max = 63;

constexpr uint8_t content_handshake = 22;
constexpr uint8_t message_client_hello = 1;
constexpr uint16_t extension_server_name = 0;
constexpr uint16_t extension_alpn = 16;
constexpr uint16_t extension_supported_versions = 43;

/// Takes fields off the front of a byte string; after a failure every further take fails too.
class Cursor {
 public:
  explicit Cursor(Bytes bytes) : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  bool empty() const { return at_ == end_; }
  bool failed() const { return failed_; }

  Bytes take(size_t length) {
    if (failed_ || static_cast<size_t>(end_ - at_) < length) {
      failed_ = true;
      at_ = end_;
      return {};
    }
    const Bytes taken(at_, length);
    at_ += length;
    return taken;
  }
  uint8_t take_u8() {
    const Bytes taken = take(1);
    return taken.empty() ? 0 : taken[0];
  }
  uint16_t take_u16() {
    const Bytes taken = take(2);
    return taken.empty() ? uint16_t{0} : static_cast<uint16_t>(taken[0] << 8 | taken[1]);
  }
  Bytes take_vector8() { return take(take_u8()); }
  Bytes take_vector16() { return take(take_u16()); }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
  bool failed_ = false;
};

/// What the extensions said, still pointing into the message.
struct Seen {
  std::string_view name;
  bool has_server_name = false;
  bool has_versions = false;
  ClientHello hello;
};

HelloStatus find_message(Bytes bytes, std::vector<uint8_t>& joined, Bytes& message);
bool parse_message(Bytes message, Seen& seen);

}  // namespace

HelloStatus parse_client_hello(std::span<const uint8_t> bytes, ClientHello& out) {
  std::vector<uint8_t> joined;
  Bytes message;
  const HelloStatus status = find_message(bytes, joined, message);
  if (status == HelloStatus::need_more && bytes.size() >= client_hello_max) {
    return HelloStatus::too_large;
  }
  if (status != HelloStatus::complete) return status;

  Seen seen;
  if (!parse_message(message, seen)) return HelloStatus::malformed;
  out.offers_http1 = seen.hello.offers_http1;
  out.offers_h2 = seen.hello.offers_h2;
  out.offers_acme = seen.hello.offers_acme;
  out.has_alpn = seen.hello.has_alpn;
  out.tls13 = seen.hello.tls13;
  out.server_name.assign(seen.name);
  for (char& c : out.server_name) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return HelloStatus::complete;
}

namespace {

/// The record at the front of `bytes`: its fragment, which may still be incomplete.
struct Record {
  Bytes fragment;
  size_t length = 0;
  bool whole() const { return fragment.size() == length; }
};

HelloStatus open_record(Bytes bytes, bool first, Record& record) {
  // A first byte that is no handshake record is not TLS: HTTP in clear, SSLv2 (RFC 8446 E.2).
  const HelloStatus foreign = first ? HelloStatus::not_tls : HelloStatus::malformed;
  if (!bytes.empty() && bytes[0] != content_handshake) return foreign;
  if (bytes.size() >= 2 && bytes[1] != 3) return foreign;
  if (bytes.size() < record_header_size) return HelloStatus::need_more;
  record.length = static_cast<size_t>(bytes[3] << 8 | bytes[4]);
  // Empty handshake fragments are forbidden (RFC 8446 section 5.1).
  if (record.length == 0 || record.length > record_max) return HelloStatus::malformed;
  const Bytes rest = bytes.subspan(record_header_size);
  record.fragment = rest.first(std::min(record.length, rest.size()));
  return HelloStatus::complete;
}

/// Checks what is there of the message's header; complete: `size` is the whole message's.
HelloStatus open_message(Bytes start, size_t& size) {
  if (!start.empty() && start[0] != message_client_hello) return HelloStatus::malformed;
  if (start.size() < message_header_size) return HelloStatus::need_more;
  size = message_header_size + (static_cast<size_t>(start[1]) << 16 | start[2] << 8 | start[3]);
  return size > client_hello_max ? HelloStatus::too_large : HelloStatus::complete;
}

/// The handshake message spread over several records, copied together into `joined`.
HelloStatus join_records(Bytes bytes, std::vector<uint8_t>& joined, Bytes& message) {
  size_t size = 0;
  for (size_t count = 0; count < records_max; ++count) {
    Record record;
    const HelloStatus opened = open_record(bytes, count == 0, record);
    if (opened != HelloStatus::complete) return opened;
    joined.insert(joined.end(), record.fragment.begin(), record.fragment.end());
    const HelloStatus started = open_message(joined, size);
    if (started == HelloStatus::malformed || started == HelloStatus::too_large) return started;
    if (started == HelloStatus::complete && joined.size() >= size) {
      message = Bytes(joined).first(size);
      return HelloStatus::complete;
    }
    if (!record.whole()) return HelloStatus::need_more;
    bytes = bytes.subspan(record_header_size + record.length);
  }
  return HelloStatus::too_large;
}

/// Nearly every hello is one record, read where it lies.
HelloStatus find_message(Bytes bytes, std::vector<uint8_t>& joined, Bytes& message) {
  if (bytes.size() > client_hello_max) bytes = bytes.first(client_hello_max);
  Record record;
  const HelloStatus opened = open_record(bytes, true, record);
  if (opened != HelloStatus::complete) return opened;
  size_t size = 0;
  const HelloStatus started = open_message(record.fragment, size);
  if (started == HelloStatus::complete && record.fragment.size() >= size) {
    message = record.fragment.first(size);
    return HelloStatus::complete;
  }
  if (started == HelloStatus::malformed || started == HelloStatus::too_large) return started;
  if (!record.whole()) return HelloStatus::need_more;
  return join_records(bytes, joined, message);
}

/// The last label in digits only: an IPv4 address in one of its notations, no host name.
bool ends_in_number(std::string_view name) {
  const std::string_view label = name.substr(name.rfind('.') + 1);
  return label.find_first_not_of("0123456789") == std::string_view::npos;
}

bool is_ipv6(std::string_view text) {
  if (text.size() >= 2 && text.front() == '[' && text.back() == ']') {
    text = text.substr(1, text.size() - 2);
  }
  std::array<char, INET6_ADDRSTRLEN> copy{};
  if (text.size() >= copy.size()) return false;
  if (text.find('\0') != text.npos) return false;  // what follows would not be looked at
  std::memcpy(copy.data(), text.data(), text.size());
  in6_addr address;
  return inet_pton(AF_INET6, copy.data(), &address) == 1;
}

/// Letters, digits, hyphen, and the underscore that real names have; hyphens not at a label's ends.
bool is_host_name(std::string_view name) {
  static constexpr auto allowed = [] {
    std::array<bool, 256> set{};
    for (unsigned c = 0; c < 256; ++c) {
      set[c] = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '-' || c == '_';
    }
    return set;
  }();
  size_t label = 0;
  char previous = '.';
  for (const char c : name) {
    if (c == '.') {
      if (label == 0 || previous == '-') return false;
      label = 0;
    } else if (!allowed[static_cast<uint8_t>(c)] || ++label > label_max ||
               (label == 1 && c == '-')) {
      return false;
    }
    previous = c;
  }
  return label > 0 && previous != '-';
}

/// RFC 6066 section 3: one host_name, no address. Addresses sent all the same count as no SNI.
bool parse_server_name(Bytes data, Seen& seen) {
  if (std::exchange(seen.has_server_name, true)) return false;
  Cursor extension(data);
  Cursor list(extension.take_vector16());
  const uint8_t type = list.take_u8();
  const Bytes host = list.take_vector16();
  if (extension.failed() || !extension.empty() || list.failed() || !list.empty()) return false;
  if (type != 0 || host.empty()) return false;

  std::string_view name(reinterpret_cast<const char*>(host.data()), host.size());
  if (name.back() == '.') name.remove_suffix(1);
  if (name.size() > name_max) return false;
  if (!is_host_name(name)) return is_ipv6(name);
  if (!ends_in_number(name)) seen.name = name;
  return true;
}

/// RFC 7301 section 3.1.
bool parse_alpn(Bytes data, Seen& seen) {
  if (std::exchange(seen.hello.has_alpn, true)) return false;
  Cursor extension(data);
  Cursor list(extension.take_vector16());
  if (extension.failed() || !extension.empty() || list.empty()) return false;
  while (!list.empty()) {
    const Bytes protocol = list.take_vector8();
    if (protocol.empty()) return false;
    const std::string_view text(reinterpret_cast<const char*>(protocol.data()), protocol.size());
    seen.hello.offers_http1 |= text == "http/1.1";
    seen.hello.offers_h2 |= text == "h2";
    seen.hello.offers_acme |= text == "acme-tls/1";
  }
  return true;
}

/// RFC 8446 section 4.2.1.
bool parse_supported_versions(Bytes data, Seen& seen) {
  if (std::exchange(seen.has_versions, true)) return false;
  Cursor extension(data);
  Cursor list(extension.take_vector8());
  if (extension.failed() || !extension.empty() || list.empty()) return false;
  while (!list.empty()) {
    const uint16_t version = list.take_u16();
    if (list.failed()) return false;
    seen.hello.tls13 |= version == 0x0304;
  }
  return true;
}

bool parse_extension(uint16_t type, Bytes data, Seen& seen) {
  switch (type) {
    case extension_server_name:
      return parse_server_name(data, seen);
    case extension_alpn:
      return parse_alpn(data, seen);
    case extension_supported_versions:
      return parse_supported_versions(data, seen);
    default:
      return true;
  }
}

bool parse_message(Bytes message, Seen& seen) {
  Cursor hello(message.subspan(message_header_size));
  hello.take(2 + 32);  // legacy_version, random
  const Bytes session_id = hello.take_vector8();
  const Bytes cipher_suites = hello.take_vector16();
  const Bytes compressions = hello.take_vector8();
  if (hello.failed() || session_id.size() > 32 || compressions.empty()) return false;
  if (cipher_suites.empty() || cipher_suites.size() % 2 != 0) return false;
  if (hello.empty()) return true;  // TLS 1.2 may do without extensions

  Cursor extensions(hello.take_vector16());
  if (hello.failed() || !hello.empty()) return false;
  while (!extensions.empty()) {
    const uint16_t type = extensions.take_u16();
    const Bytes data = extensions.take_vector16();
    if (extensions.failed() || !parse_extension(type, data, seen)) return false;
  }
  return true;
}

}  // namespace

}  // namespace gatehouse::tls
