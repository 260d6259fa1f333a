#include "proxy/rewrite.hpp"

#include <algorithm>
#include <chrono>
#include <map>
#include <utility>

#include "http/characters.hpp"
#include "http/date.hpp"
#include "http/rules.hpp"

namespace gatehouse::proxy {

namespace {

using http::Field;
using http::FieldId;
using http::Fields;
using http::Version;

constexpr std::string_view hsts_name = "Strict-Transport-Security";

/// RFC 9110 section 7.6.3: the version of the message as it was received.
std::string_view via(Version version) {
  switch (version) {
    case Version::http10:
      return "1.0 gatehouse";
    case Version::http11:
      return "1.1 gatehouse";
    case Version::http2:
      return "2.0 gatehouse";
  }
  return {};
}

/// Forwarded and everything that begins with X-Forwarded-: origins also act on -Port, -Server,
/// -Prefix and others. Those that take '_' for '-' (CGI, WSGI) would act on that spelling too.
bool is_forwarding(const Field& field) {
  constexpr std::string_view begin = "x-forwarded-";
  if (field.id == FieldId::forwarded) return true;
  if (field.name.size() <= begin.size()) return false;
  for (size_t i = 0; i < begin.size(); ++i) {
    const char c = field.name[i] == '_' ? '-' : http::characters::lower(field.name[i]);
    if (c != begin[i]) return false;
  }
  return true;
}

void skip_named(Fields& fields, std::string_view name) {
  for (Field& field : fields) {
    if (http::equal_ignoring_case(field.name, name)) field.skip = true;
  }
}

/// All lines of one list field as one list, ", " and `element` behind it; they are skipped.
std::string take_list(Fields& fields, FieldId id, std::string_view element) {
  std::string list;
  for (Field& field : fields) {
    if (field.id != id || field.skip) continue;
    field.skip = true;
    if (field.value.empty()) continue;
    list.append(field.value).append(", ");
  }
  return list.append(element);
}

/// One element of Forwarded (RFC 7239 section 4).
std::string forwarded_element(const Downstream& downstream) {
  const bool ipv6 = downstream.address.find(':') != downstream.address.npos;
  std::string element = ipv6 ? "for=\"[" : "for=";
  element.append(downstream.address).append(ipv6 ? "]\"" : "");
  return element.append(downstream.encrypted ? ";proto=https" : ";proto=http");
}

/// A proxy in front of us is believed: what it says stays, and it is named itself.
void append_forwarding(http::RequestHead& head, const Downstream& downstream) {
  if (head.find(FieldId::x_forwarded_for)) {
    head.add("X-Forwarded-For",
             take_list(head.fields, FieldId::x_forwarded_for, downstream.address));
  } else {
    head.add_view("X-Forwarded-For", downstream.address, FieldId::x_forwarded_for);
  }
  if (head.find(FieldId::forwarded)) {
    head.add("Forwarded",
             take_list(head.fields, FieldId::forwarded, forwarded_element(downstream)));
  }
}

/// `changes` outlives the head: it lies in the snapshot that the exchange holds. Framing and
/// connection fields never stand in it: the configuration refuses them.
template <class Head>
void change_fields(Head& head, const config::FieldChanges& changes) {
  if (changes.empty()) return;
  for (const auto& name : changes.remove) skip_named(head.fields, name);
  for (const auto& [name, value] : changes.set) {
    skip_named(head.fields, name);
    head.add_view(name, value);
  }
  for (const auto& [name, value] : changes.add) head.add_view(name, value);
}

/// "max-age=31536000" for a site's setting. Made once for each value that the configuration has
/// ever held on this thread: a handful.
std::string_view hsts_value(config::Duration duration) {
  thread_local std::map<config::Duration, std::string> values;
  auto& value = values[duration];
  if (value.empty()) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(duration).count();
    value = "max-age=" + std::to_string(seconds);
  }
  return value;
}

/// "https://api.example.com:8443" → "api.example.com:8443".
std::string_view authority_of(const config::Endpoint& endpoint) {
  if (!endpoint.unix_path.empty()) return "localhost";
  std::string_view text = endpoint.text;
  if (const size_t scheme = text.find("://"); scheme != text.npos) text.remove_prefix(scheme + 3);
  return text.substr(0, text.find('/'));
}

/// The path behind `prefix`, or nothing if no segment ends there. Keeps the leading slash.
std::string_view behind_prefix(std::string_view path, std::string_view prefix) {
  if (prefix.ends_with('/')) prefix.remove_suffix(1);
  if (!path.starts_with(prefix)) return {};
  path.remove_prefix(prefix.size());
  if (path.empty()) return "/";
  return path.front() == '/' ? path : std::string_view{};
}

bool is_location(std::string_view text) {
  for (const char c : text) {
    if (!http::characters::is(http::characters::target, c) && c != '#') return false;
  }
  return !text.empty();
}

/// False: the request has no such part.
bool replace_placeholder(std::string_view name, const http::RequestHead& head, std::string& out) {
  const std::string_view target = head.target.starts_with('/') ? head.target : "/";
  const size_t question = target.find('?');
  if (name == "uri") {
    out += target;
  } else if (name == "path") {
    out += target.substr(0, question);
  } else if (name == "query") {
    if (question != target.npos) out += target.substr(question + 1);
  } else if (name == "host") {
    if (head.host.empty()) return false;
    out += head.host;
  }
  return true;
}

}  // namespace

