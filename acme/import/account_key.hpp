// Account keys in the forms that other clients keep them in.
//
// Does not read files (the sources). Pure, any thread.
#pragma once

#include <string>
#include <string_view>

#include <boost/json/object.hpp>

#include "base/error.hpp"
#include "tls/certificate.hpp"

namespace gatehouse::acme {

/// A private JWK (RFC 7517, RFC 7518 section 6), as certbot keeps it: RSA, or EC P-256 and P-384.
base::Result<tls::PrivateKey> key_of_jwk(const boost::json::object& jwk, std::string_view file);

/// PKCS#1 or PKCS#8 DER in base64, as Traefik keeps it.
base::Result<tls::PrivateKey> key_of_der(std::string_view base64, std::string_view file);

/// PEM; and of a kind that an ACME account may have.
base::Result<tls::PrivateKey> account_key_of_pem(std::string_view pem, std::string_view file);

}  // namespace gatehouse::acme
