#include "acme/caa_check.hpp"

#include <catch2/catch.hpp>

#include "tests/support/await.hpp"
#include "tests/support/dns_server.hpp"
#include "tests/support/manual_clock.hpp"

namespace gatehouse::acme {

namespace {

using namespace std::chrono_literals;
using test::await;
using test::dns::Asked;
using test::dns::Reply;
using test::dns::Server;
using Names = std::vector<std::string>;
using Catch::Contains;

constexpr unsigned soa_type = 6;

/// Zones in a table: name → its answer section. What is missing has no records.
struct Scene {
  /// `try_time`: short where silence is part of the test; else no answer is late, however busy the
  /// machine.
  explicit Scene(std::chrono::milliseconds try_time = 3s)
      : server(control, [this](const Asked& asked) { return answer(asked); }),
        check(settings(try_time), clock) {
    applicant.authority = "letsencrypt";
    applicant.identities = {"letsencrypt.org"};
    applicant.challenges = {"http-01", "tls-alpn-01"};
  }

  Reply answer(const Asked& asked) {
    Reply reply;
    if (asked.type == soa_type) {
      reply.authority = {test::dns::soa("example.com")};
      return reply;
    }
    if (const auto found = faults.find(asked.name); found != faults.end()) return found->second;
    if (const auto found = records.find(asked.name); found != records.end())
      reply.records = found->second;
    return reply;
  }

  dns::ResolverSettings settings(std::chrono::milliseconds try_time) const {
    dns::ResolverSettings result;
    result.servers = {server.address()};
    result.try_time = try_time;
    return result;
  }

  void set(const std::string& name, const std::string& value, const std::string& tag = "issue") {
    records[name] = {test::dns::caa(name, tag, value)};
  }

  Outcome<Names> run(const Names& names) { return await(control, check.run(names, applicant)); }
  bool allows(const std::string& name) { return static_cast<bool>(run({name})); }

  /// CAA questions since the last time.
  Names asked() {
    Names result;
    for (; seen < server.asked().size(); ++seen) {
      const auto& one = server.asked()[seen];
      if (one.type == 257) result.push_back(one.name);
    }
    return result;
  }

