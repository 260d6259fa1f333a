// ACME's verbs towards one CA (RFC 8555 section 7): each sends one signed request and parses what
// comes back.
//
// Does not know the order of the verbs (issuer), keep accounts (account) or wait between polls.
// Control thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "acme/failure.hpp"
#include "acme/protocol.hpp"
#include "acme/renewal_info.hpp"
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

/// What a new order is for.
struct OrderRequest {
  std::vector<std::string> names;
  std::string profile;   // empty: the CA's choice
  std::string replaces;  // the id of the certificate it takes the place of; empty: none
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

  /// The account that the key has; a Failure of type accountDoesNotExist if it has none.
  boost::asio::awaitable<Outcome<AccountPtr>> existing_account(tls::PrivateKey key,
                                                               const Errand& errand);
  /// From now on `key` speaks for the account (section 7.3.5). Without an answer either key may:
  /// existing_account tells.
  boost::asio::awaitable<Outcome<AccountPtr>> change_key(AccountPtr account, tls::PrivateKey key,
                                                         const Errand& errand);

  boost::asio::awaitable<Outcome<Reply<OrderObject>>> new_order(AccountPtr account,
                                                                OrderRequest request,
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

  /// Has a certificate revoked, by the account that obtained it or by its own key (section 7.6).
  /// `reason` is one that is_revocation_reason() accepts. One that is revoked already is a success.
  boost::asio::awaitable<Outcome<void>> revoke(AccountPtr account, std::string certificate_der,
                                               int reason, const Errand& errand);
  boost::asio::awaitable<Outcome<void>> revoke(tls::PrivateKey certificate_key,
                                               std::string certificate_der, int reason,
                                               const Errand& errand);

  /// When the CA wants the certificate of that Certificate::renewal_id() renewed (RFC 9773). Not
  /// signed. A CA that does not offer it: a Failure of class internal, status 404, type
  /// "unsupported".
  boost::asio::awaitable<Outcome<RenewalInfo>> renewal_info(std::string certificate_id,
                                                            const Errand& errand);

 private:
  /// The payload for the address that the directory gives.
  using Payload = std::function<base::Result<std::string>(const std::string& url)>;
  boost::asio::awaitable<Outcome<base::FetchResponse>> ask(std::string Directory::*resource,
                                                           Message message, Payload payload,
                                                           const Errand& errand);
  boost::asio::awaitable<Outcome<AccountPtr>> account_of(tls::PrivateKey key, Payload payload,
                                                         const Errand& errand);
  boost::asio::awaitable<Outcome<void>> revoke(Message message, std::string certificate_der,
                                               int reason, const Errand& errand);
  boost::asio::awaitable<Outcome<base::FetchResponse>> read(AccountPtr account, std::string url,
                                                            std::string accept,
                                                            const Errand& errand);

  Transport transport_;
};

}  // namespace gatehouse::acme
