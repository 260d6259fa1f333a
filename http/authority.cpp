#include "http/authority.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <cstring>
#include <string>

#include "http/characters.hpp"

namespace gatehouse::http {

namespace {

bool is_port(std::string_view text) {
  if (text.size() > 5) return false;
  unsigned port = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    port = port * 10 + static_cast<unsigned>(c - '0');
  }
  return port <= 65535;
}

bool is_ipv6_literal(std::string_view text) {  // with its brackets
  char buffer[INET6_ADDRSTRLEN];
  if (text.size() < 4 || text.size() - 2 >= sizeof(buffer)) return false;
  const std::string_view inside = text.substr(1, text.size() - 2);
  if (inside.find('\0') != inside.npos) return false;  // what follows would not be looked at
  std::memcpy(buffer, inside.data(), inside.size());
  buffer[inside.size()] = '\0';
  in6_addr address;
  return inet_pton(AF_INET6, buffer, &address) == 1;
}

/// Letters, digits, '-', '_' and single dots between them; one dot may end it.
bool is_registered_name(std::string_view text) {
  if (text.empty() || text.size() > 255 || text.front() == '.') return false;
  bool dot = false;
  for (const char c : text) {
    if (!characters::is(characters::host, c) || (dot && c == '.')) return false;
    dot = c == '.';
  }
  return true;
}

std::string_view host_of(std::string_view authority) {
  const bool literal = !authority.empty() && authority.front() == '[';
  const size_t host_end = literal ? authority.find(']') + 1 : authority.find(':');
  if (literal && host_end == 0) return {};  // npos + 1: no closing bracket
  const std::string_view host = authority.substr(0, host_end);
  if (host.size() < authority.size()) {
    if (authority[host.size()] != ':' || !is_port(authority.substr(host.size() + 1))) return {};
  }
  return (literal ? is_ipv6_literal(host) : is_registered_name(host)) ? host : std::string_view{};
}

}  // namespace

std::string_view host_name(std::string_view authority, OwnedText& owned) {
  std::string_view host = host_of(authority);
  if (host.ends_with('.')) host.remove_suffix(1);
  const auto is_upper = [](char c) { return c != characters::lower(c); };
  if (std::none_of(host.begin(), host.end(), is_upper)) return host;
  std::string lower(host);
  std::transform(lower.begin(), lower.end(), lower.begin(), characters::lower);
  return owned.keep(std::move(lower));
}

}  // namespace gatehouse::http
