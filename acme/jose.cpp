#include "acme/jose.hpp"

#include <array>
#include <memory>

#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <boost/json/value.hpp>
#include <fmt/format.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "base/encoding.hpp"
#include "tls/digest.hpp"
#include "tls/openssl.hpp"

namespace gatehouse::acme {

namespace {

/// A curve of account keys and what JOSE calls it (RFC 7518 sections 3.4 and 6.2.1.1).
struct Curve {
  const char* group;  // OpenSSL's name
  const char* name;
  const char* algorithm;
  int bytes;  // of a coordinate
  const EVP_MD* (*digest)();
};
constexpr std::array<Curve, 2> curves{{{"prime256v1", "P-256", "ES256", 32, EVP_sha256},
                                       {"secp384r1", "P-384", "ES384", 48, EVP_sha384}}};
constexpr int rsa_bits_min = 2048;
constexpr int rsa_bits_max = 8192;

using DigestPtr = std::unique_ptr<EVP_MD_CTX, tls::Release<EVP_MD_CTX_free>>;
using SignaturePtr = std::unique_ptr<ECDSA_SIG, tls::Release<ECDSA_SIG_free>>;

base::Error unsupported() {
  return base::Error(base::ErrorKind::invalid,
                     "an ACME account key must be EC P-256 or P-384, or RSA of 2048 to 8192 bits");
}

base::Error openssl_error(std::string what) {
  return tls::openssl_error(base::ErrorKind::invalid, std::move(what));
}

/// None for RSA keys, and for curves that ACME accounts do not use.
const Curve* curve_of(EVP_PKEY* key) {
  std::array<char, 64> group{};
  size_t length = 0;
  if (EVP_PKEY_is_a(key, "EC") != 1 ||
      EVP_PKEY_get_group_name(key, group.data(), group.size(), &length) != 1) {
    return nullptr;
  }
  for (const auto& curve : curves) {
    if (std::string_view(group.data(), length) == curve.group) return &curve;
  }
  return nullptr;
}

bool is_rsa(EVP_PKEY* key) {
  return EVP_PKEY_is_a(key, "RSA") == 1 && EVP_PKEY_get_bits(key) >= rsa_bits_min &&
         EVP_PKEY_get_bits(key) <= rsa_bits_max;
}

/// A number of the key, big-endian; at least `width` bytes (RFC 7518 section 6.2.1.2).
base::Result<std::string> number(EVP_PKEY* key, const char* parameter, int width) {
  BIGNUM* raw = nullptr;
  if (EVP_PKEY_get_bn_param(key, parameter, &raw) != 1) return openssl_error("reading a key");
  const tls::BignumPtr value(raw);
  std::string bytes(static_cast<size_t>(std::max(width, BN_num_bytes(raw))), '\0');
  BN_bn2binpad(raw, reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  return bytes;
}

std::string json_text(std::string_view text) {
  return boost::json::serialize(boost::json::string(text));
}

/// OpenSSL's DER signature as JOSE wants it: r and s, each as wide as the curve (RFC 7518 3.4).
base::Result<std::string> fixed_width(const std::string& der, int width) {
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  const SignaturePtr pair(d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size())));
  if (!pair) return openssl_error("reading a signature");
  std::string bytes(2 * static_cast<size_t>(width), '\0');
  auto* to = reinterpret_cast<unsigned char*>(bytes.data());
  if (BN_bn2binpad(ECDSA_SIG_get0_r(pair.get()), to, width) != width ||
      BN_bn2binpad(ECDSA_SIG_get0_s(pair.get()), to + width, width) != width) {
    return openssl_error("reading a signature");
  }
  return bytes;
}

std::string flattened(std::string_view protected_header, std::string_view payload,
                      std::string_view signature_bytes) {
  return fmt::format(R"({{"protected":"{}","payload":"{}","signature":"{}"}})", protected_header,
                     payload, base::base64url(signature_bytes));
}

}  // namespace

