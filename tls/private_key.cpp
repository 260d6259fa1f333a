#include <utility>

#include <fmt/format.h>
#include <openssl/decoder.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "tls/certificate.hpp"
#include "tls/openssl.hpp"

namespace gatehouse::tls {

namespace {

using base::Error;
using base::ErrorKind;

EVP_PKEY* generate_native(config::KeyType type) {
  switch (type) {
    case config::KeyType::p256:
      return EVP_EC_gen("P-256");
    case config::KeyType::p384:
      return EVP_EC_gen("P-384");
    case config::KeyType::rsa2048:
      return EVP_RSA_gen(2048);
    case config::KeyType::rsa4096:
      return EVP_RSA_gen(4096);
  }
  return nullptr;
}

/// Gatehouse starts without a person at the terminal: it asks for no passphrase.
int refuse_passphrase(char*, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

/// Reads keys as we store them, PKCS #8 without a passphrase. Finding OpenSSL's decoders takes
/// seven times as long as decoding: a thread does it once.
class Decoder {
 public:
  Decoder()
      : context_(OSSL_DECODER_CTX_new_for_pkey(&key_, "PEM", "PrivateKeyInfo", nullptr,
                                               EVP_PKEY_KEYPAIR, nullptr, nullptr)) {}
  ~Decoder() { OSSL_DECODER_CTX_free(context_); }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  /// Null if it is anything else, or damaged. The key is the caller's.
  EVP_PKEY* read(std::string_view pem) {
    auto data = reinterpret_cast<const unsigned char*>(pem.data());
    size_t length = pem.size();
    const bool whole = context_ != nullptr && OSSL_DECODER_from_data(context_, &data, &length) == 1;
    EVP_PKEY* key = std::exchange(key_, nullptr);
    if (whole) return key;
    EVP_PKEY_free(key);
    return nullptr;
  }

 private:
  EVP_PKEY* key_ = nullptr;
  OSSL_DECODER_CTX* context_;
};

}  // namespace

Result<PrivateKey> PrivateKey::generate(config::KeyType type) {
  ERR_clear_error();
  EVP_PKEY* key = generate_native(type);
  if (!key) return openssl_error(ErrorKind::tls, "a private key cannot be generated");
  return PrivateKey(key);
}

Result<PrivateKey> PrivateKey::from_pem(std::string_view pem, std::string_view source) {
  EVP_PKEY* stored_form = nullptr;
  if (pem.starts_with("-----BEGIN PRIVATE KEY-----")) {
    thread_local Decoder decoder;
    stored_form = decoder.read(pem);
  }
  ERR_clear_error();
  if (stored_form) return PrivateKey(stored_form);
  const BioPtr bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  bool encrypted = false;
  EVP_PKEY* key = PEM_read_bio_PrivateKey(bio.get(), nullptr, refuse_passphrase, &encrypted);
  if (key) {
    ERR_clear_error();
    return PrivateKey(key);
  }
  const std::string reason = openssl_reason();
  if (encrypted) {
    return Error(ErrorKind::invalid,
                 fmt::format("{}: the private key has a passphrase; remove it with "
                             "'openssl pkey -in KEY -out NEW'",
                             source));
  }
  if (pem.find("PRIVATE KEY-----") == std::string_view::npos) {
    return Error(ErrorKind::invalid,
                 fmt::format("{}: no private key in PEM form in it; it needs a block "
                             "'-----BEGIN PRIVATE KEY-----'",
                             source));
  }
  return Error(ErrorKind::invalid, fmt::format("{}: damaged private key: {}", source, reason));
}

std::string PrivateKey::to_pem() const {
  const BioPtr bio(BIO_new(BIO_s_secmem()));
  ASSERT(PEM_write_bio_PKCS8PrivateKey(bio.get(), key_.get(), nullptr, nullptr, 0, nullptr,
                                       nullptr) == 1);
  return take_secret_text(bio.get());
}

PrivateKey::PrivateKey(evp_pkey_st* key) : key_(key, EVP_PKEY_free) {}

}  // namespace gatehouse::tls
