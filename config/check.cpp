#include "config/check.hpp"

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include <fmt/format.h>

#include "config/parse_acme.hpp"
#include "config/parse_upstream.hpp"
#include "config/suggestion.hpp"

namespace gatehouse::config {

namespace {

constexpr Mark beginning = {0, 1, 1};

void check_listeners(Draft& draft);
void check_authorities(Draft& draft);
void check_hosts_are_unique(Draft& draft);
void check_upstreams(Draft& draft);
void check_certificate_modes(Draft& draft);
void check_challenges(Draft& draft, bool any_orders);

}  // namespace

void check(Draft& draft) {
  if (!draft.site_given && draft.whole) {
    draft.findings.add(beginning, "site",
                       "there is none: add [[site]] with hosts = [\"example.com\"] and upstream = "
                       "\"localhost:8080\"");
  }
  check_listeners(draft);
  check_authorities(draft);
  check_hosts_are_unique(draft);
  check_upstreams(draft);
  check_certificate_modes(draft);
}

namespace {

std::string listener_identity(const ListenAddress& address) {
  if (!address.unix_path.empty()) return address.unix_path;
  return fmt::format("{} {}", address.host == "::" ? "" : address.host, address.port);
}

void add_default_listener(Draft& draft, bool given, std::string_view text, std::string_view key,
                          std::vector<ListenAddress>& target) {
  if (given) return;
  auto address = parse_listen_address(text);
  draft.listeners.insert(draft.listeners.begin(), {*address, beginning, std::string(key)});
  target.push_back(std::move(*address));
}

void check_listeners(Draft& draft) {
  auto& server = draft.snapshot.server;
  add_default_listener(draft, draft.http_given, ":80", "server.http", server.http);
  add_default_listener(draft, draft.https_given, ":443", "server.https", server.https);
  std::unordered_map<std::string, const ListenerDraft*> seen;
  for (const auto& listener : draft.listeners) {
    const auto [entry, added] = seen.emplace(listener_identity(listener.address), &listener);
    if (added) continue;
    draft.findings.add(listener.mark, listener.key,
                       fmt::format("{} is taken by {} already: choose another address",
                                   in_quotes(listener.address.text), entry->second->key));
  }
}

std::vector<std::string_view> authority_names(const Draft& draft) {
  std::vector<std::string_view> names = {"letsencrypt", "letsencrypt-staging", "zerossl", "google",
                                         "internal"};
  for (const auto& [name, authority] : draft.authorities) names.push_back(name);
  return names;
}

/// Where a built-in authority gives out account bindings; empty: it needs none.
std::string_view binding_source(std::string_view name) {
  if (name == "zerossl") return "at https://app.zerossl.com/developer (EAB Credentials)";
  if (name == "google") return "with `gcloud publicca external-account-keys create`";
  return {};
}

void check_authorities(Draft& draft) {
  auto& authorities = draft.snapshot.acme.authorities;
  for (const auto& use : draft.ca_uses) {
    const auto own = draft.authorities.find(use.text);
    const auto authority =
        own != draft.authorities.end() ? own->second : built_in_authority(use.text);
    if (!authority) {
      if (!draft.whole) continue;
      draft.findings.add(
          use.mark, use.key,
          fmt::format("no authority is named {}{}: write a section [ca.NAME], or use "
                      "letsencrypt, letsencrypt-staging, zerossl, google or internal",
                      in_quotes(use.text), did_you_mean(use.text, authority_names(draft))));
      continue;
    }
    const auto binding = binding_source(use.text);
    if (!binding.empty() && authority->eab_kid.empty() && draft.whole) {
      draft.findings.add(use.mark, use.key,
                         fmt::format("{0} demands an account binding: get its kid and key {1}, and "
                                     "add [ca.{0}] with eab = {{ kid = \"…\", hmac_key_file = "
                                     "\"…\" }}",
                                     use.text, binding));
    }
    if (use.text == "internal" && draft.ca_uses.size() > 1) {
      draft.findings.add(use.mark, use.key,
                         "internal signs every name, so no other authority would be asked: name "
                         "it alone, or give single sites certificates = \"internal\"");
    }
    const bool twice = std::any_of(authorities.begin(), authorities.end(), [&](const auto& other) {
      return other.directory == authority->directory;
    });
    if (twice) {
      draft.findings.add(
          use.mark, use.key,
          fmt::format("{} is in the list already: name each authority once", in_quotes(use.text)));
      continue;
    }
    authorities.push_back(*authority);
  }
  if (draft.ca_uses.empty()) {
    const auto own = draft.authorities.find("letsencrypt");
    authorities.push_back(own != draft.authorities.end() ? own->second
                                                         : *built_in_authority("letsencrypt"));
  }
}

void check_hosts_are_unique(Draft& draft) {
  struct Owner {
    size_t site;
    size_t host;
  };
  size_t total = 0;
  for (const auto& site : draft.snapshot.sites) total += site.hosts.size();
  std::unordered_map<std::string_view, Owner> owners;
  owners.reserve(total);
  for (size_t i = 0; i < draft.sites.size(); ++i) {
    const auto& hosts = draft.snapshot.sites[i].hosts;
    for (size_t j = 0; j < hosts.size(); ++j) {
      const auto [entry, added] = owners.emplace(hosts[j].text, Owner{i, j});
      if (added) continue;
      const auto& mark = draft.sites[i].hosts[j];
      if (draft.findings.full()) {
        draft.findings.add(mark, {}, {});
        continue;
      }
      const auto& first = draft.sites[entry->second.site];
      const auto place = draft.findings.place(first.hosts[entry->second.host]);
      draft.findings.add(mark, draft.sites[i].path + ".hosts",
                         fmt::format("{} belongs to {} already, at {}:{}: a host has one site",
                                     in_quotes(hosts[j].text), first.path, place.file, place.line));
    }
  }
}

/// Resolves names of upstreams; one list of suggestions for all of them.
class UpstreamResolver {
 public:
  explicit UpstreamResolver(Draft& draft) : draft_(draft) {
    for (const auto& [name, upstream] : draft.snapshot.upstreams) names_.push_back(name);
  }

