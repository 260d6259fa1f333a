// HTTP/1.1 heads to bytes: request lines, status lines, fields, chunk framing (RFC 9112).
//
// Does not decide what may pass (rules, proxy/rewrite): it writes the fields that are not marked
// `skip`, and the framing that the head says. Any thread; appends to the caller's buffer.
#pragma once

#include <cstddef>
#include <string_view>

#include "http/message.hpp"

namespace gatehouse::http {

/// A caller's fixed buffer that is appended to; `overflow` is set rather than written past it.
struct HeadBuffer {
  char* data = nullptr;
  size_t size = 0;
  size_t capacity = 0;
  bool overflow = false;
  void append(std::string_view text);
};

/// "GET /path HTTP/1.1\r\nHost: …", the fields, then Transfer-Encoding: chunked when the framing is
/// chunked (Content-Length travels as a field). Runs of consecutive unchanged fields that lie in
/// canonical form ("name: value\r\n") in the received bytes are copied in one piece.
void write_request_head(const RequestHead& head, std::string_view host, HeadBuffer& out);

/// The head of a request that asks for a tunnel (RFC 6455 section 4.1). `key` is sent as
/// Sec-WebSocket-Key, unless it is empty because the fields hold one.
void write_upgrade_head(const RequestHead& head, std::string_view host, std::string_view key,
                        HeadBuffer& out);

/// How the connection towards the client goes on, as this message's Connection field says it.
enum class Persistence : uint8_t { keep_alive, keep_alive_explicit, close, tunnel };

/// The status line, the fields, `Transfer-Encoding: chunked` when `framing` is chunked, and
/// `Connection: close`, (HTTP/1.0 clients) `Connection: keep-alive`, or with a 101 the Upgrade.
void write_response_head(const ResponseHead& head, Framing framing, Persistence persistence,
                         HeadBuffer& out);

/// "1f4\r\n"; returns its length. `out` holds at least 20 bytes.
size_t write_chunk_size(uint64_t size, char* out);

/// "0\r\n" + trailers + "\r\n".
void write_last_chunk(const Trailers* trailers, HeadBuffer& out);

/// The standard reason phrase, or "Unknown".
std::string_view reason_phrase(unsigned status);

}  // namespace gatehouse::http
