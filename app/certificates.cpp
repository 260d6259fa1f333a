#include "app/certificates.hpp"

#include <algorithm>
#include <map>
#include <set>

#include <boost/asio/post.hpp>
#include <fmt/format.h>

#include "app/self_check.hpp"
#include "base/log.hpp"

namespace gatehouse::app {

namespace asio = boost::asio;
using tls::CertificateFilePair;
using tls::CertificatePtr;

namespace {

constexpr std::chrono::hours stand_in_lifetime{24 * 365};
/// Of the default site, so many hosts are looked at for the certificate without a name.
constexpr size_t default_hosts_max = 64;

CertificateFilePair own_pair(const config::Site& site) {
  CertificateFilePair pair;
  pair.certificate = site.certificate;
  pair.key = site.key;
  return pair;
}

CertificateFilePair fallback_pair(const config::Site& site) {
  CertificateFilePair pair;
  pair.certificate = site.fallback_certificate;
  pair.key = site.fallback_key;
  pair.fallback = true;
  return pair;
}

std::vector<CertificateFilePair> pairs_of(const config::Snapshot& snapshot) {
  std::vector<CertificateFilePair> pairs;
  const auto add = [&](CertificateFilePair pair) {
    if (!pair.certificate.empty() && std::ranges::find(pairs, pair) == pairs.end())
      pairs.push_back(std::move(pair));
  };
  for (const config::Site& site : snapshot.sites) {
    add(own_pair(site));
    add(fallback_pair(site));
  }
  return pairs;
}

bool any_host(const config::Site& site) {
  return std::ranges::any_of(site.hosts, [](const auto& host) { return host.text == "*"; });
}

// The site whose certificate answers a handshake without a name: the default site, or the only one.
const config::Site* default_site(const config::Snapshot& snapshot) {
  const auto encrypted = [](const config::Site& site) {
    return site.certificates != config::CertificateMode::off;
  };
  const auto any = std::ranges::find_if(
      snapshot.sites, [&](const auto& site) { return any_host(site) && encrypted(site); });
  if (any != snapshot.sites.end()) return &*any;
  if (snapshot.sites.size() == 1 && encrypted(snapshot.sites.front()))
    return &snapshot.sites.front();
  return nullptr;
}

acme::CertificateDetails details_of(const std::string& name, const tls::Certificate& certificate,
                                    const char* source) {
  acme::CertificateDetails details;
  details.status.name = name;
  details.status.state =
      certificate.not_after() < std::chrono::system_clock::now() ? "expired" : source;
  details.authority = source;
  acme::describe(details, certificate);
  return details;
}

acme::CertificateStatus status_of(const std::string& name, const tls::Certificate& certificate) {
  acme::CertificateStatus status;
  status.name = name;
  status.state = certificate.not_after() < std::chrono::system_clock::now() ? "expired" : "file";
  status.issuer = certificate.issuer();
  status.serial = certificate.serial();
  status.not_before = certificate.not_before();
  status.not_after = certificate.not_after();
  return status;
}

}  // namespace

struct Certificates::State : std::enable_shared_from_this<Certificates::State> {
  State(asio::io_context& io, size_t workers)
      : control(io), checks(io), challenges(workers), files(io, [this](const auto&, const auto&) {
          if (!configuring) apply_own();
        }) {}

  void serve(const std::string& name, CertificatePtr certificate);
  void serve_fallback(const std::string& zone, CertificatePtr certificate);
  void withdraw(const std::string& name);
  void acquire(std::string name, std::string client, std::function<void(tls::Acquired)> deliver);
  void apply_own();
  const config::Site* site_of(const std::string& name) const;
  CertificatePtr own_for_any_host(const std::string& name) const;
  CertificatePtr file_of_any_host() const;
  CertificatePtr own_fallback(const std::string& name) const;
  CertificatePtr default_certificate();
  CertificatePtr stand_in(const config::Site& site);
  void check(std::string name, CertificatePtr certificate, SelfCheck::Report report);
  void change(tls::CertificateTablePtr next);
  void publish();

  asio::io_context& control;
  config::SnapshotPtr snapshot;
  tls::CertificateTablePtr table = tls::CertificateTable::empty();
  std::map<std::string, CertificatePtr> own;  // by host pattern; these go before acme's
  CustomTable custom;
  CertificatePtr default_stand_in;  // self-signed, in memory only
  proxy::Server* server = nullptr;
  acme::Manager* manager = nullptr;
  SelfCheck checks;
  std::vector<std::function<void()>> unchecked;  // for when the workers have what is published next
  bool publish_due = false;
  bool configuring = false;
  bool closed = false;

