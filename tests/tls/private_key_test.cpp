#include <catch2/catch.hpp>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "tls/certificate.hpp"
#include "tls/openssl.hpp"

using namespace gatehouse;
using namespace gatehouse::tls;

namespace {

std::string error_of(std::string_view pem) {
  const auto key = PrivateKey::from_pem(pem, "key.pem");
  REQUIRE_FALSE(key.has_value());
  CHECK(key.error().context.starts_with("key.pem: "));
  CHECK(key.error().context.find('\n') == std::string::npos);
  CHECK(ERR_peek_error() == 0);
  return key.error().context;
}

bool has(const std::string& text, std::string_view part) {
  INFO(text);
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("every key type is generated, written as PKCS#8 and read back") {
  using config::KeyType;
  for (const KeyType type : {KeyType::p256, KeyType::p384, KeyType::rsa2048}) {
    const auto key = PrivateKey::generate(type).value();
    const std::string pem = key.to_pem();
    CHECK(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    const auto again = PrivateKey::from_pem(pem, "again").value();
    CHECK(EVP_PKEY_eq(again.native(), key.native()) == 1);
  }
  CHECK(EVP_PKEY_get_bits(PrivateKey::generate(KeyType::p384).value().native()) == 384);
}

TEST_CASE("a key is read whatever was read before it, also what was none") {
  const std::vector<std::string> keys{PrivateKey::generate(config::KeyType::p256)->to_pem(),
                                      PrivateKey::generate(config::KeyType::rsa2048)->to_pem(),
                                      PrivateKey::generate(config::KeyType::p384)->to_pem()};
  std::string damaged = keys.front();
  damaged[damaged.size() / 2] ^= 1;
  const std::vector<std::string> nonsense{damaged, keys[1].substr(0, keys[1].size() / 2),
                                          "-----BEGIN PRIVATE KEY-----\n", ""};
  for (const auto& before : keys)
    for (const auto& after : keys)
      for (const auto& between : nonsense) {
        CHECK(PrivateKey::from_pem(before, "before")->to_pem() == before);
        const auto none = PrivateKey::from_pem(between, "between");
        CHECK((!none || none->to_pem() != before));
        CHECK(PrivateKey::from_pem(after, "after")->to_pem() == after);
        CHECK(ERR_peek_error() == 0);
      }
}

TEST_CASE("two generated keys differ") {
  const auto one = PrivateKey::generate(config::KeyType::p256).value();
  const auto other = PrivateKey::generate(config::KeyType::p256).value();
  CHECK(EVP_PKEY_eq(one.native(), other.native()) != 1);
}

TEST_CASE("SEC1 and PKCS#1 keys are read, curve parameters before them included") {
  const auto ec = PrivateKey::generate(config::KeyType::p256).value();
  const auto rsa = PrivateKey::generate(config::KeyType::rsa2048).value();
  for (const auto& key : {ec, rsa}) {
    const BioPtr bio(BIO_new(BIO_s_mem()));
    REQUIRE(PEM_write_bio_PrivateKey_traditional(bio.get(), key.native(), nullptr, nullptr, 0,
                                                 nullptr, nullptr) == 1);
    const auto again = PrivateKey::from_pem(bio_text(bio.get()), "old form").value();
    CHECK(EVP_PKEY_eq(again.native(), key.native()) == 1);
  }
  const BioPtr bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_PrivateKey_traditional(bio.get(), ec.native(), nullptr, nullptr, 0, nullptr,
                                       nullptr);
  const std::string parameters =
      "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
  CHECK(PrivateKey::from_pem(parameters + bio_text(bio.get()), "openssl ecparam").has_value());
}

TEST_CASE("a key with a passphrase is refused with the way to remove it") {
  const auto key = PrivateKey::generate(config::KeyType::p256).value();
  const BioPtr bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_PKCS8PrivateKey(bio.get(), key.native(), EVP_aes_128_cbc(), "secret", 6, nullptr,
                                nullptr);
  CHECK(has(error_of(bio_text(bio.get())), "passphrase"));
  const BioPtr old(BIO_new(BIO_s_mem()));
  PEM_write_bio_PrivateKey_traditional(old.get(), key.native(), EVP_aes_128_cbc(),
                                       reinterpret_cast<const unsigned char*>("secret"), 6, nullptr,
                                       nullptr);
  CHECK(has(error_of(bio_text(old.get())), "passphrase"));
}

TEST_CASE("what is not a key is refused without showing it") {
  CHECK(has(error_of(""), "no private key in PEM form"));
  CHECK(has(error_of("secret words"), "no private key in PEM form"));
  CHECK_FALSE(has(error_of("secret words"), "secret words"));
  const std::string damaged = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
  CHECK(has(error_of(damaged), "damaged private key"));
  const auto key = PrivateKey::generate(config::KeyType::p256).value();
  const std::string pem = key.to_pem();
  CHECK(has(error_of(pem.substr(0, pem.size() / 2)), "damaged private key"));
  const BioPtr bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_PUBKEY(bio.get(), key.native());
  CHECK(has(error_of(bio_text(bio.get())), "no private key in PEM form"));
}
