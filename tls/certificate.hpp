// A certificate chain with its private key: parse, check, describe, create.
//
// Immutable once made and shared by all threads through a shared_ptr. Does not choose which one to
// serve (certificate_table) or get one from a CA (acme).
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "config/snapshot.hpp"

struct evp_pkey_st;
struct x509_st;
struct stack_st_X509;

namespace gatehouse::tls {

using base::Result;

class PrivateKey {
 public:
  static Result<PrivateKey> generate(config::KeyType type);
  /// PKCS#8, SEC1 or PKCS#1 PEM without a passphrase. `source` names the file in errors.
  static Result<PrivateKey> from_pem(std::string_view pem, std::string_view source);

  std::string to_pem() const;  // PKCS#8
  evp_pkey_st* native() const { return key_.get(); }

 private:
  explicit PrivateKey(evp_pkey_st* key);
  std::shared_ptr<evp_pkey_st> key_;
};

class Certificate {
 public:
  /// `chain_pem`: the leaf first, then intermediates. Fails, naming `source`, if either part does
  /// not parse or the key is not the leaf's.
  static Result<std::shared_ptr<const Certificate>> from_pem(std::string_view chain_pem,
                                                             std::string_view key_pem,
                                                             std::string_view source);

  /// The SAN: DNS names in lower case, IP addresses as text.
  const std::vector<std::string>& names() const { return names_; }
  base::WallClock::time_point not_before() const { return not_before_; }
  base::WallClock::time_point not_after() const { return not_after_; }
  std::string issuer() const;       // the issuer's common name, or its whole name
  std::string serial() const;       // hexadecimal
  std::string fingerprint() const;  // SHA-256 of the leaf, hexadecimal
  std::string leaf_der() const;
  /// What the CA's renewal information knows it by (RFC 9773 section 4.1): base64url of the
  /// authority key identifier, a dot, base64url of the serial number's DER content. Empty if the
  /// certificate does not name its issuer's key.
  std::string renewal_id() const;
  bool self_signed() const;
  /// RFC 6125: exact, or a wildcard as the whole leftmost label. `name` in lower case.
  bool covers(std::string_view name) const;
  /// Why it must not be served for `wanted` now (chain order, serverAuth, dates within `skew`,
  /// names); empty: it may be.
  std::string problem_for(const std::vector<std::string>& wanted, base::WallClock::time_point now,
                          std::chrono::seconds skew) const;

  std::string chain_pem() const;
  std::string key_pem() const;

  // For SSL_use_cert_and_key, which takes references of its own.
  x509_st* leaf() const;
  evp_pkey_st* key() const;
  stack_st_X509* chain() const;

  ~Certificate();

 private:
  struct Parts;
  explicit Certificate(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
  std::vector<std::string> names_;
  base::WallClock::time_point not_before_, not_after_;
};

using CertificatePtr = std::shared_ptr<const Certificate>;

/// A self-signed server certificate for `names` (the first is the subject), P-256.
Result<CertificatePtr> make_self_signed(const std::vector<std::string>& names,
                                        std::chrono::hours lifetime);

/// A DER certificate request: empty subject, the names as SAN only (RFC 8555 section 7.4).
Result<std::string> make_request_der(const PrivateKey& key, const std::vector<std::string>& names);

}  // namespace gatehouse::tls
