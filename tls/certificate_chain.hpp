// The certificates of a PEM text, and the intermediates that many leaves share.
//
// Does not check that they link (Certificate::problem_for). Any thread; locks a mutex while
// loading, never in a handshake.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "tls/certificate.hpp"
#include "tls/openssl.hpp"

namespace gatehouse::tls {

struct Chain {
  X509StackPtr stack;
};

/// At least one certificate as DER, in the text's order; other blocks are skipped. `source` names
/// the text in errors.
Result<std::vector<std::string>> certificates_in(std::string_view pem, std::string_view source);

/// Parsed whole, so that threads may share it afterwards.
Result<X509Ptr> decode_certificate(const std::string& der, std::string_view source);

/// The stack of these certificates: the one in use if there is one, by digest.
Result<std::shared_ptr<const Chain>> shared_chain(const std::vector<std::string>& ders,
                                                  std::string_view source);

}  // namespace gatehouse::tls