  /// What each worker answers challenges from; a slot belongs to its worker's thread.
  struct alignas(64) Slot {
    acme::ChallengeTablePtr table;
    acme::AlpnTablePtr alpn;
  };
  std::vector<Slot> challenges;

  tls::CertificateFiles files;
};

Certificates::Certificates(asio::io_context& control, size_t workers)
    : state_(std::make_shared<State>(control, workers)) {}

Certificates::~Certificates() {
  close();
}

// Functions outlive this object where the server or the manager does: they hold the state.
proxy::ServerHooks Certificates::server_hooks() {
  proxy::ServerHooks hooks;
  hooks.acquire = [state = state_](std::string name, std::string client,
                                   std::function<void(tls::Acquired)> deliver) {
    asio::post(state->control, [state, name = std::move(name), client = std::move(client),
                                deliver = std::move(deliver)]() mutable {
      state->acquire(std::move(name), std::move(client), std::move(deliver));
    });
  };
  hooks.local = [state = state_](size_t worker, std::string_view host, std::string_view target) {
    const auto& slot = state->challenges[worker].table;
    return slot ? acme::answer_challenge(*slot, host, target) : nullptr;
  };
  hooks.challenge_certificate = [state = state_](size_t worker, const std::string& name) {
    const auto& slot = state->challenges[worker].alpn;
    return slot ? acme::answer_alpn(*slot, name) : nullptr;
  };
  hooks.seen = [state = state_](const std::string& name) {
    asio::post(state->control, [state, name] {
      if (state->closed || state->manager == nullptr) return;
      // The look at a name after each renewal would keep it among those that are visited.
      if (!state->checks.looks_at(name)) state->manager->seen(name);
    });
  };
  return hooks;
}

acme::ManagerHooks Certificates::manager_hooks() {
  acme::ManagerHooks hooks;
  hooks.serve = [state = state_](std::string name, CertificatePtr certificate) {
    state->serve(name, std::move(certificate));
  };
  hooks.serve_fallback = [state = state_](std::string zone, CertificatePtr certificate) {
    state->serve_fallback(zone, std::move(certificate));
  };
  hooks.withdraw = [state = state_](std::string name) { state->withdraw(name); };
  hooks.check = [state = state_](std::string name, CertificatePtr certificate,
                                 SelfCheck::Report report) {
    state->check(std::move(name), std::move(certificate), std::move(report));
  };
  hooks.own_fallback = [state = state_](const std::string& name) {
    return state->own_fallback(name);
  };
  return hooks;
}

acme::PublishChallenges Certificates::challenge_publisher() {
  return [state = state_](acme::ChallengeTablePtr next, std::function<void()> done) {
    if (state->closed || state->server == nullptr) return;
    state->server->publish(
        [state, next = std::move(next)](size_t worker) { state->challenges[worker].table = next; },
        std::move(done));
  };
}

acme::PublishAlpnCertificates Certificates::alpn_publisher() {
  return [state = state_](acme::AlpnTablePtr next, std::function<void()> done) {
    if (state->closed || state->server == nullptr) return;
    state->server->publish(
        [state, next = std::move(next)](size_t worker) { state->challenges[worker].alpn = next; },
        std::move(done));
  };
}

void Certificates::connect(proxy::Server& server, acme::Manager& manager) {
  state_->server = &server;
  state_->manager = &manager;
}

std::vector<base::Error> Certificates::configure(config::SnapshotPtr snapshot) {
  state_->configuring = true;
  auto mistakes = state_->files.watch(pairs_of(*snapshot));
  state_->configuring = false;
  if (!mistakes.empty()) return mistakes;
  state_->snapshot = std::move(snapshot);
  state_->checks.configure(state_->snapshot);
  state_->default_stand_in.reset();
  state_->apply_own();
  return {};
}

void Certificates::publish_now() {
  state_->publish();
}

void Certificates::set_custom(CustomTable custom) {
  state_->custom = std::move(custom);
  state_->apply_own();
}

std::optional<acme::CertificateDetails> Certificates::details(const std::string& name) const {
  const auto found = state_->own.find(name);
  if (found == state_->own.end()) return std::nullopt;
  const auto custom = state_->custom.find(name);
  const bool given = custom != state_->custom.end() && custom->second == found->second;
  return details_of(name, *found->second, given ? "custom" : "file");
}

std::optional<acme::CertificateDetails> Certificates::shared_details(
    const std::string& name) const {
  const size_t dot = name.find('.');
  if (dot != std::string::npos && !name.starts_with("*."))
    if (auto wildcard = details("*" + name.substr(dot))) return wildcard;
  const CertificatePtr any = state_->own_for_any_host(name);
  return any ? std::optional(details_of("*", *any, "file")) : std::nullopt;
}

std::optional<base::Error> Certificates::absence(const std::string& name) const {
  const config::Site* const site = state_->site_of(name);
  const char* why = nullptr;
  if (site != nullptr && site->certificates == config::CertificateMode::off)
    why = "its site is plain HTTP only (certificates = \"off\")";
  if (site != nullptr && site->certificates == config::CertificateMode::on_demand)
    why = "its site orders one when it is first visited, if that is allowed";
  if (why == nullptr) return std::nullopt;
  return base::Error(base::ErrorKind::not_found,
                     fmt::format("there is no certificate for {}: {}", name, why));
}

std::vector<acme::CertificateStatus> Certificates::status() const {
  std::vector<acme::CertificateStatus> all;
  for (const auto& [name, certificate] : state_->own) all.push_back(details(name)->status);
  if (const CertificatePtr any = state_->file_of_any_host())
    all.push_back(details_of("*", *any, "file").status);
  return all;
}

std::vector<acme::CertificateStatus> Certificates::file_status() const {
  std::vector<acme::CertificateStatus> all;
  if (!state_->snapshot) return all;
  for (const config::Site& site : state_->snapshot->sites) {
    for (const CertificateFilePair& pair : {own_pair(site), fallback_pair(site)}) {
      const CertificatePtr found = pair.certificate.empty() ? nullptr : state_->files.find(pair);
      if (!found) continue;
      for (const auto& host : site.hosts) all.push_back(status_of(host.text, *found));
    }
  }
  return all;
}

std::optional<base::Error> Certificates::objection(const std::string& name) const {
  const config::Site* const site = state_->site_of(name);
  if (site == nullptr)
    return base::Error(base::ErrorKind::not_found, fmt::format("no site has the host {}", name));
  if (site->certificates == config::CertificateMode::off)
    return base::Error(
        base::ErrorKind::unavailable,
        fmt::format("{}: its site is plain HTTP only (certificates = \"off\")", name));
  const auto own = state_->own.find(name);
  if (own != state_->own.end() && own->second == state_->files.find(own_pair(*site)))
    return base::Error(
        base::ErrorKind::unavailable,
        fmt::format("{}: its site serves {}: replace that file instead", name, site->certificate));
  return std::nullopt;
}

const tls::CertificateTablePtr& Certificates::table() const {
  return state_->table;
}

void Certificates::close() {
  state_->closed = true;
  state_->checks.close();
  state_->unchecked.clear();
  state_->server = nullptr;
  state_->manager = nullptr;
}

void Certificates::State::serve(const std::string& name, CertificatePtr certificate) {
  if (!own.contains(name)) change(table->with(name, std::move(certificate)));
}

void Certificates::State::serve_fallback(const std::string& zone, CertificatePtr certificate) {
  change(table->with_fallback(zone, std::move(certificate)));
}

void Certificates::State::withdraw(const std::string& name) {
  if (!own.contains(name)) change(table->without(name));
}

void Certificates::State::acquire(std::string name, std::string client,
                                  std::function<void(tls::Acquired)> deliver) {
  if (closed || manager == nullptr) return;
  if (CertificatePtr mine = own_for_any_host(name)) {
    tls::Acquired acquired;
    acquired.outcome = tls::Acquired::Outcome::ready;
    acquired.certificate = std::move(mine);
    return deliver(std::move(acquired));
  }
  auto answer = [state = shared_from_this(), deliver = std::move(deliver)](tls::Acquired acquired) {
    if (!state->closed) deliver(std::move(acquired));
  };
  manager->acquire(std::move(name), std::move(client), std::move(answer));
}

// Makes the table agree with what the files hold now, and with what a person gave.
void Certificates::State::apply_own() {
  if (!snapshot) return;
  std::map<std::string, CertificatePtr> wanted;
  for (const config::Site& site : snapshot->sites) {
    if (site.certificate.empty()) continue;
    const CertificatePtr certificate = files.find(own_pair(site));
    if (!certificate) continue;
    for (const auto& host : site.hosts)
      if (host.text != "*") wanted[std::string(host.name())] = certificate;
  }
  for (const auto& [name, certificate] : custom) {
    const config::Site* const site = site_of(name);
    if (site != nullptr && site->certificates != config::CertificateMode::off)
      wanted.emplace(name, certificate);
  }
  tls::CertificateTablePtr next = table;
  for (const auto& [name, certificate] : own)
    if (!wanted.contains(name)) next = next->without(name);
  for (const auto& [name, certificate] : wanted) {
    const auto before = own.find(name);
    if (before == own.end() || before->second != certificate) next = next->with(name, certificate);
  }
  own = std::move(wanted);
  change(std::move(next));
}

// As requests are routed: an exact host goes before a wildcard, that before "*".
const config::Site* Certificates::State::site_of(const std::string& name) const {
  if (!snapshot) return nullptr;
  const config::Site *exact = nullptr, *wildcard = nullptr, *any = nullptr;
  for (const config::Site& site : snapshot->sites) {
    for (const auto& host : site.hosts) {
      if (exact == nullptr && host.text == name) exact = &site;
      if (wildcard == nullptr && host.text != "*" && host.matches(name)) wildcard = &site;
      if (any == nullptr && host.text == "*") any = &site;
    }
  }
  return exact != nullptr ? exact : wildcard != nullptr ? wildcard : any;
}

// The default site's own certificate, for names that no other site claims: the table has no row for
// "any name", or it would hide on-demand ones.
CertificatePtr Certificates::State::own_for_any_host(const std::string& name) const {
  CertificatePtr file = file_of_any_host();
  if (file == nullptr) return nullptr;
  const config::Site* const site = default_site(*snapshot);
  for (const config::Site& other : snapshot->sites) {
    if (&other == site) continue;
    if (std::ranges::any_of(other.hosts, [&](const auto& host) { return host.matches(name); }))
      return nullptr;
  }
  return file;
}

/// The default site's own file, which the table has no row for.
CertificatePtr Certificates::State::file_of_any_host() const {
  const config::Site* const site = snapshot ? default_site(*snapshot) : nullptr;
  const bool has_file = site != nullptr && any_host(*site) && !site->certificate.empty();
  return has_file ? files.find(own_pair(*site)) : nullptr;
}

CertificatePtr Certificates::State::own_fallback(const std::string& name) const {
  if (!snapshot) return nullptr;
  for (const config::Site& site : snapshot->sites) {
    if (site.fallback_certificate.empty()) continue;
    if (std::ranges::any_of(site.hosts, [&](const auto& host) { return host.matches(name); }))
      return files.find(fallback_pair(site));
  }
  return nullptr;
}

CertificatePtr Certificates::State::default_certificate() {
  const config::Site* const site = snapshot ? default_site(*snapshot) : nullptr;
  if (site == nullptr) return nullptr;
  if (!site->certificate.empty()) return files.find(own_pair(*site));
  const size_t hosts = std::min(site->hosts.size(), default_hosts_max);
  for (size_t i = 0; i < hosts; ++i) {
    const auto found = table->find(site->hosts[i].name());
    if (found.certificate != nullptr) return *found.certificate;
  }
  if (!site->fallback_certificate.empty()) return files.find(fallback_pair(*site));
  return stand_in(*site);
}

// A client without a server name is never worth an order; until the site has a certificate it gets
// a self-signed one.
CertificatePtr Certificates::State::stand_in(const config::Site& site) {
  if (default_stand_in) return default_stand_in;
  std::vector<std::string> names;
  for (const auto& host : site.hosts)
    if (host.text != "*" && names.size() < default_hosts_max) names.emplace_back(host.name());
  if (names.empty()) names.push_back("localhost");
  auto made = tls::make_self_signed(names, stand_in_lifetime);
  if (made) {
    default_stand_in = *made;
  } else {
    base::log::error("no certificate for clients without a server name: {}", made.error().context);
  }
  return default_stand_in;
}

void Certificates::State::check(std::string name, CertificatePtr certificate,
                                SelfCheck::Report report) {
  if (closed) return;
  // Also where the user's own certificate goes before acme's: then this one is not to be seen.
  auto current = [weak = weak_from_this(), asked = name_to_ask_for(name), certificate] {
    const auto state = weak.lock();
    if (!state) return false;
    const auto found = state->table->find(asked);
    return found.certificate != nullptr && *found.certificate == certificate;
  };
  unchecked.push_back([this, name = std::move(name), certificate = std::move(certificate),
                       current = std::move(current), report = std::move(report)] {
    checks.check(name, certificate, current, report);
  });
  change(table);
}

// Many changes of one turn become one table for the workers.
void Certificates::State::change(tls::CertificateTablePtr next) {
  table = std::move(next);
  if (publish_due) return;
  publish_due = true;
  asio::post(control, [state = shared_from_this()] {
    if (state->publish_due) state->publish();
  });
}

void Certificates::State::publish() {
  publish_due = false;
  if (closed || server == nullptr) return;
  CertificatePtr chosen = default_certificate();
  if (chosen != table->default_certificate()) table = table->with_default(std::move(chosen));
  std::function<void()> done;
  if (!unchecked.empty())
    done = [state = shared_from_this(), all = std::exchange(unchecked, {})] {
      if (state->closed) return;
      for (const auto& look : all) look();
    };
  server->publish_certificates(table, std::move(done));
}

}  // namespace gatehouse::app
