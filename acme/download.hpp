// The certificate that a CA has issued: fetched, the chain that is wanted chosen, verified before
// anybody serves it.
//
// Does not order or store it, nor decide what follows from one that is useless (issuer). Control
// thread.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "acme/client.hpp"
#include "tls/certificate.hpp"

namespace gatehouse::acme {

/// How far our clock may be from the CA's: its certificates begin at once.
inline constexpr std::chrono::hours date_skew_max{1};

struct Download {
  std::string url;
  std::vector<std::string> names;  // that it must be for
  std::string preferred_chain;     // name of an issuer in it; empty: the CA's first choice
};

struct Downloaded {
  tls::CertificatePtr certificate;
  std::string problem;  // why it cannot be served, for a person; empty: it can
};

/// Fails only if the CA does not hand it out. The CA's first chain serves if none leads to the
/// preferred issuer.
boost::asio::awaitable<Outcome<Downloaded>> download(Client& client, AccountPtr account,
                                                     tls::PrivateKey key, Download wanted,
                                                     WallTime now, const Errand& errand);

}  // namespace gatehouse::acme
