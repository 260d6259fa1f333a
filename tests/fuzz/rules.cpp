// The pure rules on any text: paths as routing sees them, hosts, names and values of fields.
#include "http/rules.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "http/authority.hpp"
#include "http/characters.hpp"
#include "tests/fuzz/target.hpp"

namespace gatehouse {

namespace http {

namespace {

std::vector<std::string_view> segments(std::string_view path) {
  std::vector<std::string_view> all;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    all.push_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return all;
}

/// What is left encoded must be encoded, and in one spelling: else two texts route differently that
/// an origin takes for the same.
void check_escapes(std::string_view path) {
  for (size_t at = path.find('%'); at != path.npos; at = path.find('%', at + 1)) {
    ASSERT(at + 2 < path.size());
    const int high = characters::hex_digit(path[at + 1]), low = characters::hex_digit(path[at + 2]);
    ASSERT(high >= 0 && low >= 0 && high + low > 0);
    ASSERT(path[at + 1] < 'a' && path[at + 2] < 'a');
    ASSERT(!characters::is(characters::unreserved, static_cast<char>(high * 16 + low)));
  }
}

void check_path(std::string_view target) {
  std::string path, again;
  bool slash = false, slash_again = false;
  if (!normalise_path(target, path, slash)) return;
  if (path == "*") return ASSERT(target.substr(0, target.find('?')) == "*");
  ASSERT(path.starts_with('/') && path.find('?') == path.npos);
  ASSERT(path.size() <= target.size());
  const auto parts = segments(path);
  for (size_t i = 1; i < parts.size(); ++i) {
    ASSERT(parts[i] != "." && parts[i] != ".." && !parts[i].starts_with("..;"));
    ASSERT(!parts[i].empty() || i + 1 == parts.size());
  }
  check_escapes(path);
  const bool holds_slash = path.find("%2F") != path.npos || path.find("%5C") != path.npos ||
                           path.find('\\') != path.npos;
  ASSERT(slash || !holds_slash);
  ASSERT(normalise_path(path, again, slash_again) && again == path);
}

/// In any case, with any port and with a final dot: the same host.
void check_host(std::string_view authority) {
  OwnedText owned;
  const std::string host(host_name(authority, owned));
  if (host.empty()) return;
  ASSERT(!host.empty() && host.size() <= 255);
  for (const char c : host) {
    ASSERT(characters::is(characters::host, c) || c == ':' || c == '[' || c == ']');
    ASSERT(characters::lower(c) == c);
  }
  ASSERT(!host.ends_with('.'));
  ASSERT((host.find(':') != host.npos) == (host.front() == '[' && host.back() == ']'));
  ASSERT(equal_ignoring_case(authority.substr(0, host.size()), host));
  ASSERT(host_name(host, owned) == host);
  const std::string with_port = host + ":65535";
  ASSERT(host_name(with_port, owned) == host);
  ASSERT(host_name(host + ":65536", owned).empty() && host_name("user@" + host, owned).empty());
}

/// A field that means something to one hop, or tells who asks, comes in front of the body or not
/// at all.
bool trailer_by_id(FieldId id) {
  switch (id) {
    case FieldId::other:
    case FieldId::accept:
    case FieldId::priority:
    case FieldId::referer:
    case FieldId::server:
    case FieldId::user_agent:
      return true;
    default:
      return false;
  }
}

void check_name(std::string_view name) {
  std::string lower(name), upper(name);
  for (char& c : lower) c = characters::lower(c);
  for (char& c : upper) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  ASSERT(equal_ignoring_case(lower, upper));
  ASSERT(trailer_allowed(name) == trailer_allowed(lower));
  ASSERT(trailer_allowed(name) == trailer_allowed(upper));
  if (!is_token(name)) return;
  ASSERT(is_field_value(name));
  const FieldId id = field_id(name);
  ASSERT(id == field_id(lower) && id == field_id(upper));
  ASSERT(trailer_by_id(id) || !trailer_allowed(name));
  if (id == FieldId::other) return;
  for (const char c : lower) ASSERT(c == '-' || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'));
}

void check_value(std::string_view value) {
  const bool clean = std::none_of(value.begin(), value.end(), [](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
  });
  ASSERT(is_field_value(value) == clean);
}

/// The rules by themselves, as a client of another HTTP version meets them: no parser has seen to
/// names and targets. What passes has a target and a host that routing can use.
void check_whole(std::string_view line) {
  const size_t space = line.find(' ');
  const size_t colon = line.find(':', space == line.npos ? 0 : space);
  if (space == line.npos || colon == line.npos) return;
  RequestHead head;
  head.method = Method::post;
  head.target = line.substr(0, space);
  const auto name = line.substr(space + 1, colon - space - 1);
  head.fields.push_back({"host", "a.example", FieldId::host});
  head.fields.push_back({name, line.substr(colon + 1), field_id(name)});
  if (check_request(head)) return;
  ASSERT(head.target.starts_with('/'));
  OwnedText owned;
  ASSERT(!head.host.empty() && host_name(head.authority, owned) == head.host);
  ASSERT((head.framing == Framing::length) == (head.content_length > 0));
}

}  // namespace

}  // namespace http

void fuzz(std::string_view input) {
  http::check_path(input);
  http::check_host(input);
  http::check_name(input);
  http::check_value(input);
  http::check_whole(input);
}

}  // namespace gatehouse
