// Obtains one certificate from one CA: account, order, challenges, finalize, download, verify.
//
// Does not decide when, how often, or what to do after a failure (manager), and does not store the
// certificate: it journals the order in Storage so that a crash resumes it and never orders twice.
// Control thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "acme/authority.hpp"
#include "acme/failure.hpp"
#include "acme/solver/solvers.hpp"
#include "acme/storage/storage.hpp"
#include "base/clock.hpp"
#include "base/fetch.hpp"
#include "config/snapshot.hpp"
#include "tls/certificate.hpp"

namespace gatehouse::acme {

class Issuer {
 public:
  /// All references outlive the issuer. One issuer for each CA; calls for different names may run
  /// at the same time and share the directory, the nonces and the account.
  Issuer(base::Fetcher& fetcher, Storage& storage, Solvers solvers, const base::Clock& clock,
         config::CertificateAuthority authority, const config::Acme& settings);
  ~Issuer();

  /// A journalled order of `wanted.id` (`orders/<id>/`) for the same names and CA is read and
  /// continued; otherwise a new one is placed. The certificate is verified (key, names, dates,
  /// chain) before it is returned. The journal stays: the caller calls forget(id) once the
  /// certificate is stored.
  boost::asio::awaitable<Outcome<Issued>> obtain(Wanted wanted);
  boost::asio::awaitable<void> forget(std::string id);

  /// When the CA wants a certificate renewed (Client::renewal_info). The failure's sentence names
  /// the CA, not the certificate.
  boost::asio::awaitable<Outcome<RenewalInfo>> renewal_info(std::string certificate_id);

  /// Has the CA revoke it, as the account; if that is not the one that obtained the certificate, by
  /// the certificate's own key. `reason` is one that is_revocation_reason() accepts.
  boost::asio::awaitable<Outcome<void>> revoke(tls::CertificatePtr certificate, int reason);

  /// A new key for the account (AccountKeeper::roll_over), once no order is at work: waits a minute
  /// for them, and holds up new ones meanwhile.
  boost::asio::awaitable<Outcome<void>> roll_over_account_key();

  /// Orders placed since the start, for the metric.
  uint64_t orders_placed() const;
  /// Accounts registered since then.
  uint64_t accounts_made() const;

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with running calls, which may be destroyed later
};

}  // namespace gatehouse::acme
