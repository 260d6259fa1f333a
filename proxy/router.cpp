#include "proxy/router.hpp"

#include <map>
#include <unordered_map>
#include <utility>

#include "http/rules.hpp"

namespace gatehouse::proxy {

namespace {

/// By names that the snapshot keeps.
using SiteIndex = std::unordered_map<std::string_view, size_t>;

constexpr size_t no_site = SIZE_MAX;

/// Whether the path differs, or may differ, from its normal form. One look at each byte: nearly
/// every path is normal, and then nothing is copied.
bool needs_normalising(std::string_view target) {
  char previous = '\0';
  for (const char c : target) {
    if (c == '?') return false;
    if (c == '%' || c == '\\') return true;
    if (previous == '/' && (c == '/' || c == '.')) return true;
    previous = c;
  }
  return false;
}

bool method_matches(const config::Route& route, std::string_view method) {
  if (route.methods.empty()) return true;
  for (const std::string& wanted : route.methods) {
    if (wanted == method) return true;
  }
  return false;
}

bool field_matches(const config::Route::FieldMatch& wanted, const http::RequestHead& request) {
  for (const http::Field& field : request.fields) {
    // Host is marked `skip` because it is written first, not because it is not there.
    if (field.skip && field.id != http::FieldId::host) continue;
    if (!http::equal_ignoring_case(field.name, wanted.name)) continue;
    if (wanted.prefix ? field.value.starts_with(wanted.value) : field.value == wanted.value) {
      return true;
    }
  }
  return false;
}

bool path_matches(const RouteRules& route, std::string_view path) {
  return route.settings->prefix ? path.starts_with(route.path) : path == route.path;
}

bool matches(const RouteRules& route, const http::RequestHead& request, std::string_view path) {
  if (!path_matches(route, path)) return false;
  if (!method_matches(*route.settings, request.method_text)) return false;
  for (const auto& wanted : route.settings->fields) {
    if (!field_matches(wanted, request)) return false;
  }
  return true;
}

const RouteRules* first_match(const SiteRules& site, const http::RequestHead& request,
                              std::string_view path) {
  for (const RouteRules& route : site.routes) {
    if (matches(route, request, path)) return &route;
  }
  return nullptr;
}

/// The path as an origin sees it that takes an encoded slash for a slash. False: it has none then.
bool read_slashes(std::string_view path, std::string& out) {
  std::string text;
  text.reserve(path.size());
  for (size_t i = 0; i < path.size(); ++i) {
    const std::string_view escape = path.substr(i, 3);
    const bool encoded = escape == "%2F" || escape == "%5C";
    text += encoded || path[i] == '\\' ? '/' : path[i];
    if (encoded) i += 2;
  }
  bool encoded_slash = false;
  return http::normalise_path(text, out, encoded_slash);
}

}  // namespace

struct Router::Tables {
  config::SnapshotPtr snapshot;
  std::vector<std::string> upstream_names;
  std::vector<SiteRules> sites;
  SiteIndex exact;
  SiteIndex wildcards;  // "*.example.com" by "example.com"
  size_t any = no_site;
  bool addresses = false;  // among the exact ones

  explicit Tables(config::SnapshotPtr s);
  void add_hosts(const config::Site& site, size_t index);
  size_t upstream_index(const std::string& name) const;
  RouteRules rules_of(const config::Route& route, size_t site_upstream) const;
  const SiteRules* at(size_t index) const { return index == no_site ? nullptr : &sites[index]; }
};

Router::Tables::Tables(config::SnapshotPtr s) : snapshot(std::move(s)) {
  for (const auto& [name, upstream] : snapshot->upstreams) upstream_names.push_back(name);
  for (const config::Site& site : snapshot->sites) {
    SiteRules rules;
    rules.settings = &site;
    rules.upstream = upstream_index(site.upstream);
    for (const config::Route& route : site.routes) {
      rules.routes.push_back(rules_of(route, rules.upstream));
    }
    add_hosts(site, sites.size());
    sites.push_back(std::move(rules));
  }
}

/// The first site that names a host keeps it.
void Router::Tables::add_hosts(const config::Site& site, size_t index) {
  for (const config::HostGlob& host : site.hosts) {
    if (host.text == "*") {
      if (any == no_site) any = index;
    } else if (host.text.starts_with("*.")) {
      wildcards.emplace(std::string_view(host.text).substr(2), index);
    } else {
      exact.emplace(host.text, index);
      addresses = addresses || host.is_address();
    }
  }
}

size_t Router::Tables::upstream_index(const std::string& name) const {
  const auto found = snapshot->upstreams.find(name);
  if (found == snapshot->upstreams.end()) return no_upstream;
  return static_cast<size_t>(std::distance(snapshot->upstreams.begin(), found));
}

RouteRules Router::Tables::rules_of(const config::Route& route, size_t site_upstream) const {
  RouteRules rules;
  rules.settings = &route;
  bool encoded_slash = false;
  if (!http::normalise_path(route.path, rules.path, encoded_slash)) rules.path = route.path;
  if (!route.redirect && !route.respond) {
    rules.upstream = route.upstream.empty() ? site_upstream : upstream_index(route.upstream);
  }
  return rules;
}

Router::Router(config::SnapshotPtr snapshot)
    : tables_(std::make_unique<const Tables>(std::move(snapshot))) {}

Router::~Router() = default;

const SiteRules* Router::find_site(std::string_view host) const {
  if (const auto found = tables_->exact.find(host); found != tables_->exact.end()) {
    return &tables_->sites[found->second];
  }
  const size_t dot = host.find('.');
  if (dot != host.npos && dot > 0 && !tables_->wildcards.empty()) {
    const auto found = tables_->wildcards.find(host.substr(dot + 1));
    if (found != tables_->wildcards.end()) return &tables_->sites[found->second];
  }
  return tables_->at(tables_->any);
}

const SiteRules* Router::find_address(const boost::asio::ip::address& address) const {
  const std::string text = address.to_string();
  const auto found = tables_->exact.find(address.is_v6() ? "[" + text + "]" : text);
  return found == tables_->exact.end() ? nullptr : &tables_->sites[found->second];
}

bool Router::names_addresses() const {
  return tables_->addresses;
}

const SiteRules* Router::default_site() const {
  if (tables_->any != no_site) return tables_->at(tables_->any);
  return tables_->sites.size() == 1 ? &tables_->sites.front() : nullptr;
}

Decision Router::match(const SiteRules& site, const http::RequestHead& request,
                       std::string& scratch) const {
  std::string_view path = request.target.substr(0, request.target.find('?'));
  bool encoded_slash = false;
  if (needs_normalising(path)) {
    if (!http::normalise_path(path, scratch, encoded_slash)) return {400, nullptr, no_upstream};
    path = scratch;
  }
  const RouteRules* route = first_match(site, request, path);
  if (encoded_slash && !site.routes.empty()) {
    // The origin may take %2F for a slash or not. If that makes a difference here, routing it
    // either way would let a request past a route.
    std::string other;
    if (!read_slashes(path, other) || first_match(site, request, other) != route) {
      return {400, nullptr, no_upstream};
    }
  }
  if (route) return {0, route, route->upstream};
  if (site.upstream == no_upstream) return {404, nullptr, no_upstream};
  return {0, nullptr, site.upstream};
}

const std::vector<std::string>& Router::upstream_names() const {
  return tables_->upstream_names;
}

}  // namespace gatehouse::proxy
