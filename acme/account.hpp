// The account at one CA: its key is stored before it is used, and it is registered once.
//
// Does not place orders (issuer). One for each CA and e-mail address, kept in
// `issuers/<ca>/accounts/<id>/{account.json,key.pem}`. Control thread.
#pragma once

#include <string>

#include <boost/asio/awaitable.hpp>

#include "acme/client.hpp"
#include "acme/single_flight.hpp"
#include "acme/storage/storage.hpp"
#include "base/clock.hpp"

namespace gatehouse::acme {

/// The URL of the account that is stored for that CA and e-mail; empty: none is. Asks nobody.
boost::asio::awaitable<std::string> stored_account_url(
    Storage& storage, const config::CertificateAuthority& authority, const std::string& email);

class AccountKeeper {
 public:
  /// The references outlive the keeper. An empty e-mail is an account without contact.
  AccountKeeper(Client& client, Storage& storage, const base::Clock& clock, std::string email);

  /// From memory, else storage, else by registration; callers at the same time share one.
  boost::asio::awaitable<Outcome<AccountPtr>> ensure(const Errand& errand);

  /// The CA no longer knows the account of that URL: the next ensure() registers its key anew.
  void forget(const std::string& url);

 private:
  boost::asio::awaitable<Outcome<AccountPtr>> open(Errand errand);
  boost::asio::awaitable<Outcome<tls::PrivateKey>> stored_key(const Errand& errand);
  boost::asio::awaitable<Outcome<tls::PrivateKey>> make_key(const Errand& errand);
  boost::asio::awaitable<AccountPtr> stored_account(tls::PrivateKey key);
  boost::asio::awaitable<void> store(AccountPtr account);

  Client& client_;
  Storage& storage_;
  const base::Clock& clock_;
  std::string email_;
  std::string folder_;
  std::string forgotten_;  // the URL that account.json may still hold
  AccountPtr account_;
  SingleFlight<Outcome<AccountPtr>> flight_;
};

}  // namespace gatehouse::acme
