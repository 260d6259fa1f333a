#include "acme/download.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "tls/chain_issuers.hpp"

namespace gatehouse::acme {

using boost::asio::awaitable;

namespace {

bool leads_to(const std::string& issuer, const std::string& pem) {
  const auto issuers = tls::chain_issuers(pem);
  return std::find(issuers.begin(), issuers.end(), issuer) != issuers.end();
}

/// The chain with an issuer of the wanted name, if there is one; else the CA's first.
awaitable<std::string> preferred(Client& client, AccountPtr account, DownloadedChain chain,
                                 const std::string& issuer, const Errand& errand) {
  if (issuer.empty() || leads_to(issuer, chain.pem)) co_return std::move(chain.pem);
  for (const auto& url : chain.alternates) {
    auto other = co_await client.certificate(account, url, errand);
    if (other && leads_to(issuer, other->pem)) co_return std::move(other->pem);
  }
  base::log::warn("{}: {} offers no chain to \"{}\": serving its first", errand.attempt.names,
                  errand.attempt.authority, issuer);
  co_return std::move(chain.pem);
}

}  // namespace

awaitable<Outcome<Downloaded>> download(Client& client, AccountPtr account, tls::PrivateKey key,
                                        Download wanted, WallTime now, const Errand& errand) {
  auto chain = co_await client.certificate(account, wanted.url, errand);
  if (!chain) co_return chain.error();
  const std::string pem =
      co_await preferred(client, account, std::move(*chain), wanted.preferred_chain, errand);
  const std::string source = "the certificate from " + errand.attempt.authority;
  auto certificate = tls::Certificate::from_pem(pem, key.to_pem(), source);
  Downloaded result;
  if (certificate) {
    result.problem = (*certificate)->problem_for(wanted.names, now, date_skew_max);
    result.certificate = std::move(*certificate);
  } else {
    result.problem = certificate.error().context;
  }
  co_return result;
}

}  // namespace gatehouse::acme
