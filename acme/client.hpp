// ACME's verbs towards one CA (RFC 8555 section 7): each sends one signed request and parses what
// comes back.
//
// Does not know the order of the verbs (issuer), keep accounts (account) or wait between polls.
// Control thread.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "acme/failure.hpp"
#include "acme/protocol.hpp"
#include "acme/transport.hpp"
#include "tls/certificate.hpp"

namespace gatehouse::acme {

/// An account at the CA, with the key that speaks for it. Immutable.
struct Account {
  tls::PrivateKey key;
  std::string url;         // the `kid` of its messages
  std::string orders;      // the list of its orders; empty: the CA keeps none
  std::string thumbprint;  // of the key
};
using AccountPtr = std::shared_ptr<const Account>;

template <class T>
struct Reply {
  T value;
  std::string location;                                  // Location, empty if there was none
  std::optional<std::chrono::milliseconds> retry_after;  // Retry-After
};

struct OrderPage {
  std::vector<std::string> orders;
  std::string next;  // empty: the last page
};

struct DownloadedChain {
  std::string pem;
  std::vector<std::string> alternates;  // URLs of the same certificate under other roots
};

class Client {
 public:
  /// The references outlive the client.
  Client(base::Fetcher& fetcher, Storage& storage, const base::Clock& clock,
         config::CertificateAuthority authority);

  Transport& transport() { return transport_; }
  const config::CertificateAuthority& authority() const { return transport_.authority(); }

  /// newAccount for a key: makes the account, or finds the one the key already has (section 7.3.1).
  boost::asio::awaitable<Outcome<AccountPtr>> new_account(tls::PrivateKey key,
                                                          const Errand& errand);

  boost::asio::awaitable<Outcome<Reply<OrderObject>>> new_order(AccountPtr account,
                                                                std::vector<std::string> names,
                                                                std::string profile,
                                                                const Errand& errand);
  boost::asio::awaitable<Outcome<Reply<OrderObject>>> order(AccountPtr account, std::string url,
                                                            const Errand& errand);
  boost::asio::awaitable<Outcome<OrderPage>> orders(AccountPtr account, std::string url,
                                                    const Errand& errand);
  boost::asio::awaitable<Outcome<Reply<Authorization>>> authorization(AccountPtr account,
                                                                      std::string url,
                                                                      const Errand& errand);
  /// Tells the CA that the challenge may be looked at now.
  boost::asio::awaitable<Outcome<Reply<OfferedChallenge>>> accept(AccountPtr account,
                                                                  std::string url,
                                                                  const Errand& errand);
  boost::asio::awaitable<Outcome<Reply<OrderObject>>> finalize(AccountPtr account, std::string url,
                                                               std::string request_der,
                                                               const Errand& errand);
  boost::asio::awaitable<Outcome<DownloadedChain>> certificate(AccountPtr account, std::string url,
                                                               const Errand& errand);

 private:
  boost::asio::awaitable<Outcome<base::FetchResponse>> read(AccountPtr account, std::string url,
                                                            std::string accept,
                                                            const Errand& errand);

  Transport transport_;
};

}  // namespace gatehouse::acme
