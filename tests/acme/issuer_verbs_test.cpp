// Revocation and account keys at a real CA.
#include <catch2/catch.hpp>

#include "acme/account.hpp"
#include "acme/jose.hpp"
#include "tests/acme/certification.hpp"
#include "tests/support/pebble.hpp"

namespace gatehouse::test {

namespace {

constexpr const char* name = "a.example.com";
constexpr const char* email = "admin@example.org";

struct Village {
  Village() {
    authority.name = "pebble";
    authority.directory = pebble.directory();
    authority.trust = pebble.root();
    settings.email = email;
  }

  static PebbleSettings with_port(uint16_t port) {
    PebbleSettings settings;
    settings.http_port = port;
    return settings;
  }

  std::unique_ptr<Life> live() {
    return std::make_unique<Life>(storage, responder, authority, settings);
  }
  std::string account_file(const std::string& file) {
    return storage.files[acme::account_folder("pebble", email) + file];
  }
  int count(const std::string& text) const {
    int found = 0;
    const std::string log = pebble.log();
    for (size_t at = log.find(text); at != std::string::npos; at = log.find(text, at + 1)) ++found;
    return found;
  }

  ChallengeResponder responder;
  Pebble pebble{with_port(responder.port())};
  MemoryStorage storage;
  config::CertificateAuthority authority;
  config::Acme settings;
};

template <class T>
std::string sentence(const acme::Outcome<T>& outcome) {
  return outcome.has_error() ? outcome.error().sentence : std::string();
}

}  // namespace

TEST_CASE("a real CA revokes a certificate for its account, and once is enough") {
  Village village;
  auto life = village.live();
  const auto issued = life->obtain(name, {name});
  REQUIRE(issued.has_value());
  CHECK_FALSE(issued->certificate->renewal_id().empty());
  for (int i = 0; i < 2; ++i) {
    const auto revoked = await(life->control, life->issuer.revoke(issued->certificate, 1));
    INFO(sentence(revoked));
    CHECK(revoked.has_value());
  }
}

TEST_CASE("a real CA revokes a certificate for its key, when another account asks") {
  Village village;
  auto life = village.live();
  const auto issued = life->obtain(name, {name});
  REQUIRE(issued.has_value());
  village.storage.files.clear();
  life = village.live();
  const auto revoked = await(life->control, life->issuer.revoke(issued->certificate, 0));
  INFO(sentence(revoked));
  CHECK(revoked.has_value());
}

TEST_CASE("a real CA takes a new key for the account, and orders go on") {
  Village village;
  auto life = village.live();
  REQUIRE(life->obtain(name, {name}).has_value());
  const std::string old_key = village.account_file("/key.pem");
  const std::string old_url = village.account_file("/account.json");
  const auto changed = await(life->control, life->issuer.roll_over_account_key());
  INFO(sentence(changed));
  REQUIRE(changed.has_value());
  CHECK(village.account_file("/key.pem") != old_key);
  REQUIRE(life->obtain("b.example.com", {"b.example.com"}).has_value());
  life = village.live();  // with what is stored
  REQUIRE(life->obtain("c.example.com", {"c.example.com"}).has_value());
  CHECK(village.count("accounts in memory") == 1);
}

TEST_CASE("a real CA takes RSA and P-384 account keys") {
  Village village;
  const auto kind = GENERATE(config::KeyType::rsa2048, config::KeyType::p384);
  const auto key = tls::PrivateKey::generate(kind).value();
  village.storage.files[acme::account_folder("pebble", email) + "/key.pem"] = key.to_pem();
  auto life = village.live();
  const auto issued = life->obtain(name, {name});
  INFO(sentence(issued));
  REQUIRE(issued.has_value());
  CHECK(village.account_file("/key.pem") == key.to_pem());
}

TEST_CASE("an order placed before the account's key changed is finished after it") {
  Village village;
  auto life = village.live();
  REQUIRE(life->obtain(name, {name}).has_value());  // the journal stays
  const auto changed = await(life->control, life->issuer.roll_over_account_key());
  INFO(sentence(changed));
  REQUIRE(changed.has_value());
  REQUIRE(life->obtain(name, {name}).has_value());
  CHECK(life->issuer.orders_placed() == 1);
}

TEST_CASE("a CA without renewal information says so") {
  Village village;
  auto life = village.live();
  const auto info = await(life->control, life->issuer.renewal_info("a.b"));
  REQUIRE(info.has_error());
  CHECK(info.error().type == "unsupported");
}

}  // namespace gatehouse::test