  boost::asio::io_context control;
  test::ManualClock clock;
  std::map<std::string, std::vector<std::string>> records;
  std::map<std::string, Reply> faults;
  Server server;
  CaaCheck check;
  CaaApplicant applicant;
  size_t seen = 0;
};

}  // namespace

TEST_CASE("the tree is climbed label by label, and the first set found wins") {
  Scene scene;
  CHECK(scene.allows("a.b.example.com"));
  CHECK(scene.asked() == Names{"a.b.example.com", "b.example.com", "example.com", "com"});
  Scene parent;
  parent.set("example.com", "digicert.com");
  CHECK_FALSE(parent.allows("a.b.example.com"));
  CHECK(parent.asked() == Names{"a.b.example.com", "b.example.com", "example.com"});
  Scene nearer;
  nearer.set("example.com", "digicert.com");
  nearer.set("b.example.com", "letsencrypt.org");
  CHECK(nearer.allows("a.b.example.com"));
  CHECK_FALSE(nearer.allows("c.example.com"));
  Scene top;
  top.set("com", "digicert.com");
  CHECK_FALSE(top.allows("example.com"));
}

TEST_CASE("a set without issue properties ends the climb too") {
  Scene scene;
  scene.set("example.com", ";");
  scene.set("www.example.com", "mailto:a@example.com", "iodef");
  CHECK(scene.allows("www.example.com"));
}

TEST_CASE("a wildcard is judged at the name below its star") {
  Scene scene;
  scene.set("example.com", ";", "issuewild");
  CHECK_FALSE(scene.allows("*.example.com"));
  CHECK(scene.asked() == Names{"example.com"});
  CHECK(scene.allows("www.example.com"));
}

TEST_CASE("a CNAME's target counts for the name, and the name's own parents after it") {
  Scene scene;
  scene.records["www.example.com"] = {test::dns::cname("www.example.com", "cdn.example.net"),
                                      test::dns::caa("cdn.example.net", "issue", "digicert.com")};
  const auto outcome = scene.run({"www.example.com"});
  REQUIRE_FALSE(outcome.has_value());
  CHECK_THAT(outcome.error().sentence, Contains("CAA record of cdn.example.net, to which "
                                                "www.example.com leads by CNAME"));
  Scene parents;
  parents.records["www.example.com"] = {test::dns::cname("www.example.com", "cdn.example.net")};
  parents.set("example.net", ";");  // the target's parent: it does not count
  parents.set("example.com", "letsencrypt.org");
  CHECK(parents.allows("www.example.com"));
}

TEST_CASE("the failure is one found here, and names the zone") {
  Scene scene;
  scene.set("example.com", "digicert.com");
  const auto outcome = scene.run({"ok.example.org", "www.example.com"});
  REQUIRE_FALSE(outcome.has_value());
  CHECK(outcome.error().local);
  CHECK(outcome.error().kind == FailureClass::validation);
  CHECK(outcome.error().type == "caa");
  CHECK_THAT(outcome.error().sentence, Contains("www.example.com: letsencrypt was not asked"));
  CHECK_THAT(outcome.error().sentence,
             Contains("(add to the zone example.com: example.com. CAA 0 issue"));
}

TEST_CASE("addresses are not looked up, and challenges are those that every name accepts") {
  Scene scene;
  scene.set("a.example", "letsencrypt.org; validationmethods=tls-alpn-01");
  scene.set("b.example", "letsencrypt.org; validationmethods=http-01,tls-alpn-01");
  CHECK(scene.run({"192.0.2.1", "2001:db8::1"}).value() == Names{"http-01", "tls-alpn-01"});
  CHECK(scene.asked().empty());
  CHECK(scene.run({"b.example", "a.example", "192.0.2.1"}).value() == Names{"tls-alpn-01"});
}

TEST_CASE("what cannot be known forbids nothing, at the name or above it") {
  const int rcode = GENERATE(2, 5);
  const auto* where = GENERATE("www.example.com", "example.com");
  Scene scene;
  scene.set("example.com", ";");
  scene.faults[where].rcode = rcode;
  CHECK(scene.allows("www.example.com"));
}

TEST_CASE("a burst for one zone asks for it once") {
  Scene scene;
  scene.set("example.com", "letsencrypt.org");
  size_t ended = 0;
  constexpr size_t count = 50;
  for (size_t i = 0; i < count; ++i) {
    const Names names{"n" + std::to_string(i) + ".example.com"};
    boost::asio::co_spawn(scene.control, scene.check.run(names, scene.applicant),
                          [&](std::exception_ptr, const Outcome<Names>& outcome) {
                            CHECK(outcome.has_value());
                            ++ended;
                          });
  }
  while (ended < count) scene.control.run_one();
  CHECK(scene.asked().size() == count + 1);
}

TEST_CASE("what was found is kept for five minutes") {
  Scene scene;
  scene.set("example.com", "letsencrypt.org");
  CHECK(scene.allows("example.com"));
  CHECK(scene.asked().size() == 1);
  scene.clock.advance(299s);
  CHECK(scene.allows("example.com"));
  CHECK(scene.asked().empty());
  scene.clock.advance(2s);
  CHECK(scene.allows("example.com"));
  CHECK(scene.asked().size() == 1);
}

TEST_CASE("records that forbid are asked for anew after ten seconds: a person mends them") {
  Scene scene;
  scene.set("example.com", "digicert.com");
  CHECK_FALSE(scene.allows("www.example.com"));
  CHECK(scene.asked().size() == 2);
  scene.clock.advance(5s);
  CHECK_FALSE(scene.allows("www.example.com"));
  CHECK(scene.asked().empty());
  scene.clock.advance(6s);
  scene.set("www.example.com", "letsencrypt.org");
  CHECK(scene.allows("www.example.com"));
  CHECK(scene.asked() == Names{"www.example.com"});
}

TEST_CASE("a failed look is tried again after half a minute") {
  Scene scene;
  scene.faults["example.com"].rcode = 2;
  CHECK(scene.allows("example.com"));
  CHECK(scene.allows("example.com"));
  CHECK(scene.asked().size() == 1);
  scene.faults.clear();
  scene.set("example.com", ";");
  scene.clock.advance(31s);
  CHECK_FALSE(scene.allows("example.com"));
}

TEST_CASE("after three lookups without an answer none is made for half a minute") {
  Scene scene(200ms);
  scene.server.script([](const Asked&) {
    Reply silence;
    silence.silent = true;
    return silence;
  });
  for (const auto* name : {"a.example", "b.example", "c.example"}) CHECK(scene.allows(name));
  CHECK(scene.asked().size() == 6);  // two rounds each
  CHECK(scene.allows("d.example"));
  CHECK(scene.asked().empty());
  scene.server.script([&scene](const Asked& asked) { return scene.answer(asked); });
  scene.set("d.example", ";");
  scene.clock.advance(31s);
  CHECK_FALSE(scene.allows("d.example"));
}

}  // namespace gatehouse::acme
