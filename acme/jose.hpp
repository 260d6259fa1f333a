// Signed messages for ACME: JWK, thumbprints and flattened JWS (RFC 7515, 7517, 7638; RFC 8555
// section 6.2).
//
// Does not send anything (client). Besides tls/ the only file that knows OpenSSL. Pure, any thread.
#pragma once

#include <string>
#include <string_view>

#include "base/error.hpp"
#include "tls/certificate.hpp"

namespace gatehouse::acme {

/// The key's public half as JSON, members in the order of RFC 7638 section 3. EC P-256 and P-384,
/// and RSA keys of 2048 to 8192 bits; anything else is `invalid`.
base::Result<std::string> public_jwk(const tls::PrivateKey& key);

/// base64url(SHA-256(public_jwk)), RFC 7638.
base::Result<std::string> thumbprint(const tls::PrivateKey& key);

/// What a challenge must show: token "." thumbprint (RFC 8555 section 8.1).
std::string key_authorization(std::string_view token, std::string_view thumbprint);

/// ES256, ES384 (r and s, as wide as the curve) or RS256, by the key's kind, over `bytes`. Raw, not
/// encoded.
base::Result<std::string> signature(const tls::PrivateKey& key, std::string_view bytes);

/// What the protected header says besides `alg`.
struct JwsHeader {
  std::string url;
  std::string nonce;    // empty: left out, as inside a change of keys
  std::string account;  // the account's URL (`kid`); empty: the whole `jwk`
};

/// A flattened JWS of `payload`; an empty payload is a POST-as-GET.
base::Result<std::string> sign(const tls::PrivateKey& key, const JwsHeader& header,
                               std::string_view payload);

/// An external account binding (RFC 8555 section 7.3.4): HS256 over the account key's JWK.
/// `hmac_key` is base64url text, as CAs hand it out; padding is tolerated.
base::Result<std::string> external_account_binding(const tls::PrivateKey& account_key,
                                                   std::string_view kid, std::string_view hmac_key,
                                                   std::string_view new_account_url);

}  // namespace gatehouse::acme
