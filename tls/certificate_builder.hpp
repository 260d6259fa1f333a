// Certificates that Gatehouse signs itself: the fallback's, the internal authority's,
// and those that answer challenges.
//
// Does not store or serve them. Blocks for a signature (under a millisecond with P-256): control
// thread.
#pragma once

#include <string>
#include <vector>

#include "tls/certificate.hpp"
#include "tls/openssl.hpp"

namespace gatehouse::tls {

struct CertificateDraft {
  std::string common_name;         // left out when longer than RFC 5280's 64 characters
  std::vector<std::string> names;  // DNS names, wildcards and IP addresses for the SAN
  base::WallClock::time_point not_before, not_after;
  bool authority = false;       // may sign leaves, and nothing else
  std::string acme_identifier;  // RFC 8737 section 3: 32 bytes; empty: no such extension
};

/// Signed by `issuer`, or by `key` itself when there is none. Fails with the name at fault.
Result<X509Ptr> build_certificate(const CertificateDraft& draft, const PrivateKey& key,
                                  const Certificate* issuer);

/// The same as a Certificate with its key, without a chain.
Result<CertificatePtr> build_with_key(const CertificateDraft& draft, const Certificate* issuer);

}  // namespace gatehouse::tls