base::Result<std::string> public_jwk(const tls::PrivateKey& key) {
  EVP_PKEY* native = key.native();
  if (const Curve* curve = curve_of(native)) {
    const auto x = number(native, OSSL_PKEY_PARAM_EC_PUB_X, curve->bytes);
    if (!x) return x.error();
    const auto y = number(native, OSSL_PKEY_PARAM_EC_PUB_Y, curve->bytes);
    if (!y) return y.error();
    return fmt::format(R"({{"crv":"{}","kty":"EC","x":"{}","y":"{}"}})", curve->name,
                       base::base64url(*x), base::base64url(*y));
  }
  if (!is_rsa(native)) return unsupported();
  const auto e = number(native, OSSL_PKEY_PARAM_RSA_E, 1);
  if (!e) return e.error();
  const auto n = number(native, OSSL_PKEY_PARAM_RSA_N, 1);
  if (!n) return n.error();
  return fmt::format(R"({{"e":"{}","kty":"RSA","n":"{}"}})", base::base64url(*e),
                     base::base64url(*n));
}

base::Result<std::string> thumbprint(const tls::PrivateKey& key) {
  const auto jwk = public_jwk(key);
  if (!jwk) return jwk.error();
  return base::base64url(tls::sha256(*jwk));
}

std::string key_authorization(std::string_view token, std::string_view thumbprint) {
  return fmt::format("{}.{}", token, thumbprint);
}

base::Result<std::string> signature(const tls::PrivateKey& key, std::string_view bytes) {
  const Curve* curve = curve_of(key.native());
  if (curve == nullptr && !is_rsa(key.native())) return unsupported();
  const EVP_MD* hash = curve == nullptr ? EVP_sha256() : curve->digest();
  ERR_clear_error();
  const DigestPtr digest(EVP_MD_CTX_new());
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  size_t length = 0;
  // RS256 is RSASSA-PKCS1-v1_5, OpenSSL's default padding (RFC 7518 section 3.3).
  if (!digest || EVP_DigestSignInit(digest.get(), nullptr, hash, nullptr, key.native()) != 1 ||
      EVP_DigestSign(digest.get(), nullptr, &length, data, bytes.size()) != 1) {
    return openssl_error("signing for the CA");
  }
  std::string result(length, '\0');
  if (EVP_DigestSign(digest.get(), reinterpret_cast<unsigned char*>(result.data()), &length, data,
                     bytes.size()) != 1) {
    return openssl_error("signing for the CA");
  }
  result.resize(length);
  if (curve != nullptr) return fixed_width(result, curve->bytes);
  return result;
}

base::Result<std::string> sign(const tls::PrivateKey& key, const JwsHeader& header,
                               std::string_view payload) {
  std::string identity;
  if (header.account.empty()) {
    const auto jwk = public_jwk(key);
    if (!jwk) return jwk.error();
    identity = "\"jwk\":" + *jwk;
  } else {
    identity = "\"kid\":" + json_text(header.account);
  }
  const Curve* curve = curve_of(key.native());
  std::string text =
      fmt::format(R"({{"alg":"{}",{},)", curve == nullptr ? "RS256" : curve->algorithm, identity);
  if (!header.nonce.empty()) text += "\"nonce\":" + json_text(header.nonce) + ",";
  text += "\"url\":" + json_text(header.url) + "}";
  const std::string protected_header = base::base64url(text);
  const std::string encoded = base::base64url(payload);
  const auto signed_bytes = signature(key, protected_header + "." + encoded);
  if (!signed_bytes) return signed_bytes.error();
  return flattened(protected_header, encoded, *signed_bytes);
}

base::Result<std::string> external_account_binding(const tls::PrivateKey& account_key,
                                                   std::string_view kid, std::string_view hmac_key,
                                                   std::string_view new_account_url) {
  while (hmac_key.ends_with('=') || hmac_key.ends_with('\n')) hmac_key.remove_suffix(1);
  const auto secret = base::base64url_decode(hmac_key);
  if (!secret || secret->empty()) {
    return base::Error(
        base::ErrorKind::invalid,
        "eab.hmac_key_file: the key is not base64url text; copy it as the CA shows it");
  }
  const auto jwk = public_jwk(account_key);
  if (!jwk) return jwk.error();
  const std::string protected_header = base::base64url(fmt::format(
      R"({{"alg":"HS256","kid":{},"url":{}}})", json_text(kid), json_text(new_account_url)));
  const std::string payload = base::base64url(*jwk);
  return flattened(protected_header, payload,
                   tls::hmac_sha256(*secret, protected_header + "." + payload));
}

}  // namespace gatehouse::acme
