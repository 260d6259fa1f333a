// A local certificate authority, for sites with certificates = "internal" and for tests.
//
// Made and used by Gatehouse alone: no ACME, no revocation. Does not store its root (acme/storage
// does) and does not renew what it issued. Control thread.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "tls/certificate.hpp"

namespace gatehouse::tls {

class InternalAuthority {
 public:
  static constexpr std::chrono::hours root_lifetime{24 * 3652};  // ten years

  /// A new root with its key, P-256. Keep it: clients are told to trust this very certificate.
  static Result<CertificatePtr> create(const std::string& common_name);

  /// A server certificate for `names` (DNS names, wildcards, IP addresses; the first is the
  /// subject), signed by `root`. It never outlives the root. Fails if `root` may not sign, has
  /// expired, or a name is no name.
  static Result<CertificatePtr> issue(const Certificate& root,
                                      const std::vector<std::string>& names,
                                      std::chrono::seconds lifetime);
};

}  // namespace gatehouse::tls
