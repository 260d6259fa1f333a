// The proxy's own short answers: HTML, or application/problem+json for clients that prefer JSON
// (RFC 9457). No input of the client's is ever echoed. On the worker's thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "http/stream.hpp"

namespace gatehouse::proxy {

struct ErrorPage {
  uint16_t status = 500;
  uint32_t retry_after_seconds = 0;  // 0: no Retry-After
};

/// Answers the request whole: head and body.
void write_error_page(http::ServerStream& stream, const ErrorPage& page);

/// A redirect with a short body.
void write_redirect(http::ServerStream& stream, uint16_t status, const std::string& location);

/// A fixed body as text/plain; HEAD gets the head only.
void write_text(http::ServerStream& stream, uint16_t status, std::string_view body,
                std::string_view content_type = "text/plain; charset=utf-8");

}  // namespace gatehouse::proxy
