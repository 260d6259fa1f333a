// Which challenge proves a name: against a real CA that asks at both ports, and against one of
// scripted answers.
#include <algorithm>

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "tests/acme/certification.hpp"
#include "tests/acme/scripted_ca.hpp"
#include "tests/support/pebble.hpp"

namespace gatehouse::test {

namespace {

using acme::FailureClass;
using Catch::Contains;
using Types = std::vector<std::string>;
using Obtained = acme::Outcome<acme::Issued>;

constexpr const char* name = "a.example.com";

/// A CA that asks at a plain and at a TLS port, and a program that answers at both.
struct Town {
  Town() {
    authority.name = "pebble";
    authority.directory = pebble.directory();
    authority.trust = pebble.root();
  }

  PebbleSettings ports() const {
    PebbleSettings settings;
    settings.http_port = responder.port();
    settings.tls_port = alpn.port();
    return settings;
  }
  Obtained obtain(const std::string& host, const std::string& first = {}) {
    life = std::make_unique<Life>(storage, responder, authority, acme, &alpn);
    auto asked = wanted(host, {host});
    asked.first_challenge = first;
    asked.challenges = allowed;
    asked.verdicts_max = verdicts_max;
    return await(life->control, life->issuer.obtain(std::move(asked)));
  }
  int orders() const {
    int found = 0;
    const std::string log = pebble.log();
    const std::string text = "Added order";
    for (size_t at = log.find(text); at != log.npos; at = log.find(text, at + 1)) ++found;
    return found;
  }

