#include "config/parse_route.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

#include <fmt/format.h>

#include "config/suggestion.hpp"

namespace gatehouse::config {

namespace {

constexpr size_t path_bytes_max = 4096;
constexpr size_t methods_max = 64;
constexpr size_t field_matches_max = 64;
constexpr size_t response_bytes_max = 64 * 1024;

void parse_path(Reader& reader, Route& route);
void parse_methods(Reader& reader, Route& route);
void parse_field_matches(Reader& reader, Route& route);
void parse_action(Reader& reader, Route& route, RouteDraft& marks);
void parse_strip_prefix(Reader& reader, Route& route);

}  // namespace

std::pair<Route, RouteDraft> parse_route(Reader& reader) {
  std::pair<Route, RouteDraft> result;
  auto& [route, marks] = result;
  route.place = reader.findings().place(reader.mark());
  parse_path(reader, route);
  parse_methods(reader, route);
  parse_field_matches(reader, route);
  parse_action(reader, route, marks);
  parse_strip_prefix(reader, route);
  reader.finish();
  return result;
}

namespace {

/// Empty, or what is wrong with a path that requests are compared with after normalisation.
std::string path_problem(std::string_view path) {
  if (!path.starts_with('/')) return "must begin with /";
  if (path.size() > path_bytes_max) return fmt::format("is longer than {} bytes", path_bytes_max);
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80) return "is not ASCII: write it percent-encoded";
    if (byte <= 0x20 || byte == 0x7f) return "holds white space: write it percent-encoded";
    if (c == '?' || c == '#') return "holds a query: a route looks at the path only";
    if (c == '*') return "has a * inside: only the last character may be *";
  }
  const auto slashed = std::string(path) + "/";
  if (slashed.find("/./") != slashed.npos || slashed.find("/../") != slashed.npos) {
    return "holds . or .. segments, which requests never have after normalisation";
  }
  return {};
}

std::optional<uint16_t> parse_status(std::string_view text) {
  uint16_t status = 0;
  const auto* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, status);
  if (error != std::errc{} || rest != end || text.size() != 3) return std::nullopt;
  return status;
}

}  // namespace

Parsed<Route> parse_route_path(std::string_view text) {
  Route route;
  auto path = text == "*" ? std::string_view("/*") : text;
  route.prefix = path.ends_with('*');
  if (route.prefix) path.remove_suffix(1);
  if (const auto problem = path_problem(path); !problem.empty()) {
    return Mistake{fmt::format("the path {} {}", in_quotes(text), problem)};
  }
  route.path = path;
  return route;
}

Parsed<Redirect> parse_redirect(std::string_view text) {
  static constexpr std::string_view placeholders[] = {"uri", "host", "path", "query"};
  Redirect result;
  const auto space = text.find(' ');
  if (const auto status = parse_status(text.substr(0, space))) {
    const bool known =
        *status == 301 || *status == 302 || *status == 303 || *status == 307 || *status == 308;
    if (!known) {
      return Mistake{fmt::format("{} is no redirect: use 301, 302, 303, 307 or 308", *status)};
    }
    result.status = *status;
    text = space == text.npos ? std::string_view() : text.substr(space + 1);
  }
  result.target = text;
  const bool absolute = text.starts_with("https://") || text.starts_with("http://");
  if (!absolute && !text.starts_with('/') && !text.starts_with("{uri}") &&
      !text.starts_with("{path}")) {
    return Mistake{
        fmt::format("the target {} must begin with https://, http:// or /", in_quotes(text))};
  }
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte >= 0x7f) {
      return Mistake{"the target holds white space or other than ASCII: percent-encode it"};
    }
  }
  for (size_t at = text.find_first_of("{}"); at != text.npos; at = text.find_first_of("{}", at)) {
    const auto end = text.find('}', at);
    if (text[at] == '}' || end == text.npos) {
      return Mistake{"a { and its } do not match: write {uri}, {host}, {path} or {query}"};
    }
    const auto name = text.substr(at + 1, end - at - 1);
    if (std::find(std::begin(placeholders), std::end(placeholders), name) ==
        std::end(placeholders)) {
      return Mistake{
          fmt::format("{{{}}} is unknown{}: write {{uri}}, {{host}}, {{path}} or "
                      "{{query}}",
                      name, did_you_mean(name, placeholders))};
    }
    at = end + 1;
  }
  return result;
}

Parsed<FixedResponse> parse_response(std::string_view text) {
  FixedResponse result;
  const auto space = text.find(' ');
  const auto status = parse_status(text.substr(0, space));
  if (!status || *status < 200 || *status > 599) {
    return Mistake{
        fmt::format("{} does not begin with a status from 200 to 599: write \"204\" or "
                    "\"503 down for maintenance\"",
                    in_quotes(text))};
  }
  result.status = *status;
  if (space != text.npos) result.body = text.substr(space + 1);
  if (result.body.size() > response_bytes_max) {
    return Mistake{fmt::format("the body is longer than {} KiB: serve it from an upstream",
                               response_bytes_max / 1024)};
  }
  const bool bodiless = result.status == 204 || result.status == 205 || result.status == 304;
  if (bodiless && !result.body.empty()) {
    return Mistake{
        fmt::format("{} has no body (RFC 9110 section 15): leave the text out", result.status)};
  }
  return result;
}

