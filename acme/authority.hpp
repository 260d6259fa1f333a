// One certificate authority as the functions that the manager needs of it.
//
// Not a protocol: the ACME ones wrap an Issuer, the internal one signs with a root of its own.
// Control thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "acme/failure.hpp"
#include "acme/renewal_info.hpp"
#include "acme/solver/solvers.hpp"
#include "acme/storage/storage.hpp"
#include "base/clock.hpp"
#include "base/fetch.hpp"
#include "config/snapshot.hpp"
#include "tls/certificate.hpp"

namespace gatehouse::acme {

/// The name of our own authority, in storage and in messages.
inline constexpr const char* internal_authority_name = "internal";

/// A certificate to be obtained.
struct Wanted {
  std::string id;  // in storage
  std::vector<std::string> names;
  /// The caller has what the last order of this id gave, and may not have stored it yet.
  bool another = false;
  std::string replaces;  // certificate id of its predecessor (RFC 9773 section 5); empty: none
  std::vector<std::string> challenges;  // no others are tried, in order; empty: as configured
  std::string first_challenge;          // of these: what last proved the names; empty: the first
  /// How many validations may fail on the way; with none left no further challenge is tried.
  unsigned verdicts_max = 4;
};

struct Issued {
  tls::CertificatePtr certificate;
  std::string challenge;  // the type that proved it; empty: the CA still believed an earlier proof
  unsigned verdicts = 0;  // as Failure's
  unsigned orders = 0;    // as Failure's
};

struct Authority {
  std::string name;
  std::string directory;  // empty: internal
  /// As Issuer's functions of these names.
  std::function<boost::asio::awaitable<Outcome<Issued>>(Wanted)> obtain;
  std::function<boost::asio::awaitable<void>(std::string id)> forget;
  std::function<boost::asio::awaitable<bool>()> probe;
  std::function<boost::asio::awaitable<Outcome<RenewalInfo>>(std::string certificate_id)>
      renewal_info;
  std::function<boost::asio::awaitable<Outcome<void>>(tls::CertificatePtr, int reason)> revoke;
  std::function<boost::asio::awaitable<Outcome<void>>()> roll_over_account_key;
  std::function<uint64_t()> orders_placed;
  /// May be empty: accounts registered since the start.
  std::function<uint64_t()> accounts_made;
  /// The CA's clock, if it can be read now.
  std::function<boost::asio::awaitable<std::optional<base::WallClock::time_point>>()> date;
};

/// Makes the authority of one [ca.NAME].
using MakeAuthority =
    std::function<Authority(const config::CertificateAuthority&, config::SnapshotPtr)>;

/// ACME by an Issuer. References outlive the authority; of the snapshot, which may be large, it
/// keeps no more than [acme].
Authority acme_authority(base::Fetcher& fetcher, Storage& storage, Solvers solvers,
                         const base::Clock& clock, const config::CertificateAuthority& authority,
                         config::SnapshotPtr snapshot);

/// Our own root, created at its first use and kept in internal/root; leaves live 90 days.
Authority internal_authority(Storage& storage, const base::Clock& clock);

}  // namespace gatehouse::acme
