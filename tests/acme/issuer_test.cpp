#include "acme/issuer.hpp"

#include <chrono>
#include <set>

#include <boost/asio/detached.hpp>
#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "tests/acme/certification.hpp"
#include "tests/support/pebble.hpp"

namespace gatehouse::test {

namespace {

using acme::FailureClass;
using acme::Issuer;
using Names = std::vector<std::string>;

struct Town {
  explicit Town(PebbleSettings settings = {}) : pebble(with_port(settings)) {
    authority.name = "pebble";
    authority.directory = pebble.directory();
    authority.trust = pebble.root();
    acme.email = "admin@example.org";
  }

  PebbleSettings with_port(PebbleSettings settings) {
    settings.http_port = responder.port();
    return settings;
  }

  std::unique_ptr<Life> live() {
    return std::make_unique<Life>(control, storage, responder, authority, acme);
  }

  /// Orders that the CA has made.
  int orders() const { return count("Added order"); }
  int accounts() const { return count("There are now", "accounts in memory"); }

  int count(const std::string& text, const std::string& end = "") const {
    int found = 0;
    const std::string log = pebble.log();
    for (size_t at = log.find(text); at != std::string::npos; at = log.find(text, at + 1)) {
      const std::string line = log.substr(at, log.find('\n', at) - at);
      if (line.find(end) != std::string::npos) ++found;
    }
    return found;
  }

  boost::asio::io_context control;
  ChallengeResponder responder{control};
  Pebble pebble;
  MemoryStorage storage;
  config::CertificateAuthority authority;
  config::Acme acme;
};

}  // namespace

TEST_CASE("a certificate is obtained from a real CA, verified, and its journal kept until told") {
  Town town;
  auto life = town.live();
  const auto begun = std::chrono::steady_clock::now();
  const auto outcome = life->obtain("a.example.com", {"a.example.com"});
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - begun);
  INFO((outcome.has_value() ? "" : outcome.error().sentence) << "\n" << town.pebble.log());
  REQUIRE(outcome.has_value());
  WARN("first certificate, account included: " << took.count() << " ms");
  CHECK((*outcome)->names() == Names{"a.example.com"});
  CHECK((*outcome)->issuer().find("Pebble") != std::string::npos);
  CHECK(town.responder.answered > 0);
  CHECK(town.storage.files.contains("orders/a.example.com/order.json"));
  CHECK(town.storage.files.contains("orders/a.example.com/key.pem"));
  CHECK(town.storage.files.contains("issuers/pebble/directory.json"));
  CHECK(life->issuer.orders_placed() == 1);

  await(town.control, life->issuer.forget("a.example.com"));
  CHECK_FALSE(town.storage.files.contains("orders/a.example.com/order.json"));
  WARN(town.pebble.log());
}

}  // namespace gatehouse::test
