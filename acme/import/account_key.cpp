#include "acme/import/account_key.hpp"

#include <fmt/format.h>

#include "acme/import/tree.hpp"
#include "acme/jose.hpp"
#include "base/encoding.hpp"

namespace gatehouse::acme {

namespace json = boost::json;
using base::Error;
using base::ErrorKind;
using base::Result;

namespace {

constexpr size_t number_bytes_max = 1024;  // RSA of 8192 bits

Error unusable(std::string_view file, std::string_view why) {
  return Error(ErrorKind::invalid, fmt::format("{}: {}", file, why));
}

/// One DER element (X.690 section 8.1).
std::string element(char tag, std::string_view content) {
  std::string length;
  if (content.size() < 0x80) {
    length = std::string(1, static_cast<char>(content.size()));
  } else {
    for (size_t rest = content.size(); rest > 0; rest >>= 8) {
      length.insert(length.begin(), static_cast<char>(rest & 0xff));
    }
    length.insert(length.begin(), static_cast<char>(0x80 | length.size()));
  }
  return std::string(1, tag) + length + std::string(content);
}

/// A non-negative INTEGER.
std::string integer(std::string_view bytes) {
  while (bytes.size() > 1 && bytes.front() == '\0') bytes.remove_prefix(1);
  std::string content(bytes);
  if (content.empty() || (static_cast<unsigned char>(content.front()) & 0x80) != 0) {
    content.insert(content.begin(), '\0');
  }
  return element(0x02, content);
}

std::string pem_of(std::string_view label, std::string_view der) {
  const std::string text = base::base64(der);
  std::string pem = fmt::format("-----BEGIN {}-----\n", label);
  for (size_t at = 0; at < text.size(); at += 64) pem += text.substr(at, 64) + "\n";
  return pem + fmt::format("-----END {}-----\n", label);
}

/// A number of the JWK; empty if it is missing or makes no sense.
std::string number(const json::object& jwk, std::string_view name) {
  const auto bytes = base::base64url_decode(json_text(jwk, name));
  return bytes && bytes->size() <= number_bytes_max ? *bytes : std::string();
}

Result<tls::PrivateKey> rsa_key(const json::object& jwk, std::string_view file) {
  std::string content = integer(std::string(1, '\0'));  // version: two primes
  for (const auto* name : {"n", "e", "d", "p", "q", "dp", "dq", "qi"}) {
    const std::string value = number(jwk, name);
    if (value.empty()) return unusable(file, fmt::format("\"{}\" of the key is missing", name));
    content += integer(value);
  }
  return account_key_of_pem(pem_of("RSA PRIVATE KEY", element(0x30, content)), file);
}

Result<tls::PrivateKey> ec_key(const json::object& jwk, std::string_view file) {
  using namespace std::string_view_literals;
  const std::string curve = json_text(jwk, "crv");
  const bool p256 = curve == "P-256";
  if (!p256 && curve != "P-384") return unusable(file, "a key of a curve that is not used here");
  // prime256v1 and secp384r1 (RFC 5480 section 2.1.1.1).
  const std::string_view oid =
      p256 ? "\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"sv : "\x06\x05\x2b\x81\x04\x00\x22"sv;
  const size_t width = p256 ? 32 : 48;
  const std::string secret = number(jwk, "d");
  if (secret.empty() || secret.size() > width) return unusable(file, "\"d\" of the key is missing");
  const std::string padded = std::string(width - secret.size(), '\0') + secret;
  // RFC 5915. Without the public half, which OpenSSL makes: then both must agree.
  const std::string content =
      integer("\x01") + element(0x04, padded) + element(static_cast<char>(0xa0), oid);
  auto key = account_key_of_pem(pem_of("EC PRIVATE KEY", element(0x30, content)), file);
  if (!key) return key;
  const auto own = parse_json_object(public_jwk(*key).value(), file);
  if (json_text(*own, "x") != json_text(jwk, "x") || json_text(*own, "y") != json_text(jwk, "y")) {
    return unusable(file, "the halves of the key do not belong together");
  }
  return key;
}

}  // namespace

Result<tls::PrivateKey> key_of_jwk(const json::object& jwk, std::string_view file) {
  const std::string kind = json_text(jwk, "kty");
  if (kind == "RSA") return rsa_key(jwk, file);
  if (kind == "EC") return ec_key(jwk, file);
  return unusable(file, "no private key in JWK form in it");
}

Result<tls::PrivateKey> key_of_der(std::string_view base64, std::string_view file) {
  const auto der = base::base64_decode(base64);
  if (!der || der->empty()) return unusable(file, "the account's key is not base64 text");
  auto key = account_key_of_pem(pem_of("RSA PRIVATE KEY", *der), file);
  if (!key) key = account_key_of_pem(pem_of("EC PRIVATE KEY", *der), file);
  if (!key) key = account_key_of_pem(pem_of("PRIVATE KEY", *der), file);
  return key;
}

Result<tls::PrivateKey> account_key_of_pem(std::string_view pem, std::string_view file) {
  auto key = tls::PrivateKey::from_pem(pem, file);
  if (!key) return key;
  const auto jwk = public_jwk(*key);
  if (!jwk) return unusable(file, jwk.error().context);
  return key;
}

}  // namespace gatehouse::acme
