#include "acme/issuer.hpp"

#include <chrono>
#include <set>

#include <boost/asio/detached.hpp>
#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "tests/acme/certification.hpp"
#include "tests/support/pebble.hpp"
#include "tls/chain_issuers.hpp"

namespace gatehouse::test {

namespace {

using namespace std::chrono_literals;
using acme::FailureClass;
using acme::Outcome;
using Catch::Contains;
using Names = std::vector<std::string>;
using Obtained = Outcome<acme::Issued>;

constexpr const char* name = "a.example.com";
constexpr const char* order_file = "orders/a.example.com/order.json";
constexpr const char* key_file = "orders/a.example.com/key.pem";

// Sanitizers slow the program down, not the CA.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int slowness = 6;
#else
constexpr int slowness = 1;
#endif

/// A CA, a disk and a responder; programs come and go.
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
    return std::make_unique<Life>(storage, responder, authority, acme);
  }

  /// Orders that the CA has made.
  int orders() const { return count("Added order"); }
  int accounts() const { return count("accounts in memory"); }

  int count(const std::string& text) const {
    int found = 0;
    const std::string log = pebble.log();
    for (size_t at = log.find(text); at != std::string::npos; at = log.find(text, at + 1)) ++found;
    return found;
  }

  std::string account_folder() const {
    for (const auto& [path, bytes] : storage.files) {
      const size_t at = path.find("/key.pem");
      if (path.starts_with("issuers/") && at != std::string::npos) return path.substr(0, at);
    }
    return {};
  }

  ChallengeResponder responder;
  Pebble pebble;
  MemoryStorage storage;
  config::CertificateAuthority authority;
  config::Acme acme;
};

std::string sentence(const Obtained& outcome) {
  return outcome.has_error() ? outcome.error().sentence : std::string();
}

/// Starts obtain() and lets the program live for some handlers of its io_context. True: it ended.
bool live_for(Life& life, int handlers, const std::function<bool()>& dies = {}) {
  bool done = false;
  boost::asio::co_spawn(life.control, life.issuer.obtain(wanted(name, {name})),
                        [&](std::exception_ptr, Obtained) { done = true; });
  for (int i = 0; i < handlers && !done && !(dies && dies()); ++i) {
    life.control.run_one_for(10s);
  }
  return done;
}

}  // namespace

TEST_CASE("a certificate is obtained from a real CA, verified, and its journal kept until told") {
  Town town;
  auto life = town.live();
  auto outcome = life->obtain(name, {name});
  INFO(sentence(outcome));
  REQUIRE(outcome.has_value());
  CHECK(outcome->certificate->names() == Names{name});
  CHECK(outcome->certificate->problem_for({name}, base::WallClock::now(), 60s).empty());
  CHECK(outcome->certificate->issuer().find("Pebble") != std::string::npos);
  CHECK(town.responder.answered() > 0);
  CHECK(life->issuer.orders_placed() == 1);
  CHECK(town.storage.files.contains(order_file));
  CHECK(town.storage.files.contains(key_file));
  CHECK(town.storage.files.contains("issuers/pebble/directory.json"));

  const auto serial = outcome->certificate->serial();
  outcome = life->obtain(name, {name});  // the caller could not store it: the same one again
  REQUIRE(outcome.has_value());
  CHECK(outcome->certificate->serial() == serial);
  CHECK(town.orders() == 1);

  auto another = wanted(name, {name});  // a renewal before it is stored: not the same one
  another.another = true;
  outcome = await(life->control, life->issuer.obtain(another));
  REQUIRE(outcome.has_value());
  CHECK(outcome->certificate->serial() != serial);
  CHECK(town.orders() == 2);

  await(life->control, life->issuer.forget(name));
  CHECK_FALSE(town.storage.files.contains(order_file));
  CHECK_FALSE(town.storage.files.contains(key_file));
  outcome = life->obtain(name, {name});
  REQUIRE(outcome.has_value());
  CHECK(outcome->certificate->serial() != serial);
  CHECK(town.orders() == 3);
  CHECK(town.accounts() == 1);
}

