// The account's keeper against a CA that knows accounts by their keys, as scripts will have it.
#include "acme/account.hpp"

#include <map>

#include <boost/json/serialize.hpp>
#include <catch2/catch.hpp>

#include "acme/jose.hpp"
#include "tests/acme/faulty_ca.hpp"

namespace gatehouse::acme {

namespace {

using Catch::Contains;
using test::FaultyCa;
using test::problem;
using test::ScriptedReply;
using test::ScriptedRequest;
using Fault = ScriptedReply::Fault;

constexpr const char* email = "ops@example.com";

boost::json::value decoded(const boost::json::value& jws, const char* member) {
  return boost::json::parse(base::base64url_decode(jws.at(member).as_string()).value());
}

/// Accounts by their keys; a script may answer in place of the office, before or after its work.
struct Office {
  Office() {
    ca.post = [this](const ScriptedRequest& request) { return answer(request); };
    ca.errand.attempt.names = "a.example";
  }

  ScriptedReply answer(const ScriptedRequest& request) {
    const auto jws = boost::json::parse(request.body);
    if (before) {
      if (auto reply = before(request)) return *reply;
    }
    ScriptedReply reply = request.target == "/account" ? account(jws) : change(jws);
    if (after) {
      if (auto other = after(request)) return *other;
    }
    return reply;
  }

  ScriptedReply account(const boost::json::value& jws) {
    const std::string key = boost::json::serialize(decoded(jws, "protected").at("jwk"));
    const auto payload = decoded(jws, "payload");
    const bool only_existing = payload.as_object().contains("onlyReturnExisting");
    if (!accounts.contains(key) && only_existing) return problem(400, "accountDoesNotExist");
    if (!accounts.contains(key)) accounts[key] = fmt::format("{}/acct/{}", ca.base, ++made);
    ScriptedReply reply;
    reply.fields = {{"Location", accounts[key]}};
    reply.body = R"({"status":"valid"})";
    return reply;
  }

  ScriptedReply change(const boost::json::value& jws) {
    const auto inner = decoded(jws, "payload");
    const std::string next = boost::json::serialize(decoded(inner, "protected").at("jwk"));
    const std::string old = boost::json::serialize(decoded(inner, "payload").at("oldKey"));
    if (!accounts.contains(old)) return problem(403, "unauthorized");
    accounts[next] = accounts[old];
    accounts.erase(old);
    ScriptedReply reply;
    reply.body = R"({"status":"valid"})";
    return reply;
  }

  /// As another start of the program would have it.
  std::unique_ptr<AccountKeeper> keeper() {
    return std::make_unique<AccountKeeper>(ca.client, ca.storage, base::real_clock(), email);
  }
  Outcome<AccountPtr> ensure(AccountKeeper& keeper) {
    return test::await(ca.control, keeper.ensure(ca.errand));
  }
  Outcome<void> roll_over(AccountKeeper& keeper) {
    return test::await(ca.control, keeper.roll_over(ca.errand));
  }
  std::string stored(const std::string& file) const {
    const auto found = ca.storage.files.find(account_folder("faulty", email) + file);
    return found == ca.storage.files.end() ? std::string() : found->second;
  }
  bool knows(const Account& account) const {
    return accounts.contains(public_jwk(account.key).value());
  }

