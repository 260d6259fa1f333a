// What people ask a running gatehouse about its certificates, through the admin interface.
#include <random>

#include <fmt/format.h>

#include "acme/times.hpp"
#include "app/application_state.hpp"
#include "app/stored_certificates.hpp"

namespace gatehouse::app {

namespace log = base::log;
using base::Error;
using base::ErrorKind;
using base::Result;
using boost::asio::awaitable;

namespace {

/// Longer than the challenge table keeps what is no longer needed.
constexpr std::chrono::seconds probe_answered{61};
constexpr size_t probes_max = 32;

Error not_now() {
  return Error(ErrorKind::unavailable, "gatehouse is starting or stopping");
}

/// 128 bits that nobody guesses.
std::string random_word() {
  std::random_device source;
  std::string word;
  for (int i = 0; i < 4; ++i) word += fmt::format("{:08x}", source());
  return word;
}

Error own_certificate(const std::string& name, const std::string& way_out) {
  return Error(ErrorKind::unavailable,
               fmt::format("{}: its certificate is your own, not gatehouse's: {}", name, way_out));
}

constexpr const char* to_renew_own = "replace it, or remove it to have one ordered";
constexpr const char* to_revoke_own = "have it revoked by the CA that issued it";

}  // namespace

admin::CertificateHooks Application::State::certificate_hooks() {
  admin::CertificateHooks hooks;
  hooks.list = [this] { return certificate_status(); };
  hooks.show = [this](std::string name) { return show(std::move(name)); };
  hooks.put = [this](std::string name, std::string chain, std::string key) {
    return put_certificate(std::move(name), std::move(chain), std::move(key));
  };
  hooks.remove = [this](std::string name) { return remove_certificate(std::move(name)); };
  hooks.renew = [this](std::string name, bool force) { return renew(std::move(name), force); };
  hooks.revoke = [this](std::string name, int reason) { return revoke(std::move(name), reason); };
  hooks.probe = [this](std::string name) { return probe(std::move(name)); };
  hooks.authorities = [this] { return manager->budget(); };
  hooks.roll_over = [this](std::string name) { return manager->roll_over(std::move(name)); };
  return hooks;
}

/// Those of former runs, before anything is ordered.
awaitable<void> Application::State::take_custom() {
  co_await custom->read();
  use_custom();
}

/// Served first, and only then no longer the manager's: it withdraws what was its own.
void Application::State::use_custom() {
  certificates.set_custom(custom->all());
  std::unordered_set<std::string> names;
  for (const auto& [name, certificate] : custom->all()) names.insert(name);
  manager->leave_to_owner(std::move(names));
  expiry_watch->look();
}

Error Application::State::unknown(const std::string& name) const {
  if (auto why = certificates.absence(name)) return std::move(*why);
  return unknown_certificate(name, certificate_status());
}

admin::Answered<acme::CertificateDetails> Application::State::show(std::string name) {
  if (auto own = certificates.details(name)) co_return std::move(*own);
  auto shown = co_await manager->show(name);
  if (shown || shown.error().kind != ErrorKind::not_found) co_return shown;
  if (auto shared = certificates.shared_details(name)) co_return std::move(*shared);
  co_return unknown(name);
}

admin::Answered<void> Application::State::put_certificate(std::string name, std::string chain,
                                                          std::string key) {
  if (!serving || draining) co_return not_now();
  if (auto objection = certificates.objection(name)) co_return std::move(*objection);
  auto certificate = check_custom(name, chain, key, base::WallClock::now());
  if (!certificate) co_return certificate.error();
  auto stored = co_await custom->put(name, *certificate);
  if (!stored) co_return stored.error();
  use_custom();
  log::info("{}: a custom certificate of {} is served, valid until {}", name,
            (*certificate)->issuer(), acme::timestamp((*certificate)->not_after()));
  co_return Result<void>();
}

admin::Answered<void> Application::State::remove_certificate(std::string name) {
  if (!serving || draining) co_return not_now();
  auto removed = co_await custom->remove(name);
  if (!removed) co_return removed.error();
  use_custom();
  log::info("{}: its custom certificate is removed", name);
  co_return Result<void>();
}

admin::Answered<void> Application::State::renew(std::string name, bool force) {
  if (!serving || draining) co_return not_now();
  if (certificates.details(name)) co_return own_certificate(name, to_renew_own);
  auto begun = co_await manager->renew(name, force);
  if (begun || begun.error().kind != ErrorKind::not_found) co_return begun;
  if (certificates.shared_details(name)) co_return own_certificate(name, to_renew_own);
  co_return unknown(name);
}

admin::Answered<void> Application::State::revoke(std::string name, int reason) {
  if (!serving || draining) co_return not_now();
  if (certificates.details(name)) co_return own_certificate(name, to_revoke_own);
  auto revoked = co_await manager->revoke(name, reason);
  if (revoked || revoked.error().kind != ErrorKind::not_found) co_return revoked;
  if (certificates.shared_details(name)) co_return own_certificate(name, to_revoke_own);
  co_return unknown(name);
}

/// The way of an HTTP-01 challenge, so that what is found out holds for one.
admin::Answered<admin::Probe> Application::State::probe(std::string name) {
  if (!serving || draining) co_return not_now();
  const auto now = std::chrono::steady_clock::now();
  while (!probes.empty() && probes.front() <= now) probes.pop_front();
  if (probes.size() == probes_max)
    co_return Error(ErrorKind::limit, "too many probes are under way: ask again in a minute");
  probes.push_back(now + probe_answered);
  const std::string token = "gatehouse-probe-" + random_word();
  acme::Challenge challenge;
  challenge.identifier = name;
  challenge.key_authorization = "gatehouse " + random_word();
  admin::Probe probe;
  probe.path = "/.well-known/acme-challenge/" + token;
  probe.body = challenge.key_authorization;
  co_await http01->present(token, std::move(challenge));
  http01->retire(token);
  co_return probe;
}

}  // namespace gatehouse::app
