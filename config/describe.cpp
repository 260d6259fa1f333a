#include "config/describe.hpp"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "base/json_escape.hpp"
#include "config/values.hpp"

namespace gatehouse::config {

namespace {

constexpr size_t sites_shown_max = 50;
constexpr size_t hosts_shown_max = 4;
constexpr size_t servers_shown_max = 8;

std::string plural(size_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

/// "a, b, c and 7 more"
template <class List, class Name>
std::string shown(const List& list, size_t most, Name name) {
  std::string result;
  size_t count = 0;
  for (const auto& item : list) {
    if (count == most) return result + fmt::format(" and {} more", list.size() - most);
    result += (count++ == 0 ? "" : ", ") + std::string(name(item));
  }
  return result;
}

std::string addresses(const std::vector<ListenAddress>& list) {
  if (list.empty()) return "off";
  return shown(list, list.size(), [](const ListenAddress& address) { return address.text; });
}

std::string_view word(CertificateMode mode) {
  switch (mode) {
    case CertificateMode::automatic:
      return "auto";
    case CertificateMode::on_demand:
      return "on_demand";
    case CertificateMode::off:
      return "off";
    case CertificateMode::internal:
      return "internal";
  }
  return "auto";
}

std::string certificates(const Site& site, const Snapshot& snapshot) {
  std::string authority;  // those that are tried, in order
  for (const auto& one : snapshot.acme.authorities)
    authority += (authority.empty() ? "" : ", ") + one.name;
  std::string result;
  switch (site.certificates) {
    case CertificateMode::automatic:
      result = "certificate from " + authority;
      break;
    case CertificateMode::on_demand:
      result = "certificates on demand from " + authority;
      break;
    case CertificateMode::off:
      return "plain HTTP only";
    case CertificateMode::internal:
      result = "internal certificate";
      break;
  }
  if (site.certificate.empty()) return result;
  if (site.certificates != CertificateMode::on_demand) return "certificate " + site.certificate;
  return "certificate " + site.certificate + ", else " + result;
}

std::string servers(const Upstream& upstream) {
  const auto address = [&](const Endpoint& endpoint) {
    return endpoint.text + (endpoint.backup ? " (backup)" : "");
  };
  return shown(upstream.servers, servers_shown_max, address);
}

std::string_view word(ProxyProtocol version) {
  switch (version) {
    case ProxyProtocol::off:
      return "";
    case ProxyProtocol::v1:
      return "v1";
    case ProxyProtocol::v2:
      return "v2";
  }
  return "";
}

std::string network_text(const Network& network) {
  return fmt::format("{}/{}", network.address.to_string(), network.prefix);
}

/// Who in front of us is believed; empty: nobody.
std::string proxies(const Server& server) {
  auto trusted = shown(server.trusted_proxies, hosts_shown_max, network_text);
  if (!server.proxy_protocol) return trusted;
  return "PROXY protocol from " + (trusted.empty() ? "Unix sockets" : trusted);
}

/// "shop (10.0.0.1:8080, 10.0.0.2:8080)"; an address stands for itself.
std::string target(const std::string& name, const Snapshot& snapshot) {
  const auto found = snapshot.upstreams.find(name);
  if (found == snapshot.upstreams.end()) return name;
  const auto& list = found->second.servers;
  if (list.size() == 1 && list.front().text == name) return name;
  const auto version = word(found->second.proxy_protocol);
  return fmt::format("{} ({}{}{})", name, servers(found->second),
                     version.empty() ? "" : ", PROXY protocol ", version);
}

std::string route_action(const Route& route, const Snapshot& snapshot) {
  if (route.redirect) {
    return fmt::format("redirect {} {}", route.redirect->status, route.redirect->target);
  }
  if (route.respond) return fmt::format("respond {}", route.respond->status);
  return target(route.upstream, snapshot);
}

std::string methods(const Route& route) {
  if (route.methods.empty()) return {};
  return shown(route.methods, route.methods.size(), [](const auto& method) { return method; }) +
         " ";
}

/// Where messages go, without what lets anyone else write there.
std::string notified(const Notify& notify) {
  std::string result;
  const auto add = [&](const std::string& way) { result += (result.empty() ? "" : " · ") + way; };
  if (notify.email) {
    const auto to = shown(notify.email->to, hosts_shown_max, [](const auto& one) { return one; });
    add(fmt::format("mail to {} by {}", to, notify.email->server()));
  }
  if (notify.webhook) add("webhook " + notify.webhook->server());
  if (!notify.exec.empty()) add("exec " + notify.exec.front());
  return result;
}

void describe_site(const Site& site, const Snapshot& snapshot, std::string& out) {
  const auto hosts = shown(site.hosts, hosts_shown_max, [](const auto& host) { return host.text; });
  out += fmt::format("  {} → {}, {}\n", hosts,
                     site.upstream.empty() ? "its routes" : target(site.upstream, snapshot),
                     certificates(site, snapshot));
  for (const auto& route : site.routes) {
    out += fmt::format("    {}{}{} → {}\n", methods(route), route.path, route.prefix ? "*" : "",
                       route_action(route, snapshot));
  }
}

}  // namespace

std::string describe(const Snapshot& snapshot) {
  const auto& server = snapshot.server;
  std::string out;
  out += fmt::format("listening  http {} · https {} · admin {}\n", addresses(server.http),
                     addresses(server.https), server.admin);
  const auto trusted = proxies(server);
  if (!trusted.empty()) out += fmt::format("proxies    {}\n", trusted);
  out += fmt::format("storage    {}\n", server.storage);
  for (const auto& authority : snapshot.acme.authorities) {
    out += fmt::format("authority  {}{}{}\n", authority.name,
                       authority.directory.empty() ? "" : " ", authority.directory);
  }
  if (snapshot.on_demand.configured) {
    const auto& on_demand = snapshot.on_demand;
    std::string who = on_demand.ask.empty() ? "" : "ask " + on_demand.ask;
    const auto add = [&who](std::string_view word, const std::vector<HostGlob>& hosts) {
      if (hosts.empty()) return;
      const auto text = [](const HostGlob& host) { return host.text; };
      who += fmt::format("{}{} {}", who.empty() ? "" : " · ", word,
                         shown(hosts, hosts_shown_max, text));
    };
    add("allow", on_demand.allow);
    add("deny", on_demand.deny);
    out += fmt::format("on demand  {}\n", who);
  }
  if (const auto told = notified(snapshot.notify); !told.empty()) {
    out += fmt::format("notify     {}\n", told);
  }
  out += plural(snapshot.sites.size(), "site") + "\n";
  const auto count = std::min(snapshot.sites.size(), sites_shown_max);
  for (size_t i = 0; i < count; ++i) describe_site(snapshot.sites[i], snapshot, out);
  if (count < snapshot.sites.size()) {
    out += fmt::format("  and {} more\n", snapshot.sites.size() - count);
  }
  return out;
}

namespace {

/// Appends JSON; commas are set where a value follows another.
class JsonText {
 public:
  void open(char bracket) {
    separate();
    text_ += bracket;
    first_ = true;
  }
  void close(char bracket) {
    text_ += bracket;
    first_ = false;
  }
  void key(std::string_view name) {
    string(name);
    text_ += ':';
    first_ = true;
  }
  void string(std::string_view value) {
    separate();
    text_ += '"';
    base::append_json_escaped(text_, value);
    text_ += '"';
  }
  void plain(std::string_view value) {
    separate();
    text_ += value;
  }
  void field(std::string_view name, std::string_view value) {
    key(name);
    string(value);
  }
  void flag(std::string_view name, bool value) {
    key(name);
    plain(value ? "true" : "false");
  }
  void number(std::string_view name, uint32_t value) {
    key(name);
    plain(std::to_string(value));
  }
  template <class List, class Name>
  void list(std::string_view name, const List& items, Name text_of) {
    key(name);
    open('[');
    for (const auto& item : items) string(text_of(item));
    close(']');
  }
  std::string take() { return std::move(text_); }

