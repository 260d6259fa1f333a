#include "acme/jose.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <catch2/catch.hpp>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>

#include "base/encoding.hpp"
#include "tls/digest.hpp"

namespace gatehouse::acme {

namespace {

using base::base64url;
using base::base64url_decode;
using tls::hmac_sha256;
using tls::PrivateKey;
using tls::sha256;

// The keys of RFC 7515 appendices A.2 and A.3, as PEM. They are published: secrets of nobody.
constexpr const char* rfc7515_rsa = R"(-----BEGIN RSA PRIVATE KEY-----
MIIEowIBAAKCAQEAofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd/wWJcyQoTbji9k0
l8W26mPddxHmfHQp+Vaw+4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL+yRT+SFd2lZS+pC
gNMsD1W/YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb/7OMg0LOL+bSf63kpaSHSX
ndS5z5rexMdbBYUsLA9e+KXBdQOS+UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uD
Zlxvb3qCo5ZwKh9kG4LT6/I5IhlJH7aGhyxXFvUK+DWNmoudF8NAco9/h9iaGNj8
q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQIDAQABAoIBABKucaRpzQorw35S
bEUAVx8dYXUdZOlJcHtiWQ+dC6V8ljxAHj/PLyzTveyI5QO/xkObCyjIL303l2cf
UhPu2MFaJdjVzqACXuOrLot/eSFvxjvqVidTtAZExqFRJ9mylUVAoLvhowVWmC1O
n95fZCXxTUtxNEG1Xcc7m0rtzJKs45J+N/V9DP1edYH6USyPSWGp6wuA+KgHRnKK
Vf9GRx80JQY7nVNkL17eHoTWEwga+lwi0FEoW9Y7lDtWXYmKBWhUE+U8PGxlJf8f
40493HDw1WRQ/aSLoS4QTp3rn7gYgeHEvfJdkkf0UMhlknlo53M09EFPdadQ4TlU
bjqKc50CgYEA4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH/5IB3jw3bcxGn6QLvnE
tfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw/Py5PJdTJNPY8cQn7ouZ2KKDcmnPG
BY5t7yLc1QlQ5xHdwW1VhvKn+nXqhJTBgIPgtldC+KDV5z+y2XDwGUcCgYEAuQPE
fgmVtjL0Uyyx88GZFF1fOunH3+7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYs
p1ZSe7zFYHj7C6ul7TjeLQeZD/YwD66t62wDmpe/HlB+TnBA+njbglfIsRLtXlnD
zQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdcCgYAHAp9XcCSrn8wVkMVkKdb7
DOX4IKjzdahm+ctDAJN4O/y7OW5FKebvUjdAIt2GuoTZ71iTG+7F0F+lP88jtjP4
U4qe7VHoewl4MKOfXZKTe+YCS1XbNvfgwJ3Ltyl1OH9hWvu2yza7q+d5PCsDzqtm
27kxuvULVeya+TEdAB1ijQKBgQCH/3r6YrVH/uCWGy6bzV1nGNOdjKc9tmkfOJmN
54dxdixdpozCQ6U4OxZrsj3FcOhHBsqAHvX2uuYjagqvo3cOj1TRqNocX40omfCC
Mx3bD1yPPf/6TI2XECva/ggqEY2mYzmIiA5LVVmc5nrybr+lssFKneeyxN2Wq93S
0iJMdQKBgCGHewxzoa1r8ZMD0LETNrToK423K377UCYqXfg5XMclbrjPbEC3YI1Z
NqMtuhdBJqUnBi6tjKMF+34Xf0CUN8ncuXGO2CAYvO8PdyCixHX52ybaDjy1FtCE
6yUXjoKNXKvUm7MWGsAYH6f4IegOetN5NvmUMFStCSkh7ixZLkN1
-----END RSA PRIVATE KEY-----
)";
constexpr const char* rfc7515_p256 = R"(-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgjpsQnnGQmL+YBIff
H1136cspYG6+0iY7X1fCE9+E9LKhRANCAAR/zc4ncPbEXUGDy+5v20t7WAczNXvp
7xO6z248e9FURcfxRM0bvZt+hyzf7bnuufSzaV1uqQskrYpGIyiFiOWt
-----END PRIVATE KEY-----
)";
// Scalar 379: its x begins with a zero byte.
constexpr const char* p256_short_x = R"(-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAAAAAAAAAAAAAAAA
AAAAAAAAAAAAAAAAAAAAAAAAAXuhRANCAAQAVUOJSvPQDtfXQKvb11yWsGh3t4fb
X3Dup4uQqNfACrtMhaPY6invqvokQGkS3YTVsU3DK/ZW72xr1YpdlD+S
-----END PRIVATE KEY-----
)";
// Scalar 5.
constexpr const char* p384 = R"(-----BEGIN PRIVATE KEY-----
MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDAAAAAAAAAAAAAAAAAA
AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAWhZANiAAQR3iSiwlHH
d1c8rF6gJeRn8gjlHb/5j8VPZmHL5WWDsDeIL0ocopfmCrzbw4NthLyPppbHdED5
LQ9YN+kKAOfFKEtEd1TV3uiMmGUztpAa6zF3aG0K6PszGEQUq+bBcTo=
-----END PRIVATE KEY-----
)";