TEST_CASE("a first certificate takes at most a quarter of a second") {
  Town town;
  auto life = town.live();
  REQUIRE(life->obtain("warm.example.com", {"warm.example.com"}).has_value());
  std::vector<int64_t> taken;
  for (int i = 0; i < 20; ++i) {
    const auto begun = base::Monotonic::now();
    const auto host = fmt::format("n{}.example.com", i);
    REQUIRE(life->obtain(host, {host}).has_value());
    taken.push_back((base::Monotonic::now() - begun) / 1ms);
  }
  std::sort(taken.begin(), taken.end());
  INFO("median " << taken[10] << " ms, worst " << taken.back() << " ms");
  CHECK(taken[10] <= 250 * slowness);
}

TEST_CASE("forty names at once take at most three seconds and register one account") {
  Town town;
  auto life = town.live();
  const auto begun = base::Monotonic::now();
  int done = 0;
  int good = 0;
  for (int i = 0; i < 40; ++i) {
    const auto host = fmt::format("n{}.example.com", i);
    boost::asio::co_spawn(life->control, life->issuer.obtain(wanted(host, {host})),
                          [&](std::exception_ptr, Obtained outcome) {
                            ++done;
                            if (outcome.has_value()) ++good;
                            UNSCOPED_INFO(sentence(outcome));
                          });
  }
  while (done < 40 && life->control.run_one_for(30s) > 0) {
  }
  CHECK(good == 40);
  CHECK(town.orders() == 40);
  CHECK(town.accounts() == 1);
  const auto taken = (base::Monotonic::now() - begun) / 1ms;
  INFO(taken << " ms");
  CHECK(taken <= 3000 * slowness);
}

TEST_CASE("several names share one certificate, in one order") {
  Town town;
  auto life = town.live();
  const auto outcome =
      life->obtain("many", {"B.example.com", "a.example.com", "c.example.com", "a.example.com"});
  INFO(sentence(outcome));
  REQUIRE(outcome.has_value());
  CHECK(outcome->certificate->names().size() == 3);
  CHECK(outcome->certificate->covers("b.example.com"));
  CHECK(town.orders() == 1);
}

TEST_CASE("a CA that refuses half of all nonces is survived") {
  PebbleSettings settings;
  settings.nonce_rejections_percent = 50;
  Town town(settings);
  auto life = town.live();
  auto outcome = life->obtain(name, {name});
  // Ten tries a request leave one order in a hundred unfinished; who asks again goes on with it.
  for (int i = 0; i < 3 && outcome.has_error(); ++i) outcome = life->obtain(name, {name});
  INFO(sentence(outcome));
  CHECK(outcome.has_value());
  CHECK(town.orders() == 1);
}

TEST_CASE("valid authorizations are used again without a challenge") {
  PebbleSettings settings;
  settings.authorization_reuse_percent = 100;
  Town town(settings);
  auto life = town.live();
  REQUIRE(life->obtain(name, {name}).has_value());
  const int answered = town.responder.answered();
  await(life->control, life->issuer.forget(name));
  const auto outcome = life->obtain(name, {name});
  INFO(sentence(outcome));
  CHECK(outcome.has_value());
  CHECK(town.responder.answered() == answered);
}