  /// The key in Snapshot::upstreams, or empty with a diagnostic.
  std::string resolve(const Use& use) {
    auto& upstreams = draft_.snapshot.upstreams;
    if (upstreams.contains(use.text)) return use.text;
    if (is_upstream_reference(use.text)) {
      if (draft_.whole) refuse(use);
      return {};
    }
    auto upstream = upstream_of_address(use.text);
    if (!upstream) {
      draft_.findings.add(use.mark, use.key, upstream.error().text);
      return {};
    }
    upstream->place = draft_.findings.place(use.mark);
    upstreams.emplace(use.text, std::move(*upstream));
    return use.text;
  }

 private:
  void refuse(const Use& use) {
    std::string text;
    if (!draft_.findings.full()) {
      const bool port = std::all_of(use.text.begin(), use.text.end(),
                                    [](char c) { return c >= '0' && c <= '9'; });
      const auto meant = port ? "localhost:" + use.text : use.text + ":8080";
      text = fmt::format(
          "no upstream is named {}{}: add [upstream.NAME], or write an address with "
          "a port, such as \"{}\"",
          in_quotes(use.text), did_you_mean(use.text, names_), meant);
    }
    draft_.findings.add(use.mark, use.key, std::move(text));
  }

  Draft& draft_;
  std::vector<std::string_view> names_;
};

void check_upstreams(Draft& draft) {
  UpstreamResolver resolver(draft);
  for (size_t i = 0; i < draft.sites.size(); ++i) {
    auto& site = draft.snapshot.sites[i];
    const auto& marks = draft.sites[i];
    if (marks.upstream_given) site.upstream = resolver.resolve(marks.upstream);
    for (size_t j = 0; j < site.routes.size(); ++j) {
      auto& route = site.routes[j];
      if (route.redirect || route.respond) continue;
      route.upstream =
          marks.routes[j].own_upstream ? resolver.resolve(marks.routes[j].upstream) : site.upstream;
    }
  }
}

/// Not one of those that mean another machine in every network (RFC 6890).
bool is_public_address(std::string_view host) {
  static constexpr std::string_view local[] = {"0.0.0.0/8",      "10.0.0.0/8",     "100.64.0.0/10",
                                               "127.0.0.0/8",    "169.254.0.0/16", "172.16.0.0/12",
                                               "192.168.0.0/16", "224.0.0.0/3"};
  static constexpr std::string_view given_out = "2000::/3";
  if (host.starts_with('[')) {
    host = host.substr(1, host.size() - 2);
    return parse_network(given_out)->contains(boost::asio::ip::make_address(std::string(host)));
  }
  const auto address = boost::asio::ip::make_address(std::string(host));
  return std::none_of(std::begin(local), std::end(local), [&](std::string_view network) {
    return parse_network(network)->contains(address);
  });
}

/// Why a CA will not certify the host for a site with certificates = "auto"; empty: it may.
std::string issuance_problem(const HostGlob& glob, bool public_authority) {
  const std::string& host = glob.text;
  if (host == "*") {
    return "stands for any host: write certificates = \"on_demand\" (or \"internal\", \"off\", or "
           "the site's own certificate and key)";
  }
  if (host.starts_with("*.")) {
    return "is a wildcard, which needs dns-01, not supported in this version: use certificates = "
           "\"on_demand\", or the site's own certificate and key";
  }
  if (glob.is_address()) {
    if (!public_authority || is_public_address(host)) return {};
    return "is an address of a private network, which no public CA certifies: use certificates = "
           "\"internal\" or \"off\", or the site's own certificate and key";
  }
  if (host.find('_') != host.npos) {
    return "holds an underscore, which no CA certifies: use certificates = \"internal\", or the "
           "site's own certificate and key";
  }
  if (public_authority && host.find('.') == host.npos) {
    return "is a name of one label, which no public CA certifies: use certificates = \"internal\" "
           "or \"off\"";
  }
  return {};
}

class ModeCheck {
 public:
  explicit ModeCheck(Draft& draft) : draft_(draft) {
    const auto& authorities = draft.snapshot.acme.authorities;
    internal_ = !authorities.empty() && authorities.front().name == "internal";
    const auto is_public = [&draft](const auto& authority) {
      return !draft.authorities.contains(authority.name);
    };
    public_ = !authorities.empty() && !internal_ &&
              std::all_of(authorities.begin(), authorities.end(), is_public);
  }

