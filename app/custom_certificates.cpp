#include "app/custom_certificates.hpp"

#include <fmt/format.h>

#include "acme/names.hpp"
#include "acme/vault.hpp"
#include "base/log.hpp"

namespace gatehouse::app {

using base::Error;
using base::ErrorKind;
using base::Result;
using boost::asio::awaitable;

namespace {

constexpr const char* custom_authority = "custom";

std::string place_of(const std::string& name) {
  return "custom/" + acme::certificate_id(name);
}

}  // namespace

Result<tls::CertificatePtr> check_custom(const std::string& name, const std::string& chain,
                                         const std::string& key, base::WallClock::time_point now) {
  auto certificate = tls::Certificate::from_pem(chain, key, name);
  if (!certificate) return Error(ErrorKind::invalid, certificate.error().context);
  constexpr std::chrono::seconds no_skew{0};
  if (const std::string problem = (*certificate)->problem_for({name}, now, no_skew);
      !problem.empty())
    return Error(ErrorKind::invalid,
                 fmt::format("{}: this certificate cannot be served: {}", name, problem));
  return *certificate;
}

awaitable<void> CustomCertificates::read() {
  auto ids = co_await storage_.list("custom");
  if (!ids) {
    base::log::error("custom certificates: {}", ids.error().context);
    co_return;
  }
  for (const std::string& id : *ids) {
    if (table_.size() == count_max) {
      base::log::error("custom certificates: only the first {} are used", count_max);
      co_return;
    }
    auto files = co_await storage_.load_set("custom/" + id);
    if (!files) {
      base::log::error("{}", files.error().context);
      continue;
    }
    auto note = acme::read_description((*files)["meta.json"]);
    auto certificate = tls::Certificate::from_pem((*files)["fullchain.pem"],
                                                  (*files)["privkey.pem"], "custom/" + id);
    if (note && certificate) {
      table_[note->name] = *certificate;
    } else {
      base::log::error("custom/{}: not used: {}", id,
                       note ? certificate.error().context : note.error().context);
    }
  }
}

awaitable<Result<void>> CustomCertificates::put(std::string name, tls::CertificatePtr certificate) {
  if (table_.size() >= count_max && !table_.contains(name))
    co_return Error(ErrorKind::limit,
                    fmt::format("{}: there are {} custom certificates, the most that are kept: "
                                "name its files in the configuration instead",
                                name, count_max));
  acme::CertificateNote note;
  note.name = name;
  note.authority = custom_authority;
  auto files = acme::certificate_files(*certificate, note);
  auto stored = co_await storage_.store_set(place_of(name), std::move(files));
  if (stored) table_[name] = std::move(certificate);
  co_return stored;
}

awaitable<Result<void>> CustomCertificates::remove(std::string name) {
  if (!table_.contains(name))
    co_return Error(ErrorKind::not_found,
                    fmt::format("{} has no custom certificate to remove", name));
  auto removed = co_await storage_.move(place_of(name), "");
  if (removed) table_.erase(name);
  co_return removed;
}

}  // namespace gatehouse::app
