// The certificate that answers a TLS-ALPN-01 challenge (RFC 8737 section 3).
//
// Proves control of one name to a CA and is of no use to anybody else. Does not decide who is shown
// it (proxy) or for how long (acme). Blocks for a signature, under a millisecond: control thread.
#pragma once

#include <string>
#include <string_view>

#include "tls/certificate.hpp"

namespace gatehouse::tls {

/// Self-signed, P-256, valid for three days: `identifier` (a host name in lower case, or an IP
/// address: RFC 8738 section 3) is its only subject alternative name, and the critical
/// acmeIdentifier extension holds the SHA-256 digest of `key_authorization`.
Result<CertificatePtr> make_challenge_certificate(const std::string& identifier,
                                                  std::string_view key_authorization);

}  // namespace gatehouse::tls