 private:
  void separate() {
    if (!first_) text_ += ',';
    first_ = false;
  }

  std::string text_;
  bool first_ = true;
};

void write_route(JsonText& json, const Route& route) {
  json.open('{');
  json.field("path", route.path + (route.prefix ? "*" : ""));
  json.list("methods", route.methods, [](const auto& method) { return method; });
  if (route.redirect) {
    json.field("redirect", fmt::format("{} {}", route.redirect->status, route.redirect->target));
  } else if (route.respond) {
    json.number("respond", uint32_t{route.respond->status});
  } else {
    json.field("upstream", route.upstream);
  }
  json.close('}');
}

void write_site(JsonText& json, const Site& site) {
  json.open('{');
  json.list("hosts", site.hosts, [](const auto& host) { return host.text; });
  json.field("upstream", site.upstream);
  json.field("certificates", word(site.certificates));
  json.field("certificate", site.certificate);
  json.flag("redirect_http", site.redirect_http);
  json.key("routes");
  json.open('[');
  for (const auto& route : site.routes) write_route(json, route);
  json.close(']');
  json.close('}');
}

void write_upstream(JsonText& json, const Upstream& upstream) {
  json.open('{');
  json.field("name", upstream.name);
  json.field("protocol", protocol_name(upstream.protocol));
  json.field("proxy_protocol", word(upstream.proxy_protocol));
  json.key("servers");
  json.open('[');
  for (const auto& server : upstream.servers) {
    json.open('{');
    json.field("address", server.text);
    json.number("weight", server.weight);
    json.flag("backup", server.backup);
    json.close('}');
  }
  json.close(']');
  json.close('}');
}

}  // namespace

std::string describe_json(const Snapshot& snapshot) {
  const auto listener = [](const ListenAddress& address) { return address.text; };
  const auto same = [](const std::string& text) { return text; };
  JsonText json;
  json.open('{');
  json.list("files", snapshot.files, same);
  json.list("http", snapshot.server.http, listener);
  json.list("https", snapshot.server.https, listener);
  json.list("trusted_proxies", snapshot.server.trusted_proxies, network_text);
  json.flag("proxy_protocol", snapshot.server.proxy_protocol);
  json.field("admin", snapshot.server.admin);
  json.field("storage", snapshot.server.storage);
  json.list("authorities", snapshot.acme.authorities, [](const auto& ca) { return ca.name; });
  json.key("on_demand");
  json.open('{');
  json.flag("configured", snapshot.on_demand.configured);
  json.field("ask", snapshot.on_demand.ask);
  json.list("allow", snapshot.on_demand.allow, [](const auto& host) { return host.text; });
  json.list("deny", snapshot.on_demand.deny, [](const auto& host) { return host.text; });
  json.close('}');
  json.key("notify");
  json.open('{');
  const auto& notify = snapshot.notify;
  if (notify.email) {
    json.list("email", notify.email->to, same);
    json.field("server", notify.email->server());
  }
  if (notify.webhook) json.field("webhook", notify.webhook->server());
  if (!notify.exec.empty()) json.field("exec", notify.exec.front());
  json.close('}');
  json.key("sites");
  json.open('[');
  for (const auto& site : snapshot.sites) write_site(json, site);
  json.close(']');
  json.key("upstreams");
  json.open('[');
  for (const auto& [name, upstream] : snapshot.upstreams) write_upstream(json, upstream);
  json.close(']');
  json.close('}');
  return json.take();
}

}  // namespace gatehouse::config
