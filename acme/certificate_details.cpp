#include "acme/certificate_details.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "acme/names.hpp"

namespace gatehouse::acme {

namespace asio = boost::asio;
using base::Error;
using base::ErrorKind;
using base::Result;

/// Of two generations the older one; `current` points to the newer.
std::string previous_generation(std::vector<std::string> places) {
  std::erase_if(places, [](const std::string& place) {
    return !std::all_of(place.begin(), place.end(), [](char c) { return c >= '0' && c <= '9'; });
  });
  return places.size() < 2 ? std::string() : places[places.size() - 2];
}

asio::awaitable<Result<StoredCertificate>> read_place(Storage& storage, std::string place) {
  auto files = co_await storage.load_set(place);
  if (!files) co_return files.error();
  auto certificate =
      tls::Certificate::from_pem((*files)["fullchain.pem"], (*files)["privkey.pem"], place);
  if (!certificate) co_return certificate.error();
  StoredCertificate stored;
  stored.certificate = *certificate;
  if (auto note = read_description((*files)["meta.json"])) stored.note = *note;
  co_return stored;
}

void describe(CertificateDetails& details, const tls::Certificate& certificate) {
  CertificateStatus& status = details.status;
  status.issuer = certificate.issuer();
  status.serial = certificate.serial();
  status.not_before = certificate.not_before();
  status.not_after = certificate.not_after();
  details.names = certificate.names();
  details.key = tls::key_words(certificate);
  details.fingerprint = certificate.fingerprint();
  details.chain = tls::chain_links(certificate);
}

std::vector<std::string> stored_places(const std::string& id) {
  return {"custom/" + id, "certs/" + id, "internal/leaves/" + id};
}

asio::awaitable<Result<CertificateDetails>> read_details(Storage& storage, std::string name) {
  const std::string id = certificate_id(name);
  Error problem(ErrorKind::not_found, fmt::format("there is no certificate for {}", name));
  for (const auto& place : stored_places(id)) {
    auto stored = co_await read_place(storage, place);
    if (!stored && stored.error().kind == ErrorKind::not_found) continue;
    if (!stored) {
      problem = stored.error();
      continue;
    }
    CertificateDetails details;
    details.status.name = name;
    details.status.on_demand = stored->note.on_demand;
    details.authority = stored->note.authority;
    describe(details, *stored->certificate);
    const Lifetime lifetime{stored->certificate->not_before(), stored->certificate->not_after()};
    const bool custom = place.starts_with("custom/");
    if (!custom) details.status.renew_at = renewal_due(lifetime, std::nullopt, id);
    details.status.state = custom ? "custom" : "active";
    if (base::WallClock::now() >= lifetime.not_after) details.status.state = "expired";
    auto places = co_await storage.list(place);
    if (places) details.previous_generation = previous_generation(std::move(*places));
    co_return details;
  }
  co_return problem;
}

}  // namespace gatehouse::acme
