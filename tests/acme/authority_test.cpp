#include "acme/authority.hpp"

#include <map>
#include <utility>
#include <vector>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <catch2/catch.hpp>

#include "base/encoding.hpp"
#include "tests/acme/scripted_ca.hpp"
#include "tests/support/await.hpp"
#include "tests/support/dns_server.hpp"
#include "tests/support/memory_storage.hpp"
#include "tests/support/scripted_server.hpp"
#include "tls/digest.hpp"

namespace gatehouse::acme {

namespace {

using Catch::Contains;
using test::dns::Asked;
using test::dns::Reply;

/// An authority whose CA refuses everything, and counts what reaches it; and the DNS.
struct Scene {
  Scene()
      : ca(control,
           [](const test::ScriptedRequest&) {
             test::ScriptedReply reply;
             reply.status = 503;
             return reply;
           }),
        dns(control,
            [this](const Asked& asked) {
              Reply reply;
              const auto other = others.find(asked.name);
              if (asked.name == "example.com" && !value.empty())
                reply.records = {test::dns::caa(asked.name, "issue", value)};
              if (other != others.end())
                reply.records = {test::dns::caa(asked.name, "issue", other->second)};
              return reply;
            }),
        fetcher(control),
        http01(control, [this](ChallengeTablePtr,
                               std::function<void()> done) { boost::asio::post(control, done); }),
        tls_alpn01(control, [this](AlpnTablePtr, std::function<void()> done) {
          boost::asio::post(control, done);
        }) {
    settings.name = "ca";
    settings.directory = ca.url("/dir");
    acme.email = "ops@example.com";
    acme.resolvers = {dns.address()};
  }

  Failure obtain(const std::string& name = "www.example.com") { return obtain_all({name}); }
  Failure obtain_all(const std::vector<std::string>& names) {
    auto snapshot = std::make_shared<config::Snapshot>();
    snapshot->acme = acme;
    snapshot->acme.authorities = {settings};
    const auto authority = acme_authority(fetcher, storage, Solvers{http01, tls_alpn01},
                                          base::real_clock(), settings, snapshot);
    Wanted wanted;
    wanted.id = names.front();
    wanted.names = names;
    wanted.first_challenge = last_challenge;
    auto outcome = test::await(control, authority.obtain(std::move(wanted)));
    REQUIRE_FALSE(outcome.has_value());
    return outcome.error();
  }

  /// As an earlier order left it.
  void store_account(const std::string& directory) {
    const auto id = base::hex(tls::sha256(acme.email));
    const auto keep = [&](size_t size) {
      storage.files["issuers/ca/accounts/" + id.substr(0, size) + "/account.json"] =
          R"({"url":"https://ca.example/acct/1","directory":")" + directory + "\"}";
    };
    for (size_t size = 2; size <= id.size(); size += 2) keep(size);
  }

