// Revocation, changes of account keys and renewal information, against a CA of scripted answers.
#include <catch2/catch.hpp>

#include "acme/client.hpp"
#include "acme/jose.hpp"
#include "tests/acme/faulty_ca.hpp"
#include "tls/internal_authority.hpp"

namespace gatehouse::acme {

namespace {

using namespace std::chrono_literals;
using Catch::Contains;
using test::FaultyCa;
using test::problem;
using test::ScriptedReply;
using test::ScriptedRequest;
using Fault = ScriptedReply::Fault;

constexpr const char* id = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE";

Outcome<RenewalInfo> ask(FaultyCa& ca, const std::string& about = id) {
  return test::await(ca.control, ca.client.renewal_info(about, ca.errand));
}

ScriptedReply window() {
  ScriptedReply reply;
  reply.fields = {{"Retry-After", "21600"}};
  reply.body =
      R"({"suggestedWindow":{"start":"2026-01-02T04:00:00Z","end":"2026-01-03T04:00:00Z"},)"
      R"("explanationURL":"https://ca.example/why"})";
  return reply;
}

ScriptedReply ok() {
  ScriptedReply reply;
  reply.body = "{}";
  return reply;
}

tls::CertificatePtr leaf() {
  const auto root = tls::InternalAuthority::create("Test Root").value();
  return tls::InternalAuthority::issue(*root, {"a.example"}, 24h).value();
}

}  // namespace

// ---------------------------------------------------------------- renewal information

TEST_CASE("renewal information is asked for by an unsigned GET, without a nonce") {
  FaultyCa ca;
  ca.post = [](const ScriptedRequest&) { return window(); };
  const auto info = ask(ca);
  REQUIRE(info.has_value());
  CHECK(timestamp(info->start) == "2026-01-02T04:00:00Z");
  CHECK(timestamp(info->end) == "2026-01-03T04:00:00Z");
  CHECK(info->explanation == "https://ca.example/why");
  CHECK(info->retry_after == 6h);
  const auto& request = ca.server.requests().back();
  CHECK(request.method == "GET");
  CHECK(request.target == std::string("/renewal/") + id);
  CHECK(request.body.empty());
  CHECK(ca.count("/nonce") == 0);
}

TEST_CASE("Retry-After comes as it is, and may be missing or a date") {
  FaultyCa ca;
  std::string retry_after = "5";
  ca.post = [&](const ScriptedRequest&) {
    auto reply = window();
    reply.fields.clear();
    if (!retry_after.empty()) reply.fields = {{"Retry-After", retry_after}};
    return reply;
  };
  CHECK(ask(ca)->retry_after == 5s);
  retry_after = "";
  CHECK_FALSE(ask(ca)->retry_after.has_value());
  retry_after = "Thu, 01 Jan 1970 00:00:00 GMT";
  CHECK(ask(ca)->retry_after == 0s);
  retry_after = "soon";
  CHECK_FALSE(ask(ca)->retry_after.has_value());
}

TEST_CASE("a CA without renewal information is told apart from one that fails") {
  FaultyCa ca;
  ca.directory = [&](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.body = fmt::format(
        R"({{"newNonce":"{0}/nonce","newAccount":"{0}/account","newOrder":"{0}/order"}})", ca.base);
    return reply;
  };
  const auto info = ask(ca);
  REQUIRE(info.has_error());
  CHECK(info.error().kind == FailureClass::internal);
  CHECK(info.error().status == 404);
  CHECK(info.error().type == "unsupported");
  CHECK_THAT(info.error().sentence, Contains("a.example: faulty offers no renewal information"));
}

TEST_CASE("no certificate's id breaks out of the address") {
  FaultyCa ca;
  for (const auto* text : {"", "a", "../dir", "a.b/../../dir", "a.b?x=y"}) {
    const auto info = ask(ca, text);
    REQUIRE(info.has_error());
    CHECK(info.error().type == "unsupported");
  }
  CHECK(ca.server.requests().size() == 1);
}

TEST_CASE("a certificate unknown to the CA is a refusal; a CA that has moved is found") {
  FaultyCa ca;
  bool moved = false;
  ca.post = [&](const ScriptedRequest& request) {
    if (request.target.starts_with("/moved/")) return window();
    return problem(404, "malformed", "no such certificate");
  };
  auto info = ask(ca);
  REQUIRE(info.has_error());
  CHECK(info.error().status == 404);
  CHECK(info.error().type == "malformed");
  CHECK(ca.count(std::string("/renewal/") + id) == 1);
  ca.directory = [&](const ScriptedRequest&) {
    moved = true;
    ScriptedReply reply;
    reply.body = fmt::format(R"({{"newNonce":"{0}/nonce","newAccount":"{0}/account",)"
                             R"("newOrder":"{0}/order","renewalInfo":"{0}/moved/"}})",
                             ca.base);
    return reply;
  };
  info = ask(ca);
  CHECK(moved);
  CHECK(info.has_value());
}

TEST_CASE("every kind of trouble with renewal information is a failure, never a window") {
  FaultyCa ca;
  const int kind = GENERATE(range(0, 8));
  ca.post = [&](const ScriptedRequest&) {
    ScriptedReply reply = window();
    switch (kind) {
      case 0:
        return problem(500, "serverInternal");
      case 1:
        reply.fault = Fault::cut_off;
        break;
      case 2:
        reply.fault = Fault::endless_body;
        break;
      case 3:
        reply.body = "<html>";
        break;
      case 4:
        reply.body.resize(40);
        break;
      case 5:
        reply.body =
            R"({"suggestedWindow":{"start":"2026-01-03T04:00:00Z","end":"2026-01-02T04:00:00Z"}})";
        break;
      case 6:
        reply.status = 302;
        reply.fields = {{"Location", ca.base + "/elsewhere"}};
        break;
      default:
        return problem(429, "rateLimited");
    }
    return reply;
  };
  const auto info = ask(ca);
  REQUIRE(info.has_error());
  CHECK_THAT(info.error().sentence, Contains("a.example") && Contains("faulty"));
  CHECK(info.error().kind == (kind == 7 ? FailureClass::rate_limit : FailureClass::transport));
  CHECK(ca.count("/elsewhere") == 0);
}

// ---------------------------------------------------------------- revocation

TEST_CASE("a certificate is revoked by the account that obtained it") {
  FaultyCa ca;
  ca.post = [](const ScriptedRequest&) { return ok(); };
  const auto certificate = leaf();
  const auto revoked =
      test::await(ca.control, ca.client.revoke(ca.account, certificate->leaf_der(), 4, ca.errand));
  REQUIRE(revoked.has_value());
  CHECK(ca.header("/revoke", 0, "kid") == ca.account->url);
  CHECK(ca.payload("/revoke", 0) == revocation_json(certificate->leaf_der(), 4));
}

TEST_CASE("a certificate is revoked by its own key, which shows itself") {
  FaultyCa ca;
  ca.post = [](const ScriptedRequest&) { return ok(); };
  const auto certificate = leaf();
  const auto key = tls::PrivateKey::from_pem(certificate->key_pem(), "test").value();
  const auto revoked =
      test::await(ca.control, ca.client.revoke(key, certificate->leaf_der(), 1, ca.errand));
  REQUIRE(revoked.has_value());
  const auto jws = boost::json::parse(ca.server.requests().back().body);
  const auto header =
      boost::json::parse(base::base64url_decode(jws.at("protected").as_string()).value());
  CHECK(header.at("jwk") == boost::json::parse(public_jwk(key).value()));
  CHECK_FALSE(header.as_object().contains("kid"));
}

TEST_CASE("what is revoked already stays so; any other refusal is told") {
  FaultyCa ca;
  std::string type = "alreadyRevoked";
  ca.post = [&](const ScriptedRequest&) { return problem(400, type); };
  const auto revoke = [&] {
    return test::await(ca.control, ca.client.revoke(ca.account, "DER", 0, ca.errand));
  };
  CHECK(revoke().has_value());
  type = "badRevocationReason";
  CHECK_THAT(revoke().error().sentence, Contains("a.example: faulty refused: why"));
  type = "unauthorized";
  CHECK(revoke().error().kind == FailureClass::account);
}

// ---------------------------------------------------------------- keys of accounts

TEST_CASE("a change of keys is signed by the new key inside and by the old one outside") {
  FaultyCa ca;
  ca.post = [](const ScriptedRequest&) { return ok(); };
  const auto next = tls::PrivateKey::generate(config::KeyType::p256).value();
  const auto changed = test::await(ca.control, ca.client.change_key(ca.account, next, ca.errand));
  REQUIRE(changed.has_value());
  CHECK((*changed)->url == ca.account->url);
  CHECK((*changed)->thumbprint == thumbprint(next).value());
  CHECK(ca.header("/key-change", 0, "kid") == ca.account->url);
  CHECK_FALSE(ca.header("/key-change", 0, "nonce").empty());
  const auto inner = boost::json::parse(ca.payload("/key-change", 0));
  const auto text = [&](const char* member) {
    return base::base64url_decode(inner.at(member).as_string()).value();
  };
  const auto header = boost::json::parse(text("protected"));
  CHECK(header.at("jwk") == boost::json::parse(public_jwk(next).value()));
  CHECK(std::string(header.at("url").as_string()) == ca.base + "/key-change");
  CHECK_FALSE(header.as_object().contains("nonce"));
  CHECK_FALSE(header.as_object().contains("kid"));
  CHECK(text("payload") == key_change_json(ca.account->url, public_jwk(ca.account->key).value()));
}

TEST_CASE("an account that its owner has deactivated is refused in words that help") {
  FaultyCa ca;
  ca.post = [&](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.fields = {{"Location", ca.base + "/acct/1"}};
    reply.body = R"({"status":"deactivated"})";
    return reply;
  };
  const auto key = tls::PrivateKey::generate(config::KeyType::p256).value();
  const auto account = test::await(ca.control, ca.client.new_account(key, ca.errand));
  REQUIRE(account.has_error());
  CHECK(account.error().kind == FailureClass::account);
  CHECK_THAT(account.error().sentence, Contains("deactivated") && Contains("folder"));
}

TEST_CASE("an account that needs a person is refused with the page that the directory names") {
  FaultyCa ca;
  ca.directory = [&](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.body = fmt::format(R"({{"newNonce":"{0}/nonce","newAccount":"{0}/account",)"
                             R"("newOrder":"{0}/order",)"
                             R"("meta":{{"website":"https://ca.example/people"}}}})",
                             ca.base);
    return reply;
  };
  const bool deactivated = GENERATE(true, false);
  ca.post = [&](const ScriptedRequest&) {
    if (!deactivated) return problem(403, "externalAccountRequired");
    ScriptedReply reply;
    reply.fields = {{"Location", ca.base + "/acct/1"}};
    reply.body = R"({"status":"deactivated"})";
    return reply;
  };
  const auto key = tls::PrivateKey::generate(config::KeyType::p256).value();
  const auto account = test::await(ca.control, ca.client.new_account(key, ca.errand));
  REQUIRE(account.has_error());
  CHECK(account.error().kind == FailureClass::account);
  CHECK_THAT(account.error().sentence, Contains("https://ca.example/people"));
}

TEST_CASE("a key's existing account is asked for without making one") {
  FaultyCa ca;
  ca.post = [](const ScriptedRequest&) { return problem(400, "accountDoesNotExist"); };
  const auto key = tls::PrivateKey::generate(config::KeyType::p384).value();
  const auto account = test::await(ca.control, ca.client.existing_account(key, ca.errand));
  REQUIRE(account.has_error());
  CHECK(account.error().type == "accountDoesNotExist");
  CHECK(ca.payload("/account", 0) == R"({"onlyReturnExisting":true})");
  CHECK(ca.header("/account", 0, "alg") == "ES384");
}

}  // namespace gatehouse::acme
