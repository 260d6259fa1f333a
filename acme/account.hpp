// The account at one CA: its key is stored before it is used, and it is registered once.
//
// Does not place orders (issuer). One for each CA and e-mail address, kept in
// `issuers/<ca>/accounts/<id>/{account.json,key.pem}`; `next.pem` beside them is the key of a
// change that the CA has not confirmed. Control thread.
#pragma once

#include <string>

#include <boost/asio/awaitable.hpp>

#include "acme/client.hpp"
#include "acme/single_flight.hpp"
#include "acme/storage/storage.hpp"
#include "acme/turnstile.hpp"
#include "base/clock.hpp"

namespace gatehouse::acme {

/// The folder in storage of a CA's account for an e-mail address, which may be empty.
std::string account_folder(const std::string& authority, const std::string& email);
/// The text of its account.json.
std::string account_record(const Account& account, const std::string& directory,
                           const std::string& email, WallTime registered);
/// The URL of the account that is stored for that CA and e-mail; empty: none is. Asks nobody.
boost::asio::awaitable<std::string> stored_account_url(
    Storage& storage, const config::CertificateAuthority& authority, const std::string& email);

class AccountKeeper {
 public:
  /// The references outlive the keeper. An empty e-mail is an account without contact.
  AccountKeeper(Client& client, Storage& storage, const base::Clock& clock, std::string email);

  /// From memory, else storage, else by registration; callers at the same time share one.
  boost::asio::awaitable<Outcome<AccountPtr>> ensure(const Errand& errand);

  /// Everybody who signs as the account is inside: its key does not change under their hands.
  Turnstile& users() { return users_; }

  /// A new P-256 key for the account (RFC 8555 section 7.3.5), once all users have left: waits a
  /// minute for them, and holds up new ones. Both keys are kept until the CA has confirmed: after a
  /// crash, or without an answer, the next ensure() asks it which one it knows.
  boost::asio::awaitable<Outcome<void>> roll_over(const Errand& errand);

  /// The CA no longer knows the account of that URL: the next ensure() registers its key anew.
  void forget(const std::string& url);

  /// The next ensure() reads storage again: somebody else may have changed or removed the account.
  void reread() { account_.reset(); }

  /// Registrations since the start.
  uint64_t registered() const { return registered_; }

 private:
  boost::asio::awaitable<Outcome<AccountPtr>> open(Errand errand);
  boost::asio::awaitable<Outcome<tls::PrivateKey>> stored_key(const Errand& errand);
  boost::asio::awaitable<Outcome<tls::PrivateKey>> make_key(const Errand& errand);
  boost::asio::awaitable<Outcome<AccountPtr>> settle_change(const Errand& errand);
  boost::asio::awaitable<void> confirm(AccountPtr account);
  boost::asio::awaitable<void> discard_next();
  boost::asio::awaitable<AccountPtr> stored_account(tls::PrivateKey key);
  boost::asio::awaitable<void> store(AccountPtr account);

  Client& client_;
  Storage& storage_;
  const base::Clock& clock_;
  std::string email_;
  std::string folder_;
  std::string forgotten_;  // the URL that account.json may still hold
  AccountPtr account_;
  uint64_t registered_ = 0;
  Turnstile users_;
  SingleFlight<Outcome<AccountPtr>> flight_;
};

}  // namespace gatehouse::acme
