// A response's head: found by the scanner and then parsed, or parsed in one look, it is the same
// response or none; and what is written to the client is read there as what was understood here.
#include "http/head_scratch.hpp"
#include "http/http1_parser.hpp"
#include "tests/fuzz/heads.hpp"
#include "tests/fuzz/target.hpp"
#include "tests/support/head_text.hpp"

namespace gatehouse {

namespace http {

namespace {

using Scan = HeadScanner::Status;
using test::text_of;

/// RFC 9112 section 6.3.
void check_framing(const ResponseHead& head, Method method) {
  const bool bodiless = head.status < 200 || head.status == 204 || head.status == 304;
  if (bodiless || method == Method::head) ASSERT(head.framing == Framing::none);
  if (head.framing == Framing::until_close) ASSERT(!head.keep_alive && !head.has_content_length);
  if (head.framing == Framing::length) ASSERT(head.has_content_length && head.content_length > 0);
  if (head.framing == Framing::chunked) ASSERT(!head.has_content_length);
  const Field* length = head.find(FieldId::content_length);
  ASSERT((length != nullptr) == head.has_content_length);
  if (length) ASSERT(length->value.find_first_not_of("0123456789") == length->value.npos);
}

void check_head(const ResponseHead& head, Method method, std::string_view from) {
  ASSERT(head.status >= 100 && head.status <= 999 && head.status != 101);
  ASSERT(is_field_value(head.reason));
  check_framing(head, method);
  check_fields(head.fields, from);
}

/// The client reads the response that we read.
void check_written(const ResponseHead& head, Method method) {
  HeadBuffer out = head_scratch();
  write_response_head(head, head.framing, Persistence::keep_alive, out);
  ASSERT(!out.overflow);
  ResponseHead there;
  const size_t length =
      parse_whole_response({out.data, out.size}, {.fields_max = 200}, method, there);
  ASSERT(length == out.size);
  ASSERT(there.status == head.status && there.reason == head.reason);
  ASSERT(there.framing == head.framing && there.content_length == head.content_length);
  ASSERT(forwarded(there.fields) == forwarded(head.fields));
}

void judge(std::string_view input, const HeadLimits& limits, Method method) {
  Scan status;
  const HeadScanner scanner = scan_both_ways(input, limits, status);
  ResponseHead whole, scanned;
  const size_t length = parse_whole_response(input, limits, method, whole);
  std::optional<Refusal> refusal;
  if (status == Scan::complete) {
    refusal = parse_response(input.substr(0, scanner.length()), limits, method, scanned);
  }
  const bool passes = status == Scan::complete && !refusal;
  ASSERT((length > 0) == passes);
  if (refusal) ASSERT(refusal->status == 502 && *refusal->reason != '\0');
  if (!passes) return;
  ASSERT(length == scanner.length() && length <= limits.bytes_max);
  ASSERT(whole.fields.size() <= limits.fields_max);
  ASSERT(text_of(whole) == text_of(scanned));
  check_head(whole, method, input.substr(0, length));
  check_written(whole, method);
}

}  // namespace

}  // namespace http

void fuzz(std::string_view input) {
  for (const auto& limits : http::limits_tried) {
    for (const auto method : {http::Method::get, http::Method::head}) {
      http::judge(input, limits, method);
    }
  }
}

}  // namespace gatehouse
