// Signed requests to one CA and what they need: its directory and nonces (RFC 8555 sections 6 and
// 7.1 and 7.2).
//
// Does not know any verb (client). Shared by all orders at this CA. Control thread.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include <boost/asio/awaitable.hpp>

#include "acme/failure.hpp"
#include "acme/problem.hpp"
#include "acme/protocol.hpp"
#include "acme/storage/storage.hpp"
#include "base/clock.hpp"
#include "base/fetch.hpp"
#include "config/snapshot.hpp"
#include "tls/certificate.hpp"

namespace gatehouse::acme {

inline constexpr std::chrono::seconds response_timeout{45};

/// What a call is for: the words for its failure, and when it must be over.
struct Errand {
  Attempt attempt;
  base::Monotonic::time_point deadline;
};

/// A request before it is signed.
struct Message {
  const tls::PrivateKey* key = nullptr;  // outlives the call
  std::string account;                   // empty: the key identifies itself
  std::string url;
  std::string payload;  // empty: POST-as-GET
  std::string accept;
  std::chrono::milliseconds timeout = response_timeout;
};

struct KeptDirectory {
  Directory directory;
  WallTime since;
};

/// The CA's directory as `issuers/<ca>/directory.json` has it, of whatever age; asks nobody.
boost::asio::awaitable<std::optional<KeptDirectory>> stored_directory(
    Storage& storage, const config::CertificateAuthority& authority);

class Transport {
 public:
  /// The references outlive the transport.
  Transport(base::Fetcher& fetcher, Storage& storage, const base::Clock& clock,
            config::CertificateAuthority authority);
  ~Transport();

  /// From memory, else `issuers/<ca>/directory.json`, else the CA; kept for 24 h.
  boost::asio::awaitable<Outcome<Directory>> directory(const Errand& errand);
  /// From the CA: an address of the kept one was 404, or the breaker probes.
  boost::asio::awaitable<Outcome<Directory>> refetch_directory(const Errand& errand);
  /// Starts fetching a nonce if none is at hand, and returns at once.
  boost::asio::awaitable<void> prefetch_nonce();

  /// Signs and sends. badNonce is tried again, at most 10 times in all, each signed anew; nothing
  /// else is: after a timeout the caller looks at what the CA has done. A status of 2xx is a
  /// success, any other a Failure.
  boost::asio::awaitable<Outcome<base::FetchResponse>> post(Message message, const Errand& errand);

  /// An unsigned GET, for the few resources that are open to all. A status of 2xx is a success, any
  /// other a Failure.
  boost::asio::awaitable<Outcome<base::FetchResponse>> get(std::string url, const Errand& errand);

  std::optional<std::chrono::milliseconds> retry_after(const base::FetchResponse& response) const;
  const config::CertificateAuthority& authority() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace gatehouse::acme
