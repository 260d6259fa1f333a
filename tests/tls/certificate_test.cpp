#include "tls/certificate.hpp"

#include <catch2/catch.hpp>
#include <openssl/pem.h>

#include "base/encoding.hpp"
#include "tls/certificate_builder.hpp"
#include "tls/digest.hpp"
#include "tls/internal_authority.hpp"
#include "tls/openssl.hpp"

using namespace gatehouse;
using namespace gatehouse::tls;
using namespace std::chrono_literals;
using base::WallClock;

namespace {

constexpr std::chrono::seconds no_skew{0};

CertificatePtr self_signed(const std::vector<std::string>& names) {
  return make_self_signed(names, std::chrono::hours(24)).value();
}

CertificatePtr root() {
  static const CertificatePtr made = InternalAuthority::create("Test Root").value();
  return made;
}

CertificatePtr leaf(const std::vector<std::string>& names = {"a.example"}) {
  return InternalAuthority::issue(*root(), names, 24h).value();
}

std::string error_of(const std::string& chain, const std::string& key) {
  const auto made = Certificate::from_pem(chain, key, "SOURCE");
  REQUIRE_FALSE(made.has_value());
  CHECK(made.error().context.starts_with("SOURCE: "));
  CHECK(made.error().context.find('\n') == std::string::npos);
  return made.error().context;
}

bool has(const std::string& text, std::string_view part) {
  INFO(text);
  return text.find(part) != std::string::npos;
}

/// A self-signed certificate with an extension that Gatehouse itself never writes.
CertificatePtr peculiar(const ExtensionPtr& extension, uint64_t serial = 77) {
  const auto key = PrivateKey::generate(config::KeyType::p256).value();
  const X509Ptr made(X509_new());
  X509_set_version(made.get(), X509_VERSION_3);
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(made.get()), serial);
  X509_gmtime_adj(X509_getm_notBefore(made.get()), -60);
  X509_gmtime_adj(X509_getm_notAfter(made.get()), 3600);
  X509_set_pubkey(made.get(), key.native());
  REQUIRE(extension);
  X509_add_ext(made.get(), extension.get(), -1);
  REQUIRE(X509_sign(made.get(), key.native(), EVP_sha256()) > 0);
  const BioPtr bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(bio.get(), made.get());
  return Certificate::from_pem(bio_text(bio.get()), key.to_pem(), "peculiar").value();
}

CertificatePtr peculiar(int nid, const char* value) {
  return peculiar(ExtensionPtr(X509V3_EXT_nconf_nid(nullptr, nullptr, nid, value)));
}

void add_dns_name(GENERAL_NAMES* names, std::string_view text) {
  ASN1_IA5STRING* value = ASN1_IA5STRING_new();
  ASN1_STRING_set(value, text.data(), static_cast<int>(text.size()));
  GENERAL_NAME* name = GENERAL_NAME_new();
  GENERAL_NAME_set0_value(name, GEN_DNS, value);
  sk_GENERAL_NAME_push(names, name);
}

}  // namespace