  using Script = std::function<std::optional<ScriptedReply>(const ScriptedRequest&)>;
  FaultyCa ca;
  std::map<std::string, std::string> accounts;
  int made = 0;
  Script before, after;
};

std::optional<ScriptedReply> cut_off(const ScriptedRequest& request) {
  if (request.target != "/key-change") return std::nullopt;
  ScriptedReply reply;
  reply.fault = Fault::cut_off;
  return reply;
}

}  // namespace

TEST_CASE("an account gets a new key, and only the new one is kept") {
  Office office;
  auto keeper = office.keeper();
  const auto old = office.ensure(*keeper);
  REQUIRE(old.has_value());
  const std::string old_pem = office.stored("/key.pem");
  REQUIRE(office.roll_over(*keeper).has_value());
  const auto now = office.ensure(*keeper);
  REQUIRE(now.has_value());
  CHECK((*now)->url == (*old)->url);
  CHECK((*now)->thumbprint != (*old)->thumbprint);
  CHECK(office.knows(**now));
  CHECK(office.stored("/key.pem") == (*now)->key.to_pem());
  CHECK(office.stored("/key.pem") != old_pem);
  CHECK(office.stored("/next.pem").empty());
  const auto later = office.keeper();
  CHECK((*office.ensure(*later))->thumbprint == (*now)->thumbprint);
  CHECK(office.made == 1);
}

TEST_CASE("the new key is on disk before the CA hears of it, and the old one still beside it") {
  Office office;
  auto keeper = office.keeper();
  const auto old = office.ensure(*keeper);
  std::string next, key;
  office.before = [&](const ScriptedRequest& request) -> std::optional<ScriptedReply> {
    if (request.target == "/key-change") {
      next = office.stored("/next.pem");
      key = office.stored("/key.pem");
    }
    return std::nullopt;
  };
  REQUIRE(office.roll_over(*keeper).has_value());
  CHECK(key == (*old)->key.to_pem());
  CHECK(next == (*office.ensure(*keeper))->key.to_pem());
}

TEST_CASE("a change whose answer was lost is settled by asking, whichever key the CA knows") {
  Office office;
  auto keeper = office.keeper();
  const auto old = office.ensure(*keeper);
  const bool arrived = GENERATE(true, false);
  (arrived ? office.after : office.before) = cut_off;
  const auto changed = office.roll_over(*keeper);
  REQUIRE(changed.has_error());
  CHECK_THAT(changed.error().sentence, Contains("both keys are kept"));
  CHECK_FALSE(office.stored("/next.pem").empty());
  CHECK_FALSE(office.stored("/key.pem").empty());
  if (GENERATE(true, false)) keeper = office.keeper();  // whether or not the program died
  const auto now = office.ensure(*keeper);
  REQUIRE(now.has_value());
  CHECK((*now)->url == (*old)->url);
  CHECK(((*now)->thumbprint == (*old)->thumbprint) == !arrived);
  CHECK(office.knows(**now));
  CHECK(office.stored("/key.pem") == (*now)->key.to_pem());
  CHECK(office.stored("/next.pem").empty());
  CHECK(office.made == 1);
}

TEST_CASE("while the CA cannot be asked, both keys stay and nothing is registered") {
  Office office;
  auto keeper = office.keeper();
  REQUIRE(office.ensure(*keeper).has_value());
  office.after = cut_off;
  REQUIRE(office.roll_over(*keeper).has_error());
  office.before = [](const ScriptedRequest&) {
    return std::optional(problem(500, "serverInternal"));
  };
  keeper = office.keeper();
  CHECK(office.ensure(*keeper).has_error());
  CHECK_FALSE(office.stored("/next.pem").empty());
  CHECK_FALSE(office.stored("/key.pem").empty());
  office.before = nullptr;
  CHECK(office.ensure(*keeper).has_value());
  CHECK(office.made == 1);
}

TEST_CASE("a refused change keeps the old key and forgets the new one") {
  Office office;
  auto keeper = office.keeper();
  const auto old = office.ensure(*keeper);
  office.before = [](const ScriptedRequest& request) -> std::optional<ScriptedReply> {
    if (request.target != "/key-change") return std::nullopt;
    return problem(409, "malformed");
  };
  const auto changed = office.roll_over(*keeper);
  REQUIRE(changed.has_error());
  CHECK_THAT(changed.error().sentence, Contains("keeps its key"));
  CHECK(office.stored("/next.pem").empty());
  CHECK((*office.ensure(*keeper))->thumbprint == (*old)->thumbprint);
}

TEST_CASE("no disk, no change: the CA never hears of a key that is not stored") {
  Office office;
  auto keeper = office.keeper();
  REQUIRE(office.ensure(*keeper).has_value());
  office.ca.storage.permit = [](const std::string&, const std::string&) { return false; };
  const auto changed = office.roll_over(*keeper);
  REQUIRE(changed.has_error());
  CHECK(changed.error().kind == FailureClass::storage);
  CHECK(office.ca.count("/key-change") == 0);
}

TEST_CASE("a disk that fails after the change loses neither key nor account") {
  Office office;
  auto keeper = office.keeper();
  const auto old = office.ensure(*keeper);
  office.after = [&](const ScriptedRequest& request) -> std::optional<ScriptedReply> {
    if (request.target == "/key-change") {
      office.ca.storage.permit = [](const std::string&, const std::string&) { return false; };
    }
    return std::nullopt;
  };
  REQUIRE(office.roll_over(*keeper).has_value());
  CHECK(office.knows(**office.ensure(*keeper)));
  office.ca.storage.permit = nullptr;
  keeper = office.keeper();
  const auto now = office.ensure(*keeper);
  REQUIRE(now.has_value());
  CHECK((*now)->url == (*old)->url);
  CHECK(office.knows(**now));
  CHECK(office.stored("/next.pem").empty());
}

TEST_CASE("a damaged key of an unfinished change is passed over") {
  Office office;
  auto keeper = office.keeper();
  const auto old = office.ensure(*keeper);
  const std::string next = account_folder("faulty", email) + "/next.pem";
  office.ca.storage.files[next] = GENERATE(as<std::string>{}, "", "rubbish");
  if (GENERATE(true, false)) office.ca.storage.damaged.insert(next);
  keeper = office.keeper();
  CHECK((*office.ensure(*keeper))->thumbprint == (*old)->thumbprint);
  CHECK(office.made == 1);
}

TEST_CASE("a CA without changes of keys says so and harms nothing") {
  Office office;
  office.ca.directory = [&](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.body = fmt::format(
        R"({{"newNonce":"{0}/nonce","newAccount":"{0}/account","newOrder":"{0}/order"}})",
        office.ca.base);
    return reply;
  };
  auto keeper = office.keeper();
  const auto changed = office.roll_over(*keeper);
  REQUIRE(changed.has_error());
  CHECK(changed.error().type == "unsupported");
  CHECK(office.stored("/next.pem").empty());
  CHECK(office.ensure(*keeper).has_value());
}

TEST_CASE("an account that the CA has lost is registered once more, with the same key") {
  Office office;
  auto keeper = office.keeper();
  const auto old = office.ensure(*keeper);
  office.accounts.clear();
  keeper->forget((*old)->url);
  const auto now = office.ensure(*keeper);
  REQUIRE(now.has_value());
  CHECK((*now)->thumbprint == (*old)->thumbprint);
  CHECK((*now)->url != (*old)->url);
  const auto later = office.keeper();
  CHECK((*office.ensure(*later))->url == (*now)->url);
  CHECK(office.made == 2);
}

TEST_CASE("account keys of other kinds, as other clients made them, are used as they are") {
  Office office;
  const auto kind = GENERATE(config::KeyType::rsa2048, config::KeyType::p384);
  const auto key = tls::PrivateKey::generate(kind).value();
  office.accounts[public_jwk(key).value()] = office.ca.base + "/acct/old";
  office.ca.storage.files[account_folder("faulty", email) + "/key.pem"] = key.to_pem();
  auto keeper = office.keeper();
  const auto account = office.ensure(*keeper);
  REQUIRE(account.has_value());
  CHECK((*account)->url == office.ca.base + "/acct/old");
  CHECK((*account)->thumbprint == thumbprint(key).value());
  CHECK(office.ca.header("/account", 0, "alg") ==
        (kind == config::KeyType::p384 ? "ES384" : "RS256"));
  CHECK(office.made == 0);
  REQUIRE(office.roll_over(*keeper).has_value());  // and leads to a key of our own kind
  CHECK(office.ca.count("/key-change") == 1);
  CHECK(office.knows(**office.ensure(*keeper)));
}

}  // namespace gatehouse::acme
