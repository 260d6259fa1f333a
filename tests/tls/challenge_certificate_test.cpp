#include "tls/challenge_certificate.hpp"

#include <catch2/catch.hpp>

#include "base/encoding.hpp"
#include "tests/support/result.hpp"
#include "tls/digest.hpp"
#include "tls/openssl.hpp"

namespace gatehouse::tls {

namespace {

// RFC 8555 section 8.1: token "." thumbprint.
constexpr const char* key_authorization =
    "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";

std::string der_of(const Certificate& certificate) {
  unsigned char* der = nullptr;
  const int length = i2d_X509(certificate.leaf(), &der);
  REQUIRE(length > 0);
  std::string bytes(reinterpret_cast<const char*>(der), static_cast<size_t>(length));
  OPENSSL_free(der);
  return base::hex(bytes);
}

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++found;
  return found;
}

}  // namespace

TEST_CASE("a challenge certificate is what RFC 8737 asks for, byte for byte") {
  const auto made = make_challenge_certificate("example.com", key_authorization);
  REQUIRE(made);
  const auto& certificate = **made;
  const std::string der = der_of(certificate);
  // SEQUENCE { OID 1.3.6.1.5.5.7.1.31, critical TRUE, OCTET STRING { OCTET STRING of 32 bytes } }
  const std::string digest = base::hex(sha256(key_authorization));
  CHECK(count(der,
              "3031"
              "06082b0601050507011f"
              "0101ff"
              "0422"
              "0420" +
                  digest) == 1);
  CHECK(count(der, "06082b0601050507011f") == 1);
  // SEQUENCE { OID 2.5.29.17, OCTET STRING { SEQUENCE { dNSName } } }: one name and no other
  CHECK(count(der,
              "0603551d11"
              "040f"
              "300d"
              "820b" +
                  base::hex("example.com")) == 1);
  CHECK(count(der, "0603551d11") == 1);
  CHECK(certificate.names() == std::vector<std::string>{"example.com"});
  // The name stands nowhere else, or it would be a name too many.
  CHECK(count(der, base::hex("example.com")) == 1);
  CHECK(certificate.self_signed());
  CHECK(X509_verify(certificate.leaf(), X509_get0_pubkey(certificate.leaf())) == 1);
  CHECK(EVP_PKEY_is_a(certificate.key(), "EC"));
  CHECK(EVP_PKEY_get_bits(certificate.key()) == 256);
  CHECK(certificate.not_before() < base::WallClock::now() - std::chrono::hours(24));
  CHECK(certificate.not_after() > base::WallClock::now() + std::chrono::hours(24));
}

TEST_CASE("an address is proven by an iPAddress, of either family") {
  const auto v4 = make_challenge_certificate("192.0.2.1", key_authorization);
  REQUIRE(v4);
  CHECK(count(der_of(**v4),
              "0603551d11"
              "0408"
              "3006"
              "8704"
              "c0000201") == 1);
  CHECK((*v4)->names() == std::vector<std::string>{"192.0.2.1"});
  const auto v6 = make_challenge_certificate("2001:db8::1", key_authorization);
  REQUIRE(v6);
  CHECK(count(der_of(**v6),
              "0603551d11"
              "0414"
              "3012"
              "8710"
              "20010db8000000000000000000000001") == 1);
  CHECK((*v6)->names() == std::vector<std::string>{"2001:db8::1"});
}

TEST_CASE("each challenge certificate is its own, with the digest of its own authorization") {
  const auto one = make_challenge_certificate("example.com", "a.b");
  const auto other = make_challenge_certificate("example.com", "a.c");
  REQUIRE(one);
  REQUIRE(other);
  CHECK((*one)->serial() != (*other)->serial());
  CHECK((*one)->key_pem() != (*other)->key_pem());
  CHECK(count(der_of(**one), base::hex(sha256("a.b"))) == 1);
  CHECK(count(der_of(**other), base::hex(sha256("a.b"))) == 0);
}

TEST_CASE("a name as long as any is proven like a short one, and what is no name is refused") {
  std::string name;
  while (name.size() < 240) name += "abcdefghi.";
  name += "example.com";
  REQUIRE(make_challenge_certificate(name, key_authorization));
  for (const char* bad : {"", "a b", "*", "exa mple.com", "UPPER.example", "a..b", "\n"}) {
    CHECK_FALSE(make_challenge_certificate(bad, key_authorization));
  }
}

}  // namespace gatehouse::tls
