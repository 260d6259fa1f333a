// What an HTTP message must look like to pass: framing, targets, fields, hop-by-hop (RFC 9110,
// 9112; request smuggling). Pure functions over parsed heads, any thread.
//
// Not a parser and not routing. The same rules serve every HTTP version.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "http/message.hpp"

namespace gatehouse::http {

/// Why a message is refused. `status` is what the client gets (for a response: 502).
struct Refusal {
  uint16_t status = 400;
  const char* reason = "";  // for the log, static storage
};

/// Checks a parsed HTTP/1 request head and fills framing, content_length, authority, host,
/// keep_alive, expect_continue, accepts_trailers, protocol; takes an absolute-form target apart.
/// Marks hop-by-hop fields (Connection and all that it names, Keep-Alive, Proxy-Connection, TE,
/// Transfer-Encoding, Upgrade, HTTP2-Settings) `skip`; Host is marked `skip` too (the writer emits
/// the effective one first).
std::optional<Refusal> check_request(RequestHead& head);

/// The same for an HTTP/2 request head, whose names, values and pseudo-fields nghttp2 has found
/// valid (RFC 9113 section 8.3): method_text, target, scheme, authority and fields are filled; host
/// is filled here.
/// `ended`: there is no body. Status 0: malformed, to be answered with a stream error. Cookie
/// fields become one (section 8.2.3); an extended CONNECT becomes a GET with a `protocol`.
std::optional<Refusal> check_http2_request(RequestHead& head, bool ended);

/// The same for an HTTP/2 response head.
std::optional<Refusal> check_http2_response(ResponseHead& head, Method request_method);

/// Checks a parsed HTTP/1 response head and fills its framing (RFC 9112 section 6.3) for a request
/// with `request_method`. Marks hop-by-hop fields `skip`. 1xx have Framing::none; 101 is refused
/// unless the request asked to switch protocols.
std::optional<Refusal> check_response(ResponseHead& head, Method request_method,
                                      bool upgrade_asked = false);

/// Trailer fields that must not pass: framing, routing, authentication (RFC 9110 section 6.5.1).
bool trailer_allowed(std::string_view name);

/// The path for routing: percent-decoded unreserved characters, dot segments removed, without the
/// query. Nothing: it climbs above the root, has ".." behind "//" (origins disagree on it), or
/// holds an encoded NUL, or a bad percent escape. `encoded_slash` is set when %2F or %5C occurs.
/// Writes into `out` (reused by the caller).
bool normalise_path(std::string_view target, std::string& out, bool& encoded_slash);

bool is_token(std::string_view text);
/// No CR, LF, NUL or other control characters but HTAB (RFC 9110 section 5.5).
bool is_field_value(std::string_view text);

/// Safe to send again without knowing what the first attempt did (RFC 9110 section 9.2.2).
bool is_idempotent(Method method);

}  // namespace gatehouse::http