namespace {

void parse_path(Reader& reader, Route& route) {
  std::string text;
  route.path = "/";
  route.prefix = true;
  if (!reader.read("path", text)) return;
  auto parsed = parse_route_path(text);
  if (!parsed) {
    reader.refuse("path", parsed.error().text);
    return;
  }
  route.path = std::move(parsed->path);
  route.prefix = parsed->prefix;
}

void parse_methods(Reader& reader, Route& route) {
  reader.each_string(
      "methods", [&](const std::string& text, const Mark& mark, const std::string& path) {
        std::string upper = text;
        std::transform(upper.begin(), upper.end(), upper.begin(), [](char c) {
          return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
        });
        std::string problem;
        if (!is_token(text)) {
          problem = in_quotes(text) + " is no method";
        } else if (text != upper) {
          problem = fmt::format("methods are case-sensitive: did you mean '{}'?", upper);
        } else if (text == "CONNECT" || text == "TRACE") {
          problem = text + " is never forwarded: remove it";
        } else if (route.methods.size() == methods_max) {
          problem = fmt::format("more than {} methods", methods_max);
        }
        if (problem.empty()) {
          route.methods.push_back(text);
        } else {
          reader.findings().add(mark, path, std::move(problem));
        }
      });
}

void parse_field_matches(Reader& reader, Route& route) {
  const auto* table = reader.table("headers");
  if (table == nullptr) return;
  Reader fields(*table, reader.path("headers"), reader.findings());
  for (const auto& member : table->members) {
    const auto path = fields.path(member.name);
    Route::FieldMatch match;
    if (route.fields.size() == field_matches_max) {
      reader.findings().add(member.mark, path,
                            fmt::format("more than {} fields", field_matches_max));
      return;
    }
    if (!is_token(member.name)) {
      reader.findings().add(member.mark, path, in_quotes(member.name) + " is no field name");
      continue;
    }
    if (member.value.kind != ValueKind::string) {
      reader.refuse_kind(member.value, path, "a string in quotes");
      continue;
    }
    if (!reader.expand(member.value, path, match.value)) continue;
    match.name = member.name;
    match.prefix = match.value.ends_with('*');
    if (!is_field_value(match.value)) {
      reader.findings().add(member.value.mark, path,
                            "can never match: it holds control characters, or white space at its "
                            "beginning or end");
      continue;
    }
    if (match.prefix) match.value.pop_back();
    route.fields.push_back(std::move(match));
  }
}

void parse_action(Reader& reader, Route& route, RouteDraft& marks) {
  std::string text;
  if (reader.given("upstream") && reader.read("upstream", text)) {
    marks.own_upstream = true;
    marks.upstream = {text, reader.mark("upstream"), reader.path("upstream")};
  }
  if (reader.given("redirect") && reader.read("redirect", text)) {
    auto redirect = parse_redirect(text);
    if (redirect) {
      route.redirect = std::move(*redirect);
    } else {
      reader.refuse("redirect", redirect.error().text);
    }
  }
  if (reader.given("respond") && reader.read("respond", text)) {
    auto response = parse_response(text);
    if (response) {
      route.respond = std::move(*response);
    } else {
      reader.refuse("respond", response.error().text);
    }
  }
  const int actions = reader.given("upstream") + reader.given("redirect") + reader.given("respond");
  if (actions > 1) {
    reader.findings().add(reader.mark(), reader.path(),
                          "has more than one of upstream, redirect and respond: keep one");
  }
}

void parse_strip_prefix(Reader& reader, Route& route) {
  std::string text;
  if (!reader.given("strip_prefix") || !reader.read("strip_prefix", text)) return;
  if (const auto problem = path_problem(text); !problem.empty()) {
    reader.refuse("strip_prefix", fmt::format("the prefix {} {}", in_quotes(text), problem));
    return;
  }
  if (reader.given("redirect") || reader.given("respond")) {
    reader.refuse("strip_prefix", "has no effect on a route that redirects or responds: remove it");
    return;
  }
  const auto shorter = std::min(text.size(), route.path.size());
  if (text.compare(0, shorter, route.path, 0, shorter) != 0 ||
      (!route.prefix && text.size() > route.path.size())) {
    reader.refuse("strip_prefix",
                  fmt::format("{} is not how paths of this route begin ({}{})", in_quotes(text),
                              route.path, route.prefix ? "*" : ""));
    return;
  }
  route.strip_prefix = std::move(text);
}

}  // namespace

}  // namespace gatehouse::config