TEST_CASE("a crash at any write, before or after it, never orders twice") {
  Town town;
  const int fatal_write = GENERATE(range(0, 6));
  const bool written = GENERATE(false, true);
  town.acme.email = fmt::format("admin{}{}@example.org", fatal_write, written);
  int writes = 0;
  bool dying = false;
  town.storage.permit = [&](const std::string& verb, const std::string&) {
    if (dying || (verb == "store" && writes++ == fatal_write)) {
      const bool first = !dying;
      dying = true;
      return first && written;
    }
    return true;
  };
  {
    auto life = town.live();
    live_for(*life, 100'000, [&] { return dying; });
  }
  town.storage.permit = nullptr;
  auto life = town.live();
  const auto outcome = life->obtain(name, {name});
  INFO("write " << fatal_write << (written ? " done" : " lost") << ": " << sentence(outcome));
  REQUIRE(outcome.has_value());
  CHECK(town.orders() == 1);
  CHECK(town.accounts() == 1);
}

TEST_CASE("a crash after any number of steps never orders twice or loses the account") {
  Town town;
  int crashes = 0;
  for (int handlers = 3; handlers < 400; handlers += 4) {
    const int before = town.orders();
    {
      auto life = town.live();
      if (live_for(*life, handlers)) break;
    }
    ++crashes;
    auto life = town.live();
    const auto outcome = life->obtain(name, {name});
    INFO("after " << handlers << " handlers: " << sentence(outcome));
    REQUIRE(outcome.has_value());
    REQUIRE(town.orders() == before + 1);
    await(life->control, life->issuer.forget(name));
  }
  CHECK(crashes > 5);
  CHECK(town.accounts() == 1);
}

TEST_CASE("a program that dies again and again still ends with one order") {
  Town town;
  bool done = false;
  for (int handlers = 5; !done && handlers < 1000; handlers += 9) {
    auto life = town.live();
    done = live_for(*life, handlers);
  }
  REQUIRE(done);
  CHECK(town.orders() == 1);
  CHECK(town.accounts() == 1);
}

TEST_CASE("a damaged journal is looked up at the CA instead of ordering again") {
  Town town;
  {
    auto life = town.live();
    REQUIRE_FALSE(live_for(*life, 100'000, [&] { return town.orders() == 1; }));
    // The order's address is on its way to the disk.
    while (town.storage.files[order_file].find("my-order") == std::string::npos) {
      life->control.run_one_for(5s);
    }
  }
  int expected_orders = 1;
  SECTION("order.json damaged") {
    town.storage.damaged.insert(order_file);
  }
  SECTION("order.json is nonsense") {
    town.storage.files[order_file] = GENERATE(as<std::string>{}, "", "{", "[]", "{\"names\":3}");
  }
  SECTION("key.pem damaged") {
    town.storage.damaged.insert(key_file);
  }
  SECTION("key.pem empty") {
    town.storage.files[key_file].clear();
  }
  SECTION("other names") {
    std::string& text = town.storage.files[order_file];
    text.replace(text.find("a.example"), 9, "b.example");
    expected_orders = 2;
  }
  auto life = town.live();
  const auto outcome = life->obtain(name, {name});
  INFO(sentence(outcome));
  REQUIRE(outcome.has_value());
  CHECK(town.orders() == expected_orders);
}

TEST_CASE("a certificate whose key was lost after the order was finalized is ordered anew") {
  Town town;
  REQUIRE(town.live()->obtain(name, {name}).has_value());
  town.storage.damaged.insert(key_file);
  const auto outcome = town.live()->obtain(name, {name});
  INFO(sentence(outcome));
  REQUIRE(outcome.has_value());
  CHECK(town.orders() == 2);
}

TEST_CASE("a CA that has lost everything gets a new registration of the same key and one order") {
  Town town;
  REQUIRE(town.live()->obtain("other", {"other.example.com"}).has_value());
  const std::string key = town.storage.files.at(town.account_folder() + "/key.pem");
  SECTION("with an order in the journal") {
    auto life = town.live();
    REQUIRE_FALSE(live_for(*life, 100'000, [&] { return town.orders() == 2; }));
  }
  SECTION("without") {}
  const int before = town.orders();
  town.pebble.restart();
  auto life = town.live();
  const auto outcome = life->obtain(name, {name});
  INFO(sentence(outcome));
  REQUIRE(outcome.has_value());
  CHECK(town.storage.files.at(town.account_folder() + "/key.pem") == key);
  CHECK(town.orders() == before + 1);
}

TEST_CASE("a damaged account is put aside and replaced") {
  Town town;
  REQUIRE(town.live()->obtain("other", {"other.example.com"}).has_value());
  const std::string folder = town.account_folder();
  int accounts = 2;
  SECTION("key.pem damaged") {
    town.storage.damaged.insert(folder + "/key.pem");
  }
  SECTION("key.pem is no key") {
    town.storage.files[folder + "/key.pem"] = "nonsense";
  }
  SECTION("account.json damaged") {
    town.storage.damaged.insert(folder + "/account.json");
    accounts = 1;
  }
  SECTION("account.json is nonsense") {
    town.storage.files[folder + "/account.json"] = GENERATE(as<std::string>{}, "", "[]", "{}");
    accounts = 1;
  }
  const auto outcome = town.live()->obtain(name, {name});
  INFO(sentence(outcome));
  CHECK(outcome.has_value());
  CHECK(town.accounts() == accounts);
}

TEST_CASE("a failed challenge says why, drops its order, and the next attempt succeeds") {
  Town town;
  town.acme.challenges = {"http-01"};
  auto life = town.live();
  town.responder.mislead(GENERATE(200, 404));
  auto outcome = life->obtain(name, {name});
  REQUIRE(outcome.has_error());
  CHECK(outcome.error().kind == FailureClass::validation);
  CHECK_THAT(outcome.error().sentence, Contains(name) && Contains("pebble") && Contains("http-01"));
  CHECK_FALSE(town.storage.files.contains(order_file));
  town.responder.mislead(0);
  outcome = life->obtain(name, {name});
  INFO(sentence(outcome));
  CHECK(outcome.has_value());
  CHECK(town.orders() == 2);
}

TEST_CASE("what cannot be journalled is not ordered, and what is ordered is not forgotten") {
  Town town;
  auto life = town.live();
  REQUIRE(life->obtain("other", {"other.example.com"}).has_value());
  std::string full;
  town.storage.permit = [&](const std::string&, const std::string& path) {
    return full.empty() || path.find(full) == std::string::npos;
  };
  SECTION("no room for the key") {
    full = key_file;
    const auto outcome = life->obtain(name, {name});
    REQUIRE(outcome.has_error());
    CHECK(outcome.error().kind == FailureClass::storage);
    CHECK_THAT(outcome.error().sentence, Contains("nothing was ordered"));
    CHECK(town.orders() == 1);
  }
  SECTION("no room from the order on") {
    int stores = 0;
    town.storage.permit = [&](const std::string&, const std::string&) { return ++stores <= 2; };
    CHECK(life->obtain(name, {name}).has_value());
    CHECK(life->obtain(name, {name}).has_value());
    CHECK(town.orders() == 2);
  }
  SECTION("no room for the account") {
    full = "accounts/";
    town.acme.email = "second@example.org";
    const auto outcome = town.live()->obtain(name, {name});
    REQUIRE(outcome.has_error());
    CHECK(outcome.error().kind == FailureClass::storage);
    CHECK(town.accounts() == 1);
  }
}

TEST_CASE(
    "an external account is bound where the CA wants one, and asked for where it is missing") {
  PebbleSettings settings;
  settings.binding_required = true;
  Town town(settings);
  auto outcome = town.live()->obtain(name, {name});
  REQUIRE(outcome.has_error());
  CHECK(outcome.error().kind == FailureClass::account);
  CHECK(outcome.error().type == "externalAccountRequired");
  CHECK_THAT(outcome.error().sentence, Contains(name) && Contains("eab"));
  town.authority.eab_kid = "kid-1";
  town.authority.eab_hmac_key = pebble_binding_key;
  outcome = town.live()->obtain(name, {name});
  INFO(sentence(outcome));
  CHECK(outcome.has_value());
}

TEST_CASE("the preferred chain is taken where it is offered, the first where it is not") {
  PebbleSettings settings;
  settings.alternate_roots = 2;
  Town town(settings);
  auto life = town.live();
  auto outcome = life->obtain(name, {name});
  REQUIRE(outcome.has_value());
  const auto first = tls::chain_issuers(outcome->certificate->chain_pem());
  REQUIRE(first.size() == 2);
  // Every chain ends in a root of its own; find the others' names in the CA's log.
  const std::string log = town.pebble.log();
  std::string other;
  const std::string marker = "Generated issuance chain: ";
  for (size_t at = log.find(marker); at != std::string::npos; at = log.find(marker, at + 1)) {
    const size_t from = at + marker.size();
    const std::string root = log.substr(from, log.find(" ->", from) - from);
    if (root != first.back()) other = root;
  }
  REQUIRE_FALSE(other.empty());
  town.acme.preferred_chain = other;
  outcome = town.live()->obtain(name, {name});
  REQUIRE(outcome.has_value());
  CHECK(tls::chain_issuers(outcome->certificate->chain_pem()).back() == other);
  town.acme.preferred_chain = "No Such Root";
  outcome = town.live()->obtain(name, {name});
  REQUIRE(outcome.has_value());
  CHECK(tls::chain_issuers(outcome->certificate->chain_pem()).back() == first.back());
  CHECK(town.orders() == 1);
}

TEST_CASE("keys are of the configured type") {
  Town town;
  town.acme.key_type =
      GENERATE(config::KeyType::p384, config::KeyType::rsa2048, config::KeyType::rsa4096);
  const auto outcome = town.live()->obtain(name, {name});
  INFO(sentence(outcome));
  REQUIRE(outcome.has_value());
  const std::string key = outcome->certificate->key_pem();
  const bool longest = town.acme.key_type == config::KeyType::rsa4096;
  CHECK(key.size() > (town.acme.key_type == config::KeyType::p384 ? 250U
                      : longest                                   ? 3000U
                                                                  : 1500U));
}

TEST_CASE("what cannot be obtained is told without an order that hangs about") {
  Town town;
  auto life = town.live();
  SECTION("a wildcard, with http-01 alone") {
    const auto outcome = life->obtain("wild", {"*.example.com"});
    REQUIRE(outcome.has_error());
    CHECK(outcome.error().kind == FailureClass::policy);
    CHECK_THAT(outcome.error().sentence, Contains("wildcard") && Contains("dns-01"));
  }
  SECTION("no names") {
    CHECK(life->obtain("none", {}).has_error());
  }
  SECTION("too many names") {
    Names names;
    for (int i = 0; i < 101; ++i) names.push_back(fmt::format("n{}.example.com", i));
    CHECK(life->obtain("many", names).has_error());
    CHECK(town.orders() == 0);
  }
  SECTION("the same one twice at once") {
    int refused = 0;
    for (int i = 0; i < 2; ++i) {
      boost::asio::co_spawn(
          life->control, life->issuer.obtain(wanted(name, {name})),
          [&](std::exception_ptr, Obtained outcome) { refused += outcome.has_error() ? 1 : 0; });
    }
    life->control.run_one();
    CHECK(life->obtain("other", {"other.example.com"}).has_value());
    CHECK(refused == 1);
  }
}

TEST_CASE("a CA that cannot be reached is a failure of transport that names both") {
  Town town;
  town.authority.directory = fmt::format("https://localhost:{}/dir", free_port());
  const auto outcome = town.live()->obtain(name, {name});
  REQUIRE(outcome.has_error());
  CHECK(outcome.error().kind == FailureClass::transport);
  CHECK_THAT(outcome.error().sentence, Contains(name) && Contains("localhost"));
}

TEST_CASE("a CA whose certificate nobody vouches for is refused, naming the way out") {
  Town town;
  town.authority.trust.clear();
  const auto outcome = town.live()->obtain(name, {name});
  REQUIRE(outcome.has_error());
  CHECK(outcome.error().kind == FailureClass::transport);
  CHECK_THAT(outcome.error().sentence, Contains("trust"));
}

}  // namespace gatehouse::test
