#include "acme/import/traefik.hpp"

#include <fmt/format.h>

#include "acme/import/account_key.hpp"
#include "acme/import/tree.hpp"
#include "base/encoding.hpp"

namespace gatehouse::acme {

namespace json = boost::json;
using base::Error;
using base::ErrorKind;
using base::Result;

namespace {

class Reading {
 public:
  void read_resolver(const std::string& name, const json::object& resolver) {
    CaTrace ca;
    if (const auto* account = json_object(resolver, "Account")) ca = read_account(name, *account);
    const auto* list = resolver.if_contains("Certificates");
    const auto* certificates = list == nullptr ? nullptr : list->if_array();
    for (size_t i = 0; certificates != nullptr && i < certificates->size(); ++i) {
      const std::string from = fmt::format("{}.Certificates[{}]", name, i);
      const auto* certificate = (*certificates)[i].if_object();
      if (certificate == nullptr) {
        findings.problems.push_back(from + ": not a JSON object");
      } else {
        read_certificate(from, *certificate, ca);
      }
    }
  }

  Findings findings;

 private:
  /// A resolver has one CA, which only its account names.
  CaTrace read_account(const std::string& resolver, const json::object& account) {
    CaTrace ca;
    const std::string from = resolver + ".Account";
    std::string url;
    if (const auto* registration = json_object(account, "Registration")) {
      url = json_text(*registration, "uri");
      ca.host = host_of_url(url);
    }
    auto key = key_of_der(json_text(account, "PrivateKey"), from);
    if (!key) {
      findings.problems.push_back(key.error().context);
    } else if (findings.accounts.size() < found_accounts_max) {
      FoundAccount found{from, std::move(*key), std::move(url), json_text(account, "Email"), ca, 0};
      findings.accounts.push_back(std::move(found));
    }
    return ca;
  }

  void read_certificate(const std::string& from, const json::object& certificate,
                        const CaTrace& ca) {
    if (findings.certificates.size() >= found_certificates_max) return;
    const auto chain = base::base64_decode(json_text(certificate, "certificate"));
    const auto key = base::base64_decode(json_text(certificate, "key"));
    if (!chain || !key || chain->empty() || key->empty()) {
      findings.problems.push_back(from + ": its certificate or key is not base64 text");
      return;
    }
    const auto* domain = json_object(certificate, "domain");
    FoundCertificate found;
    found.from = from;
    if (domain != nullptr) found.from += fmt::format(" ({})", json_text(*domain, "main"));
    found.chain_pem = *chain;
    found.key_pem = *key;
    found.ca = ca;
    findings.certificates.push_back(std::move(found));
    if (!findings.accounts.empty() && findings.accounts.back().ca.host == ca.host) {
      ++findings.accounts.back().users;
    }
  }
};

}  // namespace

Result<Findings> read_traefik(const std::string& path) {
  const auto text = read_plain_file(path, imported_store_bytes_max);
  if (!text) return text.error();
  const auto store = parse_json_object(*text, path);
  if (!store) return store.error();
  Reading reading;
  for (const auto& [name, value] : *store) {
    const auto* resolver = value.if_object();
    if (resolver == nullptr ||
        !(resolver->contains("Account") || resolver->contains("Certificates"))) {
      if (name == "Account" || name == "Certificates" || name == "DomainsCertificate") {
        return Error(ErrorKind::invalid,
                     path +
                         ": of Traefik 1: let Traefik 2 or 3 take it over first, or have the "
                         "certificates obtained anew");
      }
      if (!value.is_null()) {
        reading.findings.problems.push_back(
            fmt::format("{}: not a resolver with an account and certificates", std::string(name)));
      }
      continue;
    }
    reading.read_resolver(std::string(name), *resolver);
  }
  return std::move(reading.findings);
}

}  // namespace gatehouse::acme