// Scalar 5 on a curve that ACME accounts do not use here.
constexpr const char* p521 = R"(-----BEGIN PRIVATE KEY-----
MIHuAgEAMBAGByqGSM49AgEGBSuBBAAjBIHWMIHTAgEBBEIAAAAAAAAAAAAAAAAA
AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
AAAAAAWhgYkDgYYABABlK/PFKSekMsc9vDORwE6wv3pZbv21Pw0kzwPauPF3rOQ4
PAxtXjAUI3ES/q8TfnmjKdfh5tiTFzjVq1CW7I8weAFb5u8b3WYB1uyKK3MRSoES
kRzY/o6HLgBR7dgXyaA0cIe7aJfJByzzdDEVQCEc9f950fAHJXNU9/gXPMPo3rCQ
yw==
-----END PRIVATE KEY-----
)";

// The payload of RFC 7515 appendix A: {"iss":"joe", …}.
constexpr const char* rfc7515_payload =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVl"
    "fQ";

PrivateKey key_from(const char* pem) {
  auto key = PrivateKey::from_pem(pem, "a test key");
  REQUIRE(key.has_value());
  return *key;
}

/// Whether r‖s is a signature over `bytes`, by OpenSSL's own verification.
bool verifies(const PrivateKey& key, std::string_view bytes, const std::string& signature,
              int width = 32, const EVP_MD* digest = EVP_sha256()) {
  if (signature.size() != 2 * static_cast<size_t>(width)) return false;
  const auto* raw = reinterpret_cast<const unsigned char*>(signature.data());
  ECDSA_SIG* pair = ECDSA_SIG_new();
  ECDSA_SIG_set0(pair, BN_bin2bn(raw, width, nullptr), BN_bin2bn(raw + width, width, nullptr));
  unsigned char* der = nullptr;
  const int length = i2d_ECDSA_SIG(pair, &der);
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  const bool good =
      EVP_DigestVerifyInit(context, nullptr, digest, nullptr, key.native()) == 1 &&
      EVP_DigestVerify(context, der, static_cast<size_t>(length),
                       reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()) == 1;
  EVP_MD_CTX_free(context);
  OPENSSL_free(der);
  ECDSA_SIG_free(pair);
  return good;
}

struct Parts {
  boost::json::value header;
  std::string signed_bytes, payload, signature;
};

Parts take_apart(const std::string& jws) {
  const auto value = boost::json::parse(jws);
  const auto text = [&](const char* key) { return std::string(value.at(key).as_string()); };
  Parts parts;
  parts.header = boost::json::parse(base64url_decode(text("protected")).value());
  parts.signed_bytes = text("protected") + "." + text("payload");
  parts.payload = base64url_decode(text("payload")).value();
  parts.signature = base64url_decode(text("signature")).value();
  return parts;
}

}  // namespace