TEST_CASE("the renewal id is that of RFC 9773 section 4.1") {
  const auto key_identifier = [](std::string_view bytes) {
    AUTHORITY_KEYID* id = AUTHORITY_KEYID_new();
    id->keyid = ASN1_OCTET_STRING_new();
    ASN1_OCTET_STRING_set(id->keyid, reinterpret_cast<const unsigned char*>(bytes.data()),
                          static_cast<int>(bytes.size()));
    ExtensionPtr extension(X509V3_EXT_i2d(NID_authority_key_identifier, 0, id));
    AUTHORITY_KEYID_free(id);
    return extension;
  };
  constexpr std::string_view bytes(
      "\x69\x88\x5B\x6B\x87\x46\x40\x41\xE1\xB3\x7B\x84\x7B\xA0\xAE\x2C\xDE\x01\xC8\xD4");
  // The serial's first bit is set: its DER has a zero before it.
  CHECK(peculiar(key_identifier(bytes), 0x87654321)->renewal_id() ==
        "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
  CHECK(peculiar(key_identifier(bytes), 0x07654321)->renewal_id() ==
        "aYhba4dGQEHhs3uEe6CuLN4ByNQ.B2VDIQ");
  CHECK(peculiar(key_identifier(bytes), 0)->renewal_id() == "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AA");
  CHECK(peculiar(key_identifier(""), 7)->renewal_id().empty());
  CHECK(self_signed({"a.example"})->renewal_id().empty());
}

TEST_CASE("the DER of a leaf is what its fingerprint is made of") {
  const auto made = leaf();
  CHECK(base::hex(sha256(made->leaf_der())) == made->fingerprint());
}

TEST_CASE("a certificate survives the way to PEM and back") {
  const auto made = self_signed({"example.com", "*.example.com", "192.0.2.7", "2001:db8::1"});
  const auto again = Certificate::from_pem(made->chain_pem(), made->key_pem(), "again").value();
  CHECK(again->fingerprint() == made->fingerprint());
  CHECK(again->serial() == made->serial());
  CHECK(again->names() ==
        std::vector<std::string>{"example.com", "*.example.com", "192.0.2.7", "2001:db8::1"});
  CHECK(again->issuer() == "example.com");
  CHECK(again->self_signed());
  CHECK(again->fingerprint().size() == 64);
  CHECK(made->key_pem().starts_with("-----BEGIN PRIVATE KEY-----"));
}

TEST_CASE("dates are read as UTC") {
  const auto made = self_signed({"example.com"});
  const auto now = WallClock::now();
  CHECK(made->not_before() <= now);
  CHECK(made->not_before() > now - 2h);
  CHECK(made->not_after() > now + 23h + 59min);
  CHECK(made->not_after() <= now + 24h);
}

TEST_CASE("a certificate and its key may come from one text, in any order") {
  const auto made = leaf();
  const std::string both = made->key_pem() + made->chain_pem();
  CHECK(Certificate::from_pem(both, both, "both").value()->fingerprint() == made->fingerprint());
  const std::string reversed = made->chain_pem() + made->key_pem();
  CHECK(Certificate::from_pem(reversed, reversed, "both").has_value());
}

TEST_CASE("text around the blocks and Windows line ends do no harm") {
  const auto made = leaf();
  std::string text = "Subject: somebody\n" + made->chain_pem() + "\ntrailing words\n";
  std::string windows;
  for (const char c : text) windows += c == '\n' ? std::string("\r\n") : std::string(1, c);
  CHECK(Certificate::from_pem(text, made->key_pem(), "text").has_value());
  CHECK(Certificate::from_pem(windows, made->key_pem(), "text").has_value());
}

TEST_CASE("what is not a certificate is refused in one line that names it") {
  const auto made = leaf();
  const std::string key = made->key_pem();
  CHECK(has(error_of("", key), "no certificate in PEM"));
  CHECK(has(error_of("not PEM", key), "no certificate in PEM"));
  CHECK(has(error_of(key, key), "no certificate in PEM"));
  CHECK(has(error_of("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", key),
            "damaged certificate"));
  const std::string pem = made->chain_pem();
  CHECK(has(error_of(pem.substr(0, pem.size() / 2), key), "damaged PEM"));
  std::string dirty = pem;
  dirty[pem.size() / 2] = '!';
  CHECK(has(error_of(dirty, key), "damaged PEM"));
  CHECK(has(error_of(std::string(100, '\0'), key), "no certificate in PEM"));
}

TEST_CASE("no prefix of a certificate is accepted or crashes") {
  const auto made = leaf();
  const std::string pem = made->chain_pem();
  for (size_t length = 0; length + 1 < pem.size(); length += 3) {
    const auto result = Certificate::from_pem(pem.substr(0, length), made->key_pem(), "prefix");
    // The last dash of the end line may be missing.
    if (length < pem.size() - 8) REQUIRE_FALSE(result.has_value());
  }
}

TEST_CASE("a flipped character never crashes and never changes the names") {
  const auto made = leaf();
  const std::string pem = made->chain_pem();
  for (size_t at = 28; at < pem.size() - 26; at += 5) {
    std::string damaged = pem;
    damaged[at] = damaged[at] == 'A' ? 'B' : 'A';
    const auto result = Certificate::from_pem(damaged, made->key_pem(), "damaged");
    if (!result) CHECK_FALSE(result.error().context.empty());
  }
}

TEST_CASE("a key that is not the certificate's is refused") {
  CHECK(has(error_of(leaf()->chain_pem(), leaf()->key_pem()), "does not belong"));
  const auto rsa = PrivateKey::generate(config::KeyType::rsa2048).value();
  CHECK(has(error_of(leaf()->chain_pem(), rsa.to_pem()), "does not belong"));
}

TEST_CASE("a chain that does not begin with the key's certificate says so") {
  const auto made = leaf();
  CHECK(has(error_of(root()->chain_pem() + made->chain_pem(), made->key_pem()), "not the first"));
}

TEST_CASE("a chain longer than any real one is refused") {
  std::string chain;
  for (int i = 0; i < 12; ++i) chain += root()->chain_pem();
  CHECK(has(error_of(chain, root()->key_pem()), "more than 11 certificates"));
}

TEST_CASE("keys and signatures too weak for a handshake are refused at load") {
  const KeyPtr weak(EVP_RSA_gen(1024));
  const X509Ptr made(X509_new());
  X509_set_version(made.get(), X509_VERSION_3);
  X509_gmtime_adj(X509_getm_notBefore(made.get()), 0);
  X509_gmtime_adj(X509_getm_notAfter(made.get()), 3600);
  X509_set_pubkey(made.get(), weak.get());
  REQUIRE(X509_sign(made.get(), weak.get(), EVP_sha256()) > 0);
  const BioPtr certificate(BIO_new(BIO_s_mem()));
  const BioPtr key(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(certificate.get(), made.get());
  PEM_write_bio_PrivateKey(key.get(), weak.get(), nullptr, nullptr, 0, nullptr, nullptr);
  CHECK(has(error_of(bio_text(certificate.get()), bio_text(key.get())), "1024 bits is too weak"));

  const auto strong = PrivateKey::generate(config::KeyType::p256).value();
  const X509Ptr old(X509_dup(leaf()->leaf()));
  X509_set_pubkey(old.get(), strong.native());
  REQUIRE(X509_sign(old.get(), root()->key(), EVP_sha1()) > 0);
  const BioPtr sha1(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(sha1.get(), old.get());
  CHECK(has(error_of(bio_text(sha1.get()), strong.to_pem()), "SHA1"));
}

TEST_CASE("a name is covered exactly, or by a wildcard as the whole first label") {
  const auto made = self_signed({"example.com", "*.example.com", "192.0.2.7"});
  CHECK(made->covers("example.com"));
  CHECK(made->covers("www.example.com"));
  CHECK(made->covers("*.example.com"));
  CHECK(made->covers("192.0.2.7"));
  CHECK_FALSE(made->covers("a.b.example.com"));
  CHECK_FALSE(made->covers(".example.com"));
  CHECK_FALSE(made->covers("xexample.com"));
  CHECK_FALSE(made->covers("example.org"));
  CHECK_FALSE(made->covers("*.com"));
  CHECK_FALSE(made->covers("com"));
  CHECK_FALSE(made->covers("192.0.2.8"));
  CHECK_FALSE(made->covers(""));
  CHECK_FALSE(made->covers("."));
}

TEST_CASE("names in capitals are kept in lower case, and what is no name is dropped") {
  const auto capitals = peculiar(NID_subject_alt_name, "DNS:WWW.Example.COM,email:a@b.example");
  CHECK(capitals->names() == std::vector<std::string>{"www.example.com"});
  CHECK(capitals->issuer().empty());
  CHECK(capitals->serial() == "4d");

  const GeneralNamesPtr names(GENERAL_NAMES_new());
  for (const std::string_view name :
       {std::string_view("good.example\0.evil.example", 26), std::string_view("spa ce.example"),
        std::string_view(""), std::string_view("b\xc3\xbc.example"),
        std::string_view("left.example")}) {
    add_dns_name(names.get(), name);
  }
  const auto odd = peculiar(ExtensionPtr(X509V3_EXT_i2d(NID_subject_alt_name, 0, names.get())));
  CHECK(odd->names() == std::vector<std::string>{"left.example"});
  CHECK_FALSE(odd->covers("good.example"));
}

TEST_CASE("a certificate for the wanted names, now, from a known chain has no problem") {
  const auto made = leaf({"a.example", "*.a.example"});
  const auto whole =
      Certificate::from_pem(made->chain_pem() + root()->chain_pem(), made->key_pem(), "w").value();
  CHECK(made->problem_for({"a.example"}, WallClock::now(), no_skew).empty());
  CHECK(whole->problem_for({"a.example", "x.a.example"}, WallClock::now(), no_skew).empty());
  CHECK(whole->problem_for({"*.a.example"}, WallClock::now(), no_skew).empty());
  CHECK(self_signed({"b.example"})->problem_for({}, WallClock::now(), no_skew).empty());
}

TEST_CASE("a certificate is refused outside its dates, the skew aside") {
  const auto made = self_signed({"a.example"});
  const auto early = made->not_before() - 10min;
  const auto late = made->not_after() + 10min;
  CHECK(has(made->problem_for({}, early, no_skew), "not valid before 20"));
  CHECK(has(made->problem_for({}, late, no_skew), "expired on 20"));
  CHECK(made->problem_for({}, early, 11min).empty());
  CHECK(made->problem_for({}, late, 11min).empty());
}

TEST_CASE("a certificate is refused for a name that it lacks") {
  CHECK(has(leaf()->problem_for({"a.example", "b.example"}, WallClock::now(), no_skew),
            "does not cover b.example"));
}

TEST_CASE("a certificate for clients, or for signing certificates only, is refused") {
  CHECK(has(peculiar(NID_ext_key_usage, "clientAuth")->problem_for({}, WallClock::now(), no_skew),
            "serverAuth"));
  CHECK(peculiar(NID_ext_key_usage, "serverAuth,clientAuth")
            ->problem_for({}, WallClock::now(), no_skew)
            .empty());
  CHECK(peculiar(NID_ext_key_usage, "anyExtendedKeyUsage")
            ->problem_for({}, WallClock::now(), no_skew)
            .empty());
  CHECK(has(peculiar(NID_key_usage, "keyCertSign")->problem_for({}, WallClock::now(), no_skew),
            "digitalSignature"));
}

TEST_CASE("a chain that does not link is refused") {
  const auto made = leaf();
  const auto stranger = InternalAuthority::create("Another Root").value();
  const auto namesake = InternalAuthority::create("Test Root").value();
  for (const auto& above : {stranger, namesake, leaf()}) {
    const auto broken =
        Certificate::from_pem(made->chain_pem() + above->chain_pem(), made->key_pem(), "b").value();
    CHECK(has(broken->problem_for({}, WallClock::now(), no_skew), "certificate 2 of its chain"));
  }
}

TEST_CASE("leaves of one issuer share its certificates in memory") {
  const auto with_root = [](const CertificatePtr& made) {
    return Certificate::from_pem(made->chain_pem() + root()->chain_pem(), made->key_pem(), "s")
        .value();
  };
  const auto first = with_root(leaf());
  const auto second = with_root(leaf());
  CHECK(first->chain() == second->chain());
  CHECK(sk_X509_num(first->chain()) == 1);
  CHECK(leaf()->chain() != first->chain());
  CHECK(sk_X509_num(leaf()->chain()) == 0);
}
