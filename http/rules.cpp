#include "http/rules.hpp"

#include <algorithm>
#include <arpa/inet.h>

#include "http/authority.hpp"
#include "http/characters.hpp"
#include "http/list.hpp"
#include "http/websocket.hpp"

namespace gatehouse::http {

namespace {

// Options of all Connection fields of one message that name further fields. Each costs a look at
// every field, so their number is bounded.
constexpr size_t connection_options_max = 32;

std::optional<Refusal> refuse(uint16_t status, const char* reason) {
  return Refusal{status, reason};
}

/// What one pass over the fields found that decides framing and persistence.
struct Findings {
  const Field* host = nullptr;
  Field* content_length = nullptr;
  Field* transfer_encoding = nullptr;
  bool repeated = false;  // more than one Host, Content-Length or Transfer-Encoding
  bool close = false;
  bool keep_alive = false;
  bool upgrade = false;
  size_t named = 0;  // Connection options that name further fields
};

template <class F>
void note_once(F*& place, Field& field, Findings& found) {
  if (place) found.repeated = true;
  place = &field;
}

/// RFC 9110 section 7.6.1. False: not a list of tokens, or too many of them.
bool take_connection(std::string_view list, Findings& found) {
  if (equal_ignoring_case(list, "keep-alive")) {
    found.keep_alive = true;
    return true;
  }
  while (!list.empty()) {
    const std::string_view option = next_element(list);
    if (option.empty()) continue;
    if (!is_token(option)) return false;
    if (equal_ignoring_case(option, "close")) {
      found.close = true;
    } else if (equal_ignoring_case(option, "keep-alive")) {
      found.keep_alive = true;
    } else if (++found.named > connection_options_max) {
      return false;
    }
  }
  return true;
}

/// Fields that the proxy itself or the origin's trust depends on: naming one in Connection must not
/// make it disappear (hop-by-hop abuse). The hop-by-hop ones among them are dropped anyway.
bool may_be_named(FieldId id) {
  return id == FieldId::other || id == FieldId::priority;
}

void skip_named_fields(Fields& fields) {
  for (size_t i = 0; i < fields.size(); ++i) {
    if (fields[i].id != FieldId::connection) continue;
    std::string_view list = fields[i].value;
    while (!list.empty()) {
      const std::string_view option = next_element(list);
      if (option.empty()) continue;
      for (Field& field : fields) {
        if (may_be_named(field.id) && equal_ignoring_case(field.name, option)) field.skip = true;
      }
    }
  }
}

/// 1*DIGIT below 2^63; signs, spaces and lists are none (RFC 9110 section 8.6).
std::optional<uint64_t> parse_length(std::string_view text) {
  if (text.empty() || text.size() > 19) return std::nullopt;
  uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  if (value > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  return value;
}

enum class Coding : uint8_t { chunked, unknown, malformed };

/// RFC 9112 section 6.1. Only `chunked` alone is decoded here.
Coding parse_transfer_encoding(std::string_view list) {
  if (equal_ignoring_case(list, "chunked")) return Coding::chunked;
  if (list.empty() || list.back() == ',') return Coding::malformed;
  while (!list.empty()) {
    const std::string_view element = next_element(list);
    const std::string_view coding = trim(element.substr(0, element.find(';')));
    if (!is_token(coding)) return Coding::malformed;
    if (!equal_ignoring_case(coding, "chunked")) continue;
    if (element != coding || !list.empty()) return Coding::malformed;  // parameters, or not last
  }
  return Coding::unknown;
}

/// "http://host/path?query" → scheme, authority, "/path?query" (RFC 9112 section 3.2.2).
std::optional<Refusal> take_absolute_target(RequestHead& head) {
  const size_t colon = head.target.find("://");
  const std::string_view scheme = head.target.substr(0, colon);
  const bool known = equal_ignoring_case(scheme, "http") || equal_ignoring_case(scheme, "https");
  if (colon == head.target.npos || !known) return refuse(400, "the target has no form we serve");
  const std::string_view rest = head.target.substr(colon + 3);
  const size_t end = std::min(rest.find_first_of("/?"), rest.size());
  head.scheme = scheme;
  head.authority = rest.substr(0, end);
  head.host = host_name(head.authority, head.owned);
  if (head.host.empty()) return refuse(400, "the target's host is not valid");
  head.target = rest.substr(end);
  if (head.target.empty()) {
    head.target = head.method == Method::options ? "*" : "/";
  } else if (head.target.front() == '?') {
    head.target = head.owned.keep("/" + std::string(head.target));
  }
  return std::nullopt;
}

std::optional<Refusal> check_target_characters(const RequestHead& head) {
  if (characters::all(characters::target, head.target)) return std::nullopt;
  return refuse(400, "the target holds a byte that must be encoded");
}

/// A path, or the asterisk that only OPTIONS may have.
bool has_path(const RequestHead& head) {
  return head.target.starts_with('/') || (head.target == "*" && head.method == Method::options);
}

std::optional<Refusal> check_target(RequestHead& head) {
  if (auto refusal = check_target_characters(head)) return refusal;
  return has_path(head) ? std::nullopt : take_absolute_target(head);
}

std::optional<Refusal> check_host(RequestHead& head, const Field* host) {
  if (!host) {
    if (head.version != Version::http10) return refuse(400, "no Host field");
    return std::nullopt;
  }
  const std::string_view name = host_name(host->value, head.owned);
  if (name.empty()) return refuse(400, "the Host field is not valid");
  if (!head.authority.empty()) return std::nullopt;  // of an absolute target: it goes before
  head.authority = host->value;
  head.host = name;
  return std::nullopt;
}

std::optional<Refusal> check_request_framing(RequestHead& head, const Findings& found) {
  if (found.transfer_encoding) {
    if (found.content_length) return refuse(400, "both Transfer-Encoding and Content-Length");
    if (head.version == Version::http10) return refuse(400, "Transfer-Encoding in HTTP/1.0");
    const Coding coding = parse_transfer_encoding(found.transfer_encoding->value);
    if (coding == Coding::malformed) return refuse(400, "Transfer-Encoding is malformed");
    if (coding == Coding::unknown) return refuse(501, "unknown transfer coding");
    head.framing = Framing::chunked;
  } else if (found.content_length) {
    const auto length = parse_length(found.content_length->value);
    if (!length) return refuse(400, "Content-Length is malformed");
    head.content_length = *length;
    head.framing = *length > 0 ? Framing::length : Framing::none;
  }
  return std::nullopt;
}

void take_te(RequestHead& head, std::string_view list) {
  while (!list.empty()) {
    if (equal_ignoring_case(next_element(list), "trailers")) head.accepts_trailers = true;
  }
}

std::optional<Refusal> take_expect(RequestHead& head, std::string_view value) {
  if (!equal_ignoring_case(value, "100-continue")) return refuse(417, "unknown expectation");
  head.expect_continue = true;
  return std::nullopt;
}

/// One pass: notes what decides framing, marks what belongs to this connection only.
std::optional<Refusal> scan_request_fields(RequestHead& head, Findings& found) {
  for (Field& field : head.fields) {
    switch (field.id) {
      case FieldId::host:
        note_once(found.host, field, found);
        field.skip = true;
        break;
      case FieldId::content_length:
        note_once(found.content_length, field, found);
        break;
      case FieldId::transfer_encoding:
        note_once(found.transfer_encoding, field, found);
        field.skip = true;
        break;
      case FieldId::connection:
        if (!take_connection(field.value, found)) return refuse(400, "Connection is malformed");
        field.skip = true;
        break;
      case FieldId::expect:
        if (auto refusal = take_expect(head, field.value)) return refusal;
        break;
      case FieldId::te:
        take_te(head, field.value);
        field.skip = true;
        break;
      case FieldId::upgrade:
        found.upgrade = field.skip = true;
        break;
      case FieldId::keep_alive:
      case FieldId::proxy_connection:
      case FieldId::http2_settings:
        field.skip = true;
        break;
      default:
        break;
    }
  }
  if (found.repeated) return refuse(400, "Host, Content-Length or Transfer-Encoding repeated");
  return std::nullopt;
}

bool persists(Version version, const Findings& found) {
  if (found.close) return false;
  return version == Version::http10 ? found.keep_alive : true;
}

/// An expectation without a body, or in HTTP/1.0, is ignored (RFC 9110 section 10.1.1).
void drop_idle_expectation(RequestHead& head) {
  if (head.framing != Framing::none && head.version != Version::http10) return;
  head.expect_continue = false;
  for (Field& field : head.fields) {
    if (field.id == FieldId::expect) field.skip = true;
  }
}

/// False: Connection is malformed.
bool scan_response_fields(ResponseHead& head, Findings& found) {
  for (Field& field : head.fields) {
    switch (field.id) {
      case FieldId::content_length:
        note_once(found.content_length, field, found);
        break;
      case FieldId::transfer_encoding:
        note_once(found.transfer_encoding, field, found);
        field.skip = true;
        break;
      case FieldId::connection:
        if (!take_connection(field.value, found)) return false;
        field.skip = true;
        break;
      case FieldId::te:
      case FieldId::keep_alive:
      case FieldId::proxy_connection:
      case FieldId::upgrade:
      case FieldId::http2_settings:
        field.skip = true;
        break;
      default:
        break;
    }
  }
  return true;
}

/// RFC 9112 section 6.3, after the fields themselves were found valid.
void frame_response(ResponseHead& head, Method request_method, const Findings& found) {
  if (head.status < 200 || head.status == 204) {
    // No length may be announced here. An origin that announces a body may also send one: its
    // connection is not used again.
    if (found.content_length) found.content_length->skip = true;
    if (head.content_length > 0 || found.transfer_encoding) head.keep_alive = false;
    head.content_length = 0;
    head.has_content_length = false;
    return;
  }
  if (request_method == Method::head || head.status == 304) return;
  if (found.transfer_encoding) {
    head.framing = Framing::chunked;
  } else if (!head.has_content_length) {
    head.framing = Framing::until_close;
    head.keep_alive = false;
  } else if (head.content_length > 0) {
    head.framing = Framing::length;
  }
}

constexpr uint16_t malformed = 0;

/// One field of an HTTP/2 message; `host`, `length` and `cookies` are what came before it.
struct Http2Findings {
  const Field* host = nullptr;
  const Field* content_length = nullptr;
  size_t cookies = 0;
};

/// RFC 9113 section 8.2.2: fields of a connection's have no place in HTTP/2.
bool is_of_connection(FieldId id) {
  return id == FieldId::connection || id == FieldId::keep_alive ||
         id == FieldId::proxy_connection || id == FieldId::transfer_encoding ||
         id == FieldId::upgrade;
}

std::optional<Refusal> scan_http2_fields(RequestHead& head, Http2Findings& found) {
  for (Field& field : head.fields) {
    if (is_of_connection(field.id)) return refuse(malformed, "a field of the connection's");
    switch (field.id) {
      case FieldId::host:
        if (found.host != nullptr) return refuse(malformed, "Host repeated");
        found.host = &field;
        field.skip = true;
        break;
      case FieldId::content_length:
        if (found.content_length != nullptr) return refuse(malformed, "Content-Length repeated");
        found.content_length = &field;
        break;
      case FieldId::te:
        if (!equal_ignoring_case(field.value, "trailers")) {
          return refuse(malformed, "TE other than trailers");
        }
        head.accepts_trailers = true;
        field.skip = true;
        break;
      case FieldId::expect:
        if (auto refusal = take_expect(head, field.value)) return refusal;
        break;
      case FieldId::cookie:
        ++found.cookies;
        break;
      case FieldId::http2_settings:
        field.skip = true;
        break;
      default:
        break;
    }
  }
  return std::nullopt;
}

/// RFC 9113 section 8.2.3: crumbs are one cookie again where HTTP/2 ends.
void join_cookies(RequestHead& head) {
  std::string cookie;
  for (Field& field : head.fields) {
    if (field.id != FieldId::cookie) continue;
    field.skip = true;
    if (!cookie.empty()) cookie += "; ";
    cookie += field.value;
  }
  head.fields.push_back(Field{"cookie", head.owned.keep(std::move(cookie)), FieldId::cookie});
}

/// RFC 8441: a CONNECT with a protocol asks for a tunnel, as a GET with Upgrade does in HTTP/1.1.
/// The handshake's key has no meaning here: HTTP/1.1 origins are given one of ours.
std::optional<Refusal> check_extended_connect(RequestHead& head, bool ended) {
  if (head.protocol.empty()) return refuse(405, "CONNECT is not served");
  if (!equal_ignoring_case(head.protocol, websocket_protocol)) {
    return refuse(501, "CONNECT with an unknown protocol");
  }
  if (ended) return refuse(400, "a tunnel whose client has nothing to say");
  head.method = Method::get;
  head.method_text = "GET";
  for (Field& field : head.fields) {
    if (equal_ignoring_case(field.name, "sec-websocket-key")) field.skip = true;
  }
  return std::nullopt;
}

std::optional<Refusal> check_http2_target(RequestHead& head) {
  if (head.scheme != "http" && head.scheme != "https") return refuse(400, "an unknown scheme");
  if (auto refusal = check_target_characters(head)) return refusal;
  return has_path(head) ? std::nullopt : refuse(malformed, "the target is no path");
}

std::optional<Refusal> check_http2_host(RequestHead& head, const Field* host) {
  if (host != nullptr) {
    if (!head.authority.empty() && !equal_ignoring_case(head.authority, host->value)) {
      return refuse(malformed, ":authority and Host differ");
    }
    head.authority = host->value;
  }
  head.host = host_name(head.authority, head.owned);
  return head.host.empty() ? refuse(400, "no valid host") : std::nullopt;
}

constexpr std::string_view refused_trailers[] = {
    // Framing, connection and routing.
    "transfer-encoding", "content-length", "host", "connection", "keep-alive", "te", "trailer",
    "upgrade", "http2-settings", "proxy-connection", "via", "forwarded", "x-real-ip",
    // Authentication and cookies.
    "authorization", "proxy-authorization", "authentication-info", "proxy-authentication-info",
    "www-authenticate", "proxy-authenticate", "cookie", "set-cookie",
    // Request modifiers, and what describes the content.
    "cache-control", "expect", "max-forwards", "pragma", "range", "if-match", "if-none-match",
    "if-modified-since", "if-unmodified-since", "if-range", "content-encoding", "content-type",
    "content-range",
    // Control data of a response.
    "age", "expires", "date", "location", "retry-after", "vary", "warning",
    "strict-transport-security"};

}  // namespace

std::optional<Refusal> check_request(RequestHead& head) {
  if (head.method == Method::connect) return refuse(405, "CONNECT is not served");
  if (head.method == Method::trace) return refuse(405, "TRACE is not served");
  if (auto refusal = check_target(head)) return refusal;
  Findings found;
  if (auto refusal = scan_request_fields(head, found)) return refusal;
  if (auto refusal = check_host(head, found.host)) return refusal;
  if (auto refusal = check_request_framing(head, found)) return refusal;
  head.keep_alive = persists(head.version, found);
  if (found.named > 0) skip_named_fields(head.fields);
  if (head.expect_continue) drop_idle_expectation(head);
  return found.upgrade ? check_upgrade(head) : std::nullopt;
}

std::optional<Refusal> check_http2_request(RequestHead& head, bool ended) {
  head.method = method_of(head.method_text);
  if (head.method == Method::connect) {
    if (auto refusal = check_extended_connect(head, ended)) return refusal;
  } else if (!head.protocol.empty()) {
    return refuse(malformed, "a protocol without CONNECT");  // RFC 8441 section 4
  }
  if (head.method == Method::trace) return refuse(405, "TRACE is not served");
  if (auto refusal = check_http2_target(head)) return refusal;
  Http2Findings found;
  if (auto refusal = scan_http2_fields(head, found)) return refusal;
  if (auto refusal = check_http2_host(head, found.host)) return refusal;
  if (found.content_length != nullptr) {
    const auto length = parse_length(found.content_length->value);
    if (!length) return refuse(malformed, "Content-Length is malformed");
    head.content_length = *length;
  }
  if (!ended && head.protocol.empty()) {
    head.framing = found.content_length != nullptr ? Framing::length : Framing::chunked;
  }
  if (found.cookies > 1) join_cookies(head);
  if (head.expect_continue) drop_idle_expectation(head);
  return std::nullopt;
}

std::optional<Refusal> check_http2_response(ResponseHead& head, Method request_method) {
  if (head.status < 100) return refuse(502, "the status is not valid");
  if (head.status == 101) return refuse(502, "101 in HTTP/2");
  for (Field& field : head.fields) {
    if (is_of_connection(field.id)) return refuse(502, "a field of the connection's");
    if (field.id == FieldId::te || field.id == FieldId::http2_settings) field.skip = true;
    if (field.id != FieldId::content_length) continue;
    const auto length = parse_length(field.value);
    if (!length || head.has_content_length) return refuse(502, "Content-Length is malformed");
    head.content_length = *length;
    head.has_content_length = true;
  }
  const bool bodiless = head.status < 200 || head.status == 204 || head.status == 304 ||
                        request_method == Method::head;
  if (bodiless) return std::nullopt;
  if (!head.has_content_length) {
    // Also where the head ends the stream: in HTTP/1.1 a body of nothing has to be marked as one.
    head.framing = Framing::until_close;
  } else if (head.content_length > 0) {
    head.framing = Framing::length;
  }
  return std::nullopt;
}

std::optional<Refusal> check_response(ResponseHead& head, Method request_method,
                                      bool upgrade_asked) {
  if (head.status < 100) return refuse(502, "the status is not valid");
  if (head.status == 101 && !upgrade_asked) return refuse(502, "101 that nobody asked for");
  Findings found;
  if (!scan_response_fields(head, found)) return refuse(502, "Connection is malformed");
  if (found.repeated) return refuse(502, "Content-Length or Transfer-Encoding repeated");
  if (found.content_length) {
    const auto length = parse_length(found.content_length->value);
    if (!length) return refuse(502, "Content-Length is malformed");
    head.content_length = *length;
    head.has_content_length = true;
  }
  if (found.transfer_encoding) {
    if (found.content_length) return refuse(502, "both Transfer-Encoding and Content-Length");
    if (head.version == Version::http10) return refuse(502, "Transfer-Encoding in HTTP/1.0");
    if (parse_transfer_encoding(found.transfer_encoding->value) != Coding::chunked) {
      return refuse(502, "Transfer-Encoding other than chunked");
    }
  }
  head.keep_alive = persists(head.version, found);
  frame_response(head, request_method, found);
  if (found.named > 0) skip_named_fields(head.fields);
  return std::nullopt;
}

bool trailer_allowed(std::string_view name) {
  constexpr std::string_view forwarded = "x-forwarded-";
  if (equal_ignoring_case(name.substr(0, forwarded.size()), forwarded)) return false;
  for (const std::string_view refused : refused_trailers) {
    if (equal_ignoring_case(name, refused)) return false;
  }
  return true;
}

bool is_token(std::string_view text) {
  return !text.empty() && characters::all(characters::token, text);
}

bool is_field_value(std::string_view text) {
  return characters::all(characters::field, text);
}

bool is_idempotent(Method method) {
  switch (method) {
    case Method::get:
    case Method::head:
    case Method::put:
    case Method::delete_:
    case Method::options:
    case Method::trace:
      return true;
    default:
      return false;
  }
}

}  // namespace gatehouse::http