TEST_CASE("HS256 gives the signature of RFC 7515 appendix A.1") {
  const auto key = base64url_decode(
      "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow");
  const std::string input =
      std::string("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.") + rfc7515_payload;
  CHECK(base64url(hmac_sha256(*key, input)) == "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
}

TEST_CASE("RS256 gives the signature of RFC 7515 appendix A.2") {
  const std::string input = std::string("eyJhbGciOiJSUzI1NiJ9.") + rfc7515_payload;
  const auto signed_bytes = signature(key_from(rfc7515_rsa), input);
  REQUIRE(signed_bytes.has_value());
  CHECK(base64url(*signed_bytes) ==
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2F"
        "p5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQB"
        "MHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeY"
        "I2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw");
}

TEST_CASE("the JWK of RFC 7515 appendix A.3 has its published coordinates") {
  CHECK(*public_jwk(key_from(rfc7515_p256)) ==
        R"({"crv":"P-256","kty":"EC","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",)"
        R"("y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})");
}

TEST_CASE("thumbprints are those of an independent implementation of RFC 7638") {
  CHECK(*thumbprint(key_from(rfc7515_p256)) == "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
  CHECK(*thumbprint(key_from(rfc7515_rsa)) == "IsUn6_e04MaShXFIISMp4kG62LWzMIPy_MvSA5pJgX8");
}

TEST_CASE("RFC 7638's own example follows from its JSON") {
  const std::string jwk =
      R"({"e":"AQAB","kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbf)"
      "AAtVT"
      "86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN"
      "5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbI"
      "SD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJz"
      R"(KnqDKgw"})";
  CHECK(base64url(sha256(jwk)) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
}

TEST_CASE("a coordinate that begins with zero keeps its zero") {
  CHECK(*public_jwk(key_from(p256_short_x)) ==
        R"({"crv":"P-256","kty":"EC","x":"AFVDiUrz0A7X10Cr29dclrBod7eH219w7qeLkKjXwAo",)"
        R"("y":"u0yFo9jqKe-q-iRAaRLdhNWxTcMr9lbvbGvVil2UP5I"})");
}

TEST_CASE("ES256 signatures are 64 bytes and verify, also where r or s is short") {
  const auto key = key_from(rfc7515_p256);
  for (int i = 0; i < 600; ++i) {  // one in 128 has a leading zero
    const std::string bytes = "message " + std::to_string(i);
    const auto signed_bytes = signature(key, bytes);
    REQUIRE(signed_bytes.has_value());
    REQUIRE(verifies(key, bytes, *signed_bytes));
    if (i == 0) CHECK_FALSE(verifies(key, bytes + "x", *signed_bytes));
  }
}

TEST_CASE("P-384 keys have their own names, widths and digest") {
  const auto key = key_from(p384);
  CHECK(*public_jwk(key) ==
        R"({"crv":"P-384","kty":"EC",)"
        R"("x":"Ed4kosJRx3dXPKxeoCXkZ_II5R2_-Y_FT2Zhy-Vlg7A3iC9KHKKX5gq828ODbYS8",)"
        R"("y":"j6aWx3RA-S0PWDfpCgDnxShLRHdU1d7ojJhlM7aQGusxd2htCuj7MxhEFKvmwXE6"})");
  CHECK(*thumbprint(key) == "mZSUWNx81rPhyTz-y0FPyG_zLal-Q7BZbFYxyVmkXzc");
  for (int i = 0; i < 300; ++i) {
    const std::string bytes = "message " + std::to_string(i);
    const auto signed_bytes = signature(key, bytes);
    REQUIRE(signed_bytes.has_value());
    REQUIRE(verifies(key, bytes, *signed_bytes, 48, EVP_sha384()));
  }
  const auto jws = sign(key, JwsHeader(), "x");
  REQUIRE(jws.has_value());
  const auto parts = take_apart(*jws);
  CHECK(parts.header.at("alg") == "ES384");
  CHECK(verifies(key, parts.signed_bytes, parts.signature, 48, EVP_sha384()));
}