  void check(const Site& site, const SiteDraft& marks) {
    const bool automatic =
        site.certificates == CertificateMode::automatic && !marks.own_files_given;
    const bool on_demand = site.certificates == CertificateMode::on_demand;
    const bool orders = (automatic || on_demand) && !internal_;
    any_orders_ = any_orders_ || orders;
    if (site.certificates == CertificateMode::off) {
      once(no_http_, draft_.http_off, marks,
           "is \"off\", but server.http is []: such a site needs a plain HTTP address");
    } else {
      once(no_https_, draft_.https_off, marks,
           "needs an HTTPS address, but server.https is []: add one, or write certificates = "
           "\"off\"");
    }
    once(no_section_, on_demand && !draft_.snapshot.on_demand.configured && draft_.whole, marks,
         "is \"on_demand\", but [on_demand] is missing: add it with ask (a URL that decides) or "
         "allow (a list of hosts)");
    if (automatic && orders) check_hosts(site, marks);
  }

  /// Of those checked so far, whether one needs a CA.
  bool any_orders() const { return any_orders_; }

 private:
  /// The cause is one, in another section: the first site it concerns is enough.
  void once(bool& said, bool wrong, const SiteDraft& marks, std::string_view text) {
    if (!wrong || said) return;
    said = true;
    draft_.findings.add(marks.certificates, marks.path + ".certificates", std::string(text));
  }

  void check_hosts(const Site& site, const SiteDraft& marks) {
    for (size_t i = 0; i < site.hosts.size(); ++i) {
      const auto& host = site.hosts[i].text;
      const auto problem = issuance_problem(site.hosts[i], public_);
      if (problem.empty()) continue;
      draft_.findings.add(marks.hosts[i], marks.path + ".hosts", in_quotes(host) + " " + problem);
    }
  }

  Draft& draft_;
  bool internal_ = false;
  bool public_ = false;
  bool any_orders_ = false;
  bool no_http_ = false;
  bool no_https_ = false;
  bool no_section_ = false;
};

void check_certificate_modes(Draft& draft) {
  ModeCheck modes(draft);
  for (size_t i = 0; i < draft.sites.size(); ++i) {
    if (draft.sites[i].mode_known) modes.check(draft.snapshot.sites[i], draft.sites[i]);
  }
  check_challenges(draft, modes.any_orders());
}

/// Without a plain listener there is nothing to answer http-01 with.
void check_challenges(Draft& draft, bool any_orders) {
  if (!draft.http_off) return;
  for (const auto& use : draft.challenges) {
    if (use.text != "http-01" || !any_orders) continue;
    draft.findings.add(use.mark, use.key,
                       "http-01 is answered on the plain HTTP addresses, but server.http is []: "
                       "leave it out and use tls-alpn-01, or add an address that the CA reaches as "
                       "port 80");
  }
  std::erase(draft.snapshot.acme.challenges, "http-01");
}

}  // namespace

}  // namespace gatehouse::config