  boost::asio::io_context control;
  std::string value;                          // of example.com's issue property; empty: none
  std::map<std::string, std::string> others;  // by owner
  std::string last_challenge;                 // that proved the names
  test::ScriptedServer ca;
  test::dns::Server dns;
  test::MemoryStorage storage;
  base::Fetcher fetcher;
  Http01 http01;
  TlsAlpn01 tls_alpn01;
  config::CertificateAuthority settings;
  config::Acme acme;
};

}  // namespace

TEST_CASE("a forbidden name reaches no CA, and nothing is stored for it") {
  Scene scene;
  scene.settings.caa_identities = {"ca.example"};
  scene.value = "other.example";
  const auto failure = scene.obtain();
  CHECK(failure.local);
  CHECK(failure.type == "caa");
  CHECK(failure.kind == FailureClass::validation);
  CHECK_THAT(failure.sentence, Contains("example.com. CAA 0 issue \"ca.example\""));
  CHECK(scene.ca.requests().empty());
  CHECK(scene.storage.files.empty());
  CHECK(scene.storage.folders.empty());
}

TEST_CASE("an allowed name is asked for at the CA") {
  Scene scene;
  scene.settings.caa_identities = {"ca.example"};
  scene.value = "ca.example";
  const auto failure = scene.obtain();
  CHECK_FALSE(failure.local);
  CHECK_FALSE(scene.ca.requests().empty());
  CHECK_FALSE(scene.dns.asked().empty());
}

TEST_CASE("nothing is looked up for a CA whose name in CAA records is not known, or if told so") {
  const bool unknown = GENERATE(true, false);
  Scene scene;
  scene.value = "other.example";
  if (!unknown) {
    scene.settings.caa_identities = {"ca.example"};
    scene.acme.caa = false;
  }
  CHECK_FALSE(scene.obtain().local);
  CHECK(scene.dns.asked().empty());
  CHECK_FALSE(scene.ca.requests().empty());
}

TEST_CASE("a CA's name in CAA records is taken from its directory as last fetched") {
  Scene scene;
  scene.value = "other.example";
  const auto directory = scene.ca.url("/dir");
  const auto stored = [&](const std::string& url) {
    const auto member = [&](const std::string& name) {
      return "\"" + name + "\":\"" + scene.ca.url("/" + name) + "\",";
    };
    return R"({"url":")" + url + R"(","fetched":"2020-01-01T00:00:00Z","directory":{)" +
           member("newNonce") + member("newAccount") + member("newOrder") +
           R"("meta":{"caaIdentities":["CA.example"]}}})";
  };
  scene.storage.files["issuers/ca/directory.json"] = stored(directory);
  const auto failure = scene.obtain();
  CHECK(failure.local);
  CHECK_THAT(failure.sentence, Contains("issue \"ca.example\""));
  CHECK(scene.ca.requests().empty());
  scene.storage.files["issuers/ca/directory.json"] = stored("https://another.example/dir");
  CHECK_FALSE(scene.obtain().local);
}

TEST_CASE("a record for one account is compared with the stored one, of this CA alone") {
  Scene scene;
  scene.settings.caa_identities = {"ca.example"};
  scene.value = "ca.example; accounturi=https://ca.example/acct/2";
  CHECK_FALSE(scene.obtain().local);  // no account yet: it may become that one
  scene.storage.files.clear();
  scene.store_account("https://another.example/dir");
  CHECK_FALSE(scene.obtain().local);
  scene.storage.files.clear();
  scene.store_account(scene.ca.url("/dir"));
  const auto failure = scene.obtain();
  CHECK(failure.local);
  CHECK_THAT(failure.sentence, Contains("than ours, https://ca.example/acct/1"));
  scene.value = "ca.example; accounturi=https://ca.example/acct/1";
  CHECK_FALSE(scene.obtain().local);
}

TEST_CASE("a challenge that the records do not accept is not tried, even when the others fail") {
  test::ScriptedCa ca;
  ca.offer({"http-01", "tls-alpn-01"});
  ca.refuse_all("connection");
  Scene scene;
  scene.settings.directory = ca.authority.directory;
  scene.settings.caa_identities = {"ca.example"};
  const bool plain = GENERATE(true, false);
  const std::string accepted = plain ? "http-01" : "tls-alpn-01";
  const std::string forbidden = plain ? "tls-alpn-01" : "http-01";
  scene.last_challenge = GENERATE(as<std::string>{}, "", "http-01", "tls-alpn-01");
  scene.others["a.example"] = "ca.example; validationmethods=" + accepted;
  const auto failure = scene.obtain("a.example");
  CHECK_FALSE(failure.local);
  CHECK(failure.verdicts == 1);
  CHECK(ca.count("/order") == 1);
  CHECK(ca.count("/challenge/" + accepted) == 1);
  CHECK(ca.count("/challenge/" + forbidden) == 0);
}

TEST_CASE("names that no challenge can prove together are not ordered together") {
  Scene scene;
  scene.settings.caa_identities = {"ca.example"};
  scene.others["a.example"] = "ca.example; validationmethods=http-01";
  scene.others["b.example"] = "ca.example; validationmethods=tls-alpn-01";
  const auto failure = scene.obtain_all({"a.example", "b.example"});
  CHECK(failure.local);
  CHECK(failure.type == "caa");
  CHECK_THAT(failure.sentence, Contains("a.example, b.example: ca was not asked"));
  CHECK(scene.ca.requests().empty());
}

TEST_CASE("an address has no CAA records to look at") {
  Scene scene;
  scene.settings.caa_identities = {"ca.example"};
  CHECK_FALSE(scene.obtain("192.0.2.1").local);
  CHECK(scene.dns.asked().empty());
}

TEST_CASE("an authority keeps its settings alive, and no more of the configuration") {
  Scene scene;
  scene.settings.caa_identities = {"ca.example"};
  scene.value = "other.example";
  auto snapshot = std::make_shared<config::Snapshot>();
  snapshot->acme = scene.acme;
  const auto authority =
      acme_authority(scene.fetcher, scene.storage, Solvers{scene.http01, scene.tls_alpn01},
                     base::real_clock(), scene.settings, snapshot);
  const std::weak_ptr<config::Snapshot> left = std::exchange(snapshot, nullptr);
  CHECK(left.expired());
  Wanted wanted;
  wanted.id = "example.com";
  wanted.names = {"example.com"};
  CHECK(test::await(scene.control, authority.obtain(std::move(wanted))).error().local);
}

TEST_CASE("nothing is signed with a root of our own before that is stored") {
  boost::asio::io_context control;
  test::MemoryStorage storage;
  const auto authority = internal_authority(storage, base::real_clock());
  std::vector<Outcome<Issued>> outcomes;
  const auto ask = [&](const std::string& name) {
    Wanted wanted;
    wanted.names = {name};
    boost::asio::co_spawn(control, authority.obtain(std::move(wanted)),
                          [&](std::exception_ptr, Outcome<Issued> outcome) {
                            outcomes.push_back(std::move(outcome));
                          });
  };
  int refused = 0;
  storage.permit = [&](const std::string&, const std::string&) {
    // Somebody else wants one just then.
    if (++refused == 1) ask("b.example");
    control.poll();
    return false;
  };
  ask("a.example");
  control.run();
  REQUIRE(outcomes.size() == 2);
  for (const auto& outcome : outcomes) CHECK(outcome.has_error());
  storage.permit = nullptr;
  control.restart();
  ask("a.example");
  ask("b.example");
  control.run();
  REQUIRE(outcomes.size() == 4);
  CHECK(outcomes[2].has_value());
  CHECK(outcomes[3].has_value());
  CHECK(storage.folders["internal/root"].size() == 1);
}

}  // namespace gatehouse::acme