void rewrite_request(http::RequestHead& head, const Downstream& downstream,
                     const config::Site& site) {
  if (downstream.trusted) {
    append_forwarding(head, downstream);
  } else {
    for (Field& field : head.fields) {
      if (is_forwarding(field)) field.skip = true;
    }
    head.add_view("X-Forwarded-For", downstream.address, FieldId::x_forwarded_for);
  }
  if (!downstream.trusted || !head.find(FieldId::x_forwarded_proto)) {
    head.add_view("X-Forwarded-Proto", downstream.encrypted ? "https" : "http",
                  FieldId::x_forwarded_proto);
  }
  if (!head.authority.empty() && (!downstream.trusted || !head.find(FieldId::x_forwarded_host))) {
    head.add_view("X-Forwarded-Host", head.authority, FieldId::x_forwarded_host);
  }
  head.add_view("Via", via(head.version), FieldId::via);
  change_fields(head, site.request_fields);
}

void rewrite_response(http::ResponseHead& head, bool encrypted, const config::Site& site) {
  // RFC 9110 section 6.6.1: a recipient with a clock adds what the origin left out.
  if (!head.find(FieldId::date)) head.add_view("Date", http::date_now(), FieldId::date);
  head.add_view("Via", via(head.version), FieldId::via);
  if (encrypted && site.hsts) {
    skip_named(head.fields, hsts_name);
    head.add_view(hsts_name, hsts_value(*site.hsts));
  }
  change_fields(head, site.response_fields);
}

std::string_view upstream_host(const http::RequestHead& head, const config::Upstream& upstream,
                               const config::Endpoint& endpoint) {
  if (upstream.host == "request") {
    // An HTTP/1.0 client may have named no host at all.
    return head.authority.empty() ? authority_of(endpoint) : head.authority;
  }
  return upstream.host == "server" ? authority_of(endpoint) : std::string_view(upstream.host);
}

void strip_prefix(http::RequestHead& head, std::string_view prefix) {
  thread_local std::string normal;
  const size_t path_size = std::min(head.target.find('?'), head.target.size());
  const std::string_view path = head.target.substr(0, path_size);
  const std::string_view query = head.target.substr(path_size);
  bool encoded_slash = false;
  if (!http::normalise_path(path, normal, encoded_slash)) return;
  const std::string_view rest = behind_prefix(normal, prefix);
  if (rest.empty()) return;
  if (path == normal && path.ends_with(rest) && rest.size() < path.size()) {
    head.target.remove_prefix(path.size() - rest.size());
  } else {
    head.target = head.owned.keep(std::string(rest).append(query));
  }
}

std::string redirect_location(const config::Redirect& redirect, const http::RequestHead& head) {
  const std::string_view pattern = redirect.target;
  std::string location;
  for (size_t i = 0; i < pattern.size();) {
    const size_t close = pattern[i] == '{' ? pattern.find('}', i) : pattern.npos;
    if (close == pattern.npos) {
      location += pattern[i++];
      continue;
    }
    if (!replace_placeholder(pattern.substr(i + 1, close - i - 1), head, location)) return {};
    i = close + 1;
  }
  // "{uri}" of "//evil.example" would be another host's address: browsers take "\\" for "/" too.
  if (!pattern.starts_with("//")) {
    while (location.starts_with("//") || location.starts_with("/\\")) location.erase(1, 1);
  }
  return is_location(location) ? location : std::string{};
}

}  // namespace gatehouse::proxy
