// One complete head into views: the scanner has measured it, so every line ends in CRLF and holds
// no control character but HTAB.
//
// Written by hand rather than over Beast's basic_parser: that costs about 600 instructions a field,
// a tenth of a whole request, and accepts what we must refuse and so would check again.
#include "http/http1_parser.hpp"

#include "http/characters.hpp"
#include "http/control_bytes.hpp"

namespace gatehouse::http {

namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

/// What a line was found to be.
struct Problem {
  uint16_t request_status = 0;  // 0: none; a response's is always 502
  const char* reason = "";
};

/// "HTTP/1.0" or "HTTP/1.1" (RFC 9112 section 2.3).
Problem take_version(std::string_view text, Version& out) {
  if (text == "HTTP/1.1") {
    out = Version::http11;
    return {};
  }
  if (text == "HTTP/1.0") {
    out = Version::http10;
    return {};
  }
  const bool other = text.size() == 8 && text.starts_with("HTTP/") && is_digit(text[5]) &&
                     text[6] == '.' && is_digit(text[7]);
  if (other) return {505, "HTTP version other than 1.0 and 1.1"};
  return {400, "malformed HTTP version"};
}

/// method SP request-target SP HTTP-version (RFC 9112 section 3), single spaces only.
Problem take_start_line(std::string_view line, RequestHead& out) {
  const size_t method_end = line.find(' ');
  const size_t target_end = line.rfind(' ');
  if (method_end == line.npos || target_end <= method_end + 1) {
    return {400, "malformed request line"};
  }
  out.method_text = line.substr(0, method_end);
  if (!is_token(out.method_text)) return {400, "malformed method"};
  out.method = method_of(out.method_text);
  out.target = line.substr(method_end + 1, target_end - method_end - 1);
  // Before the target is judged: to another version's client its own grammar applies.
  return take_version(line.substr(target_end + 1), out.version);
}

/// HTTP-version SP status-code SP [reason-phrase] (RFC 9112 section 4). Many an origin leaves the
/// last space out when there is no reason phrase.
Problem take_start_line(std::string_view line, ResponseHead& out) {
  constexpr size_t status_at = 9, reason_at = 13;
  if (line.size() < status_at + 3 || line[status_at - 1] != ' ') {
    return {502, "malformed status line"};
  }
  const Problem problem = take_version(line.substr(0, status_at - 1), out.version);
  if (problem.request_status != 0) return problem;
  for (const char c : line.substr(status_at, 3)) {
    if (!is_digit(c)) return {502, "malformed status"};
    out.status = static_cast<uint16_t>(out.status * 10 + (c - '0'));
  }
  if (line.size() == status_at + 3) return {};
  if (line[reason_at - 1] != ' ') return {502, "malformed status"};
  out.reason = line.substr(reason_at);
  return {};
}

/// field-name ":" OWS field-value OWS (RFC 9112 section 5).
Problem take_field(std::string_view line, Field& out) {
  size_t colon = 0;
  while (colon < line.size() && characters::is(characters::token, line[colon])) ++colon;
  if (colon == 0 || colon == line.size() || line[colon] != ':') {
    return {400, "malformed field name"};
  }
  size_t begin = colon + 1;
  size_t end = line.size();
  while (begin < end && is_blank(line[begin])) ++begin;
  while (end > begin && is_blank(line[end - 1])) --end;
  out.name = line.substr(0, colon);
  out.value = line.substr(begin, end - begin);
  out.id = field_id(out.name);
  // One space between colon and value, none behind it: the form that may be copied as it lies.
  out.verbatim = begin == colon + 2 && line[colon + 1] == ' ' && end == line.size();
  return {};
}

/// Cuts the first line off, without its CRLF; false if none ends there, or another control
/// character comes first.
bool next_line(std::string_view& rest, std::string_view& line) {
  const size_t length = find_control(rest, 0);
  if (length + 1 >= rest.size() || rest[length] != '\r' || rest[length + 1] != '\n') return false;
  line = rest.substr(0, length);
  rest.remove_prefix(length + 2);
  return true;
}

/// Takes one head off the front of `rest`.
template <class Head>
Problem parse(std::string_view& rest, size_t fields_max, Head& out) {
  std::string_view line;
  if (!next_line(rest, line)) return {400, "malformed head"};
  const Problem start = take_start_line(line, out);
  if (start.request_status != 0) return start;
  while (next_line(rest, line)) {
    if (line.empty()) return {};
    if (out.fields.size() >= fields_max) return {431, "too many fields"};
    // In place: a copy of so fresh a struct stalls.
    const Problem problem = take_field(line, out.fields.emplace_back());
    if (problem.request_status != 0) return problem;
  }
  return {400, "a control character, or no end of the head"};
}

constexpr std::string_view empty_line = "\r\n";

/// One empty line before a request line is nothing (RFC 9112 section 2.2).
std::string_view without_empty_line(std::string_view bytes) {
  return bytes.starts_with(empty_line) ? bytes.substr(empty_line.size()) : bytes;
}

}  // namespace

std::optional<Refusal> parse_request(std::string_view bytes, const HeadLimits& limits,
                                     RequestHead& out) {
  out.clear();
  if (bytes.size() > limits.bytes_max) return Refusal{431, "the head is too long"};
  std::string_view rest = without_empty_line(bytes);
  const Problem problem = parse(rest, limits.fields_max, out);
  if (problem.request_status != 0) return Refusal{problem.request_status, problem.reason};
  if (!rest.empty()) return Refusal{400, "an empty line within the head"};
  return check_request(out);
}

std::optional<Refusal> parse_response(std::string_view bytes, const HeadLimits& limits,
                                      Method request_method, ResponseHead& out,
                                      bool upgrade_asked) {
  out.clear();
  if (bytes.size() > limits.bytes_max) return Refusal{502, "the head is too long"};
  std::string_view rest = bytes;
  const Problem problem = parse(rest, limits.fields_max, out);
  if (problem.request_status != 0) return Refusal{502, problem.reason};
  if (!rest.empty()) return Refusal{502, "an empty line within the head"};
  return check_response(out, request_method, upgrade_asked);
}

size_t parse_whole_request(std::string_view bytes, const HeadLimits& limits, RequestHead& out) {
  out.clear();
  std::string_view rest = without_empty_line(bytes);
  const bool parsed = parse(rest, limits.fields_max, out).request_status == 0;
  const size_t length = bytes.size() - rest.size();
  if (parsed && length <= limits.bytes_max && !check_request(out)) return length;
  out.clear();
  return 0;
}

size_t parse_whole_response(std::string_view bytes, const HeadLimits& limits, Method request_method,
                            ResponseHead& out, bool upgrade_asked) {
  out.clear();
  std::string_view rest = bytes;
  const bool parsed = parse(rest, limits.fields_max, out).request_status == 0;
  const size_t length = bytes.size() - rest.size();
  const bool whole = parsed && length <= limits.bytes_max;
  if (whole && !check_response(out, request_method, upgrade_asked)) return length;
  out.clear();
  return 0;
}

}  // namespace gatehouse::http
