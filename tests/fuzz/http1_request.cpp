// A request's head: found by the scanner and then parsed, or parsed in one look, it is the same
// request or none; and what is written to the origin is read there as what was understood here.
#include "http/authority.hpp"
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

void check_target(const RequestHead& head) {
  ASSERT(!head.target.empty());
  ASSERT(head.target.front() == '/' || (head.target == "*" && head.method == Method::options));
  for (const char c : head.target) ASSERT(c > 0x20 && c < 0x7f && c != '#');
}

void check_head(const RequestHead& head, std::string_view from) {
  ASSERT(is_token(head.method_text));
  ASSERT(head.method != Method::connect && head.method != Method::trace);
  ASSERT(head.version == Version::http10 || head.version == Version::http11);
  check_target(head);
  OwnedText owned;
  const bool anonymous = head.version == Version::http10 && head.authority.empty();
  ASSERT(host_name(head.authority, owned) == head.host && head.host.empty() == anonymous);
  ASSERT(head.framing != Framing::until_close);
  ASSERT((head.framing == Framing::length) == (head.content_length > 0));
  ASSERT(head.framing != Framing::chunked || !head.find(FieldId::content_length));
  ASSERT(!head.find(FieldId::host));
  ASSERT(!head.expect_continue || head.framing != Framing::none);
  check_fields(head.fields, from);
}

/// The head's views follow when its bytes move.
void check_move(RequestHead& head, std::string_view from) {
  const std::string before = text_of(head);
  const std::string elsewhere(from);
  head.move(from, elsewhere.data());
  ASSERT(text_of(head) == before);
  check_fields(head.fields, elsewhere);
  head.move(elsewhere, from.data());
  ASSERT(text_of(head) == before);
}

/// The origin reads the request that we read, whoever else looks at the bytes.
void check_written(const RequestHead& head) {
  const std::string host(head.authority.empty() ? "origin" : head.authority);
  HeadBuffer out = head_scratch();
  write_request_head(head, host, out);
  ASSERT(!out.overflow);
  RequestHead there;
  const size_t length = parse_whole_request({out.data, out.size}, {.fields_max = 200}, there);
  ASSERT(length == out.size);
  ASSERT(there.method_text == head.method_text && there.target == head.target);
  ASSERT(there.authority == host);
  ASSERT(there.framing == head.framing && there.content_length == head.content_length);
  ASSERT(forwarded(there.fields) == forwarded(head.fields));
}

void judge(std::string_view input, const HeadLimits& limits) {
  Scan status;
  const HeadScanner scanner = scan_both_ways(input, limits, status);
  RequestHead whole, scanned;
  const size_t length = parse_whole_request(input, limits, whole);
  std::optional<Refusal> refusal;
  if (status == Scan::complete) {
    refusal = parse_request(input.substr(0, scanner.length()), limits, scanned);
  }
  const bool passes = status == Scan::complete && !refusal;
  ASSERT((length > 0) == passes);
  if (refusal) ASSERT(refusal->status >= 400 && refusal->status < 600 && *refusal->reason != '\0');
  if (!passes) return;
  ASSERT(length == scanner.length() && length <= limits.bytes_max);
  ASSERT(whole.fields.size() <= limits.fields_max);
  ASSERT(text_of(whole) == text_of(scanned));
  check_head(whole, input.substr(0, length));
  check_move(whole, input.substr(0, length));
  check_written(whole);
}

}  // namespace

}  // namespace http

void fuzz(std::string_view input) {
  for (const auto& limits : http::limits_tried) http::judge(input, limits);
}

}  // namespace gatehouse