  ChallengeResponder responder;
  AlpnResponder alpn;
  Pebble pebble{ports()};
  MemoryStorage storage;
  config::CertificateAuthority authority;
  config::Acme acme;
  unsigned verdicts_max = 4;
  Types allowed;  // of those that are configured; none: all
  std::unique_ptr<Life> life;
};

std::string sentence(const Obtained& outcome) {
  return outcome.has_error() ? outcome.error().sentence : std::string();
}

}  // namespace

TEST_CASE("a name is proven by the first challenge of the configuration, and the answer says so") {
  Town town;
  town.acme.challenges = GENERATE(Types{"http-01", "tls-alpn-01"}, Types{"tls-alpn-01", "http-01"},
                                  Types{"http-01"}, Types{"tls-alpn-01"});
  const auto outcome = town.obtain(name);
  INFO(sentence(outcome));
  REQUIRE(outcome.has_value());
  CHECK(outcome->challenge == town.acme.challenges.front());
  CHECK(outcome->verdicts == 0);
  CHECK(outcome->orders == 1);
  CHECK(outcome->certificate->covers(name));
  const bool plain = town.acme.challenges.front() == "http-01";
  CHECK((town.responder.answered() > 0) == plain);
  CHECK((town.alpn.answered() > 0) == !plain);
  CHECK(town.orders() == 1);
}

TEST_CASE("what last proved a name is tried first, if it is still allowed") {
  Town town;
  auto outcome = town.obtain(name, "tls-alpn-01");
  INFO(sentence(outcome));
  REQUIRE(outcome.has_value());
  CHECK(outcome->challenge == "tls-alpn-01");
  CHECK(town.responder.answered() == 0);
  town.acme.challenges = {"http-01"};
  outcome = town.obtain("b.example.com", "tls-alpn-01");
  REQUIRE(outcome.has_value());
  CHECK(outcome->challenge == "http-01");
  outcome = town.obtain("c.example.com", "dns-01");
  REQUIRE(outcome.has_value());
  CHECK(outcome->challenge == "http-01");
}

TEST_CASE("where one challenge fails the other is tried in a new order") {
  Town town;
  if (GENERATE(true, false)) {
    town.responder.mislead(404);
  } else {
    town.acme.challenges = {"tls-alpn-01", "http-01"};
    town.alpn.refuse(true);
  }
  const auto outcome = town.obtain(name);
  INFO(sentence(outcome));
  REQUIRE(outcome.has_value());
  CHECK(outcome->challenge == town.acme.challenges.back());
  CHECK(outcome->verdicts == 1);
  CHECK(outcome->orders == 2);
  CHECK(town.orders() == 2);
  // Remembered, it costs nothing the next time.
  await(town.life->control, town.life->issuer.forget(name));
  const auto again = town.obtain(name, outcome->challenge);
  REQUIRE(again.has_value());
  CHECK(again->verdicts == 0);
  CHECK(town.orders() == 3);
}

TEST_CASE("where every challenge fails each is tried once, and the sentence names them all") {
  Town town;
  town.responder.mislead(404);
  town.alpn.refuse(true);
  const auto outcome = town.obtain(name);
  REQUIRE(outcome.has_error());
  const auto& failure = outcome.error();
  CHECK(failure.kind == FailureClass::validation);
  CHECK(failure.verdicts == 2);
  CHECK(failure.orders == 2);
  CHECK_THAT(failure.sentence, Contains("a.example.com: pebble could not validate http-01: ") &&
                                   Contains("; it could not validate tls-alpn-01: ") &&
                                   Contains("404"));
  CHECK(town.orders() == 2);
  CHECK(town.alpn.asked() >= 1);
  CHECK_FALSE(town.storage.files.contains("orders/a.example.com/order.json"));
}

TEST_CASE("no further challenge is tried when the CA's limit allows no further failure") {
  Town town;
  town.responder.mislead(404);
  town.verdicts_max = 1;
  const auto outcome = town.obtain(name);
  REQUIRE(outcome.has_error());
  CHECK(outcome.error().verdicts == 1);
  CHECK_THAT(outcome.error().sentence, Contains("http-01") && !Contains("tls-alpn-01: "));
  CHECK(town.orders() == 1);
  CHECK(town.alpn.asked() == 0);
}

TEST_CASE("a challenge that may not be tried is not, though it is configured or succeeded last") {
  Town town;
  town.allowed = {"http-01"};
  auto outcome = town.obtain(name, "tls-alpn-01");
  REQUIRE(outcome.has_value());
  CHECK(outcome->challenge == "http-01");
  town.responder.mislead(404);
  outcome = town.obtain("b.example.com", "tls-alpn-01");
  REQUIRE(outcome.has_error());
  CHECK(outcome.error().verdicts == 1);
  CHECK(outcome.error().orders == 1);
  CHECK(town.orders() == 2);
  CHECK(town.alpn.asked() == 0);
}

TEST_CASE("an address gets a certificate, by either challenge") {
  Town town;
  town.acme.challenges = {GENERATE(as<std::string>{}, "http-01", "tls-alpn-01")};
  const auto outcome = town.obtain("127.0.0.1");
  INFO(sentence(outcome));
  REQUIRE(outcome.has_value());
  CHECK(outcome->challenge == town.acme.challenges.front());
  CHECK(outcome->certificate->names() == Types{"127.0.0.1"});
}

TEST_CASE("names and an address share a certificate, each proven for itself") {
  Town town;
  town.acme.challenges = {"tls-alpn-01"};
  Life life(town.storage, town.responder, town.authority, town.acme, &town.alpn);
  const auto outcome = life.obtain("both", {name, "127.0.0.1", "b.example.com"});
  INFO(sentence(outcome));
  REQUIRE(outcome.has_value());
  CHECK(outcome->certificate->names().size() == 3);
  CHECK(town.alpn.answered() >= 3);
}

TEST_CASE("a CA that offers nothing else after a failure is not asked for a second order") {
  ScriptedCa ca;
  ca.offer({"http-01", "dns-01", "x-unknown-99"});
  ca.refuse_all("connection");
  const auto outcome = ca.live()->obtain("a", {"a.example"});
  REQUIRE(outcome.has_error());
  CHECK(outcome.error().kind == FailureClass::validation);
  CHECK(outcome.error().verdicts == 1);
  CHECK_THAT(outcome.error().sentence, Contains("port 80"));
  CHECK(ca.count("/order") == 1);
  CHECK(ca.count("/challenge/http-01") == 1);
}

TEST_CASE("a failure that the name itself has is not repeated by another challenge") {
  ScriptedCa ca;
  const std::string problem = GENERATE(as<std::string>{}, "dns", "caa", "dnssec");
  ca.offer({"http-01", "tls-alpn-01"});
  ca.refuse_all(problem);
  const auto outcome = ca.live()->obtain("a", {"a.example"});
  REQUIRE(outcome.has_error());
  CHECK(outcome.error().type == problem);
  CHECK(ca.count("/order") == 1);
}

TEST_CASE("a verdict is a failed validation, even if the CA calls it an error of its own") {
  ScriptedCa ca;
  ca.offer({"http-01", "tls-alpn-01"});
  ca.refuse_all(GENERATE(as<std::string>{}, "serverInternal", "malformed", "whatever"));
  const auto outcome = ca.live()->obtain("a", {"a.example"});
  REQUIRE(outcome.has_error());
  CHECK(outcome.error().kind == FailureClass::validation);
  CHECK(outcome.error().verdicts == 2);
}

TEST_CASE("each failure's advice is of the port that the challenge asks at") {
  ScriptedCa ca;
  ca.offer({"tls-alpn-01", "http-01"});
  ca.refuse_all(GENERATE(as<std::string>{}, "connection", "tls", "unauthorized"));
  ca.settings.challenges = {"tls-alpn-01", "http-01"};
  const auto outcome = ca.live()->obtain("a", {"a.example"});
  REQUIRE(outcome.has_error());
  INFO(outcome.error().sentence);
  const auto& text = outcome.error().sentence;
  const size_t second = text.find("; it could not validate http-01");
  REQUIRE(second != text.npos);
  const std::string first = text.substr(0, second);
  CHECK((first.find("443") != first.npos || first.find("ends TLS") != first.npos));
  CHECK(first.find("port 80") == first.npos);
  CHECK(ca.count("/order") == 2);
  CHECK(ca.count("/challenge/tls-alpn-01") == 1);
  CHECK(ca.count("/challenge/http-01") == 1);
}

TEST_CASE("after a restart the challenge that the CA is at is the one that is answered") {
  ScriptedCa ca;
  ca.offer({"http-01", "tls-alpn-01"});
  ca.begun = "tls-alpn-01";  // by another life, and not judged yet
  const auto outcome = ca.live()->obtain("a", {"a.example"});
  REQUIRE(outcome.has_error());  // at finalize
  CHECK(ca.count("/challenge/http-01") == 0);
  CHECK(ca.count("/challenge/tls-alpn-01") == 0);
  CHECK(ca.count("/finalize") == 1);
}

TEST_CASE("trouble on the way to the second challenge leaves the first one's verdict standing") {
  ScriptedCa ca;
  ca.offer({"http-01", "tls-alpn-01"});
  ca.refuse_all("connection");
  const int status = GENERATE(500, 400, 429);
  int orders = 0;
  ca.scripts["/order"] = [&, status](const ScriptedRequest&) -> std::optional<ScriptedReply> {
    if (++orders == 1) return std::nullopt;
    return ScriptedCa::problem(status, status == 500   ? "serverInternal"
                                       : status == 400 ? "rejectedIdentifier"
                                                       : "rateLimited");
  };
  const auto outcome = ca.live()->obtain("a", {"a.example"});
  REQUIRE(outcome.has_error());
  // A quick retry would fail at http-01 again; what the CA limits is kept all the same.
  CHECK(outcome.error().kind ==
        (status == 429 ? FailureClass::rate_limit : FailureClass::validation));
  CHECK(outcome.error().verdicts == 1);
  CHECK_THAT(outcome.error().sentence, Contains("http-01") && Contains("; it "));
}

TEST_CASE("a required profile is never left out, and one that is not is") {
  ScriptedCa ca;
  ca.authority.profile = "short";
  ca.authority.profile_required = true;
  const bool offered = GENERATE(true, false);
  ca.scripts["/dir"] = [&, offered](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.body =
        fmt::format(R"({{"newNonce":"{0}/nonce","newAccount":"{0}/account","newOrder":"{0}/order",)"
                    R"("meta":{{"profiles":{{"{1}":"x","classic":"y"}}}}}})",
                    ca.server.url(""), offered ? "short" : "long");
    return reply;
  };
  ca.scripts["/order"] = [](const ScriptedRequest&) {
    return ScriptedCa::problem(400, "invalidProfile");
  };
  const auto outcome = ca.live()->obtain("a", {"a.example"});
  REQUIRE(outcome.has_error());
  CHECK(outcome.error().kind == FailureClass::policy);
  CHECK(ca.count("/order") == (offered ? 1 : 0));
  CHECK(ca.count("/dir") == (offered ? 1 : 2));
  if (!offered)
    CHECK_THAT(outcome.error().sentence,
               Contains("has no profile \"short\"") && Contains("(it has: long, classic)"));
}

TEST_CASE("an address is ordered under the profile for addresses where the CA has it") {
  ScriptedCa ca;
  ca.scripts["/dir"] = [&](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.body =
        fmt::format(R"({{"newNonce":"{0}/nonce","newAccount":"{0}/account","newOrder":"{0}/order",)"
                    R"("meta":{{"profiles":{{"classic":"x","shortlived":"y"}}}}}})",
                    ca.server.url(""));
    return reply;
  };
  const bool own = GENERATE(true, false);
  if (own) ca.authority.profile = "classic";
  auto life = ca.live();
  CHECK(life->obtain("a", {"192.0.2.1"}).has_error());
  CHECK_THAT(ca.payload("/order", 0),
             Contains(R"({"type":"ip","value":"192.0.2.1"})") &&
                 Contains(own ? R"("profile":"classic")" : R"("profile":"shortlived")"));
  CHECK(life->obtain("b", {"b.example"}).has_error());
  CHECK((ca.payload("/order", 1).find("profile") == std::string::npos) == !own);
}

TEST_CASE("after a time-out at finalize the order is read before it is finalized again") {
  ScriptedCa ca;
  const auto chain = tls::make_self_signed({"a.example"}, std::chrono::hours(24));
  REQUIRE(chain.has_value());
  const bool arrived = GENERATE(true, false);
  bool finalized = false;
  ca.scripts["/finalize"] = [&, arrived](const ScriptedRequest&) {
    finalized = finalized || arrived;
    ScriptedReply reply;
    reply.fault = ScriptedReply::Fault::cut_off;
    return reply;
  };
  ca.scripts["/order/1"] = [&](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.body =
        finalized ? ca.order("valid", fmt::format(R"(,"certificate":"{}")", ca.server.url("/cert")))
                  : ca.order("ready");
    return reply;
  };
  ca.scripts["/cert"] = [&](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.body = (*chain)->chain_pem();  // not for our key: refused at the very end
    return reply;
  };
  const auto outcome = ca.live()->obtain("a", {"a.example"});
  REQUIRE(outcome.has_error());
  CHECK(ca.count("/finalize") == 1);
  CHECK(ca.count("/order") == 1);
  CHECK(ca.count("/order/1") == 1);
  CHECK(ca.count("/cert") == (arrived ? 1 : 0));
}

}  // namespace gatehouse::test