TEST_CASE("a message names its account, or shows the key, never both") {
  const auto key = key_from(rfc7515_p256);
  JwsHeader header;
  header.url = "https://ca.example/new-order";
  header.nonce = "oFvnlFP1wIhRlYS2jTaXbA";
  SECTION("by account") {
    header.account = "https://ca.example/acct/1";
    const auto parts = take_apart(*sign(key, header, R"({"identifiers":[]})"));
    CHECK(parts.header.at("alg") == "ES256");
    CHECK(parts.header.at("kid") == "https://ca.example/acct/1");
    CHECK(parts.header.at("nonce").as_string() == header.nonce);
    CHECK(parts.header.at("url").as_string() == header.url);
    CHECK_FALSE(parts.header.as_object().contains("jwk"));
    CHECK(parts.payload == R"({"identifiers":[]})");
    CHECK(verifies(key, parts.signed_bytes, parts.signature));
  }
  SECTION("by key") {
    const auto parts = take_apart(*sign(key, header, ""));
    CHECK(parts.header.at("jwk").at("kty") == "EC");
    CHECK_FALSE(parts.header.as_object().contains("kid"));
    CHECK_FALSE(parts.header.at("jwk").as_object().contains("d"));
    CHECK(parts.payload.empty());
  }
  SECTION("with RSA") {
    const auto parts = take_apart(*sign(key_from(rfc7515_rsa), header, "{}"));
    CHECK(parts.header.at("alg") == "RS256");
    CHECK(parts.signature.size() == 256);
  }
}

TEST_CASE("what a CA sends cannot break out of the header") {
  JwsHeader header;
  header.url = "https://ca.example/\"},\"alg\":\"none\"\\";
  header.nonce = "a\nb";
  header.account = "\"";
  const auto parts = take_apart(*sign(key_from(rfc7515_p256), header, "{}"));
  CHECK(parts.header.at("alg") == "ES256");
  CHECK(parts.header.at("url").as_string() == header.url);
  CHECK(parts.header.at("nonce").as_string() == header.nonce);
}

TEST_CASE("an external account binding signs the account's key with the CA's secret") {
  const auto key = key_from(rfc7515_p256);
  const auto jws = external_account_binding(key, "kid-1", "c2VjcmV0LXNlY3JldA", "https://ca/new");
  REQUIRE(jws.has_value());
  const auto parts = take_apart(*jws);
  CHECK(parts.header.at("alg") == "HS256");
  CHECK(parts.header.at("kid") == "kid-1");
  CHECK(parts.header.at("url") == "https://ca/new");
  CHECK_FALSE(parts.header.as_object().contains("nonce"));
  CHECK(parts.payload == *public_jwk(key));
  CHECK(parts.signature == hmac_sha256("secret-secret", parts.signed_bytes));
  CHECK(*jws ==
        *external_account_binding(key, "kid-1", "c2VjcmV0LXNlY3JldA==\n", "https://ca/new"));
}

TEST_CASE("a binding key that is not base64url is named, not used") {
  const auto jws = external_account_binding(key_from(rfc7515_p256), "kid",
                                            GENERATE("", "==", "a b"), "https://ca/new");
  REQUIRE(jws.has_error());
  CHECK(jws.error().context.find("hmac_key_file") != std::string::npos);
}

TEST_CASE("keys that ACME accounts do not use are refused everywhere") {
  const auto key = key_from(p521);
  CHECK(public_jwk(key).has_error());
  CHECK(thumbprint(key).has_error());
  CHECK(signature(key, "x").has_error());
  CHECK(sign(key, JwsHeader(), "x").has_error());
  CHECK(external_account_binding(key, "kid", "c2VjcmV0", "url").has_error());
}

TEST_CASE("a key authorization is the token, a dot and the thumbprint") {
  CHECK(key_authorization("evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA",
                          "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI") ==
        "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI");
}

}  // namespace gatehouse::acme
