// What a person may ask the manager for, over a CA that the test scripts.
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "acme/certificate_details.hpp"
#include "acme/names.hpp"
#include "acme/times.hpp"
#include "tests/acme/manager_stage.hpp"
#include "tests/support/scripted_server.hpp"

using namespace gatehouse;
using namespace gatehouse::acme;
using namespace std::chrono_literals;
namespace asio = boost::asio;
using base::ErrorKind;
using Mode = config::CertificateMode;

namespace {

struct Ca {
  explicit Ca(const base::Clock& k) : clock(k) {
    root = *tls::InternalAuthority::create("Scripted CA");
  }

  static asio::awaitable<Outcome<Issued>> obtain(Ca* ca, Wanted wanted) {
    ca->orders.push_back(wanted.names.front());
    if (const auto gate = ca->gate) {
      boost::system::error_code ignored;
      co_await gate->async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    if (ca->failure) co_return *ca->failure;
    co_return issue(ca->root, wanted.names, ca->clock.wall(), 24h * 90);
  }
  static asio::awaitable<Outcome<void>> revoke(Ca* ca, std::string serial, int reason) {
    ca->revoked.emplace_back(std::move(serial), reason);
    if (ca->refusal) co_return *ca->refusal;
    co_return Outcome<void>();
  }
  static asio::awaitable<Outcome<void>> roll_over(Ca* ca) {
    ++ca->rollovers;
    if (ca->refusal) co_return *ca->refusal;
    co_return Outcome<void>();
  }
  static asio::awaitable<bool> probe() { co_return true; }

  Authority authority(const config::CertificateAuthority& settings) {
    Authority made;
    made.name = settings.name;
    made.directory = settings.directory;
    made.obtain = [this](Wanted wanted) { return obtain(this, std::move(wanted)); };
    made.revoke = [this](tls::CertificatePtr certificate, int reason) {
      return revoke(this, certificate->serial(), reason);
    };
    made.roll_over_account_key = [this] { return roll_over(this); };
    made.forget = [](std::string) { return forget_nothing(); };
    made.probe = [] { return probe(); };
    made.orders_placed = [this] { return static_cast<uint64_t>(orders.size()); };
    made.date = [] { return no_date(); };
    return made;
  }

  const base::Clock& clock;
  tls::CertificatePtr root;
  std::vector<std::string> orders;
  std::vector<std::pair<std::string, int>> revoked;
  int rollovers = 0;
  std::shared_ptr<asio::steady_timer> gate;  // orders wait for its end
  std::optional<Failure> failure;
  std::optional<Failure> refusal;
};

Failure scripted(FailureClass kind, std::string type = "") {
  Failure made;
  made.kind = kind;
  made.sentence = "a.example: scripted failure";
  made.type = std::move(type);
  return made;
}

struct World : ManagerStage {
  explicit World(const std::string& directory = "https://ca.test/dir") : ca(clock) {
    use("test-ca", directory);
    start();
  }
  ~World() { end(); }

  void start() {
    ManagerHooks hooks = ManagerStage::hooks();
    hooks.check = [this](const std::string&, const tls::CertificatePtr& one,
                         const std::function<void(std::optional<std::string>)>& report) {
      asio::post(control,
                 [report, problem = problem_of ? problem_of(one) : ""] { report(problem); });
    };
    ManagerStage::start(std::move(hooks), [this](const config::CertificateAuthority& settings) {
      return ca.authority(settings);
    });
  }
  void site(const std::string& host, Mode mode = Mode::automatic) {
    ManagerStage::site(host, mode);
    if (mode == Mode::on_demand) allow(host);
  }
  void configure() { REQUIRE(ManagerStage::configure()); }
  void pass(std::chrono::nanoseconds time) {
    clock.advance(time);
    manager->recheck();
    settle();
  }
  base::Result<CertificateDetails> show(const std::string& name) {
    return test::await(control, manager->show(name));
  }
  base::Result<void> renew(const std::string& name, bool force = false) {
    auto result = test::await(control, manager->renew(name, force));
    settle();
    return result;
  }
  base::Result<void> revoke(const std::string& name, int reason = 0) {
    auto result = test::await(control, manager->revoke(name, reason));
    settle();
    return result;
  }
  std::string serial(const std::string& name) {
    return served.contains(name) ? served[name]->serial() : std::string();
  }

  Ca ca;
  /// What a visitor would find wrong with the certificate; empty: nothing.
  std::function<std::string(const tls::CertificatePtr&)> problem_of;
};

bool says(const base::Error& error, std::string_view words) {
  INFO(error.context);
  return error.context.find(words) != std::string::npos;
}

constexpr const char* letsencrypt = "https://acme-v02.api.letsencrypt.org/directory";

}  // namespace

TEST_CASE("What is known of a certificate is shown") {
  World world(letsencrypt);
  world.site("a.example");
  world.configure();
  const auto shown = world.show("a.example");
  REQUIRE(shown);
  CHECK(shown->status.state == "active");
  CHECK(shown->authority == "test-ca");
  CHECK(shown->names == std::vector<std::string>{"a.example"});
  CHECK(shown->key == "P-256");
  CHECK(shown->fingerprint == world.served["a.example"]->fingerprint());
  REQUIRE(!shown->chain.empty());
  CHECK(shown->chain[0].subject == "a.example");
  CHECK(shown->chain[0].issuer == "Scripted CA");
  CHECK(shown->orders_today == 1);
  CHECK(shown->failures == 0);
  REQUIRE(shown->budgets.size() == 1);
  CHECK(shown->budgets[0].left.counted);
  CHECK(shown->budgets[0].left.name_set == 4);
  CHECK(shown->budgets[0].left.domain == 49);
  CHECK(shown->budgets[0].left.orders == 299);
}

TEST_CASE("A name without a certificate is shown with its failure, an unknown one is none") {
  World world;
  world.ca.failure = scripted(FailureClass::validation);
  world.site("a.example");
  world.configure();
  const auto shown = world.show("a.example");
  REQUIRE(shown);
  CHECK(shown->status.state == "backoff");
  CHECK(shown->status.last_error == "a.example: scripted failure");
  CHECK(shown->failures >= 1);
  CHECK(shown->names.empty());
  for (const char* const name : {"b.example", "", "*.a.example", "x.a.example"}) {
    const auto none = world.show(name);
    REQUIRE(!none);
    CHECK(none.error().kind == ErrorKind::not_found);
  }
}

TEST_CASE("A name below a wildcard is shown with the wildcard's certificate") {
  World world;
  world.site("*.shops.example");
  world.configure();
  const auto shown = world.show("b.shops.example");
  REQUIRE(shown);
  CHECK(shown->status.name == "*.shops.example");
}

TEST_CASE("An on-demand certificate that is not loaded is shown from storage") {
  World world;
  world.site("*.shops.example", Mode::on_demand);
  world.configure();
  world.manager->acquire("b.shops.example", "127.0.0.1", [](tls::Acquired) {});
  world.settle();
  world.start();
  world.configure();
  const auto shown = world.show("b.shops.example");
  REQUIRE(shown);
  CHECK(shown->status.state == "stored");
  CHECK(shown->names == std::vector<std::string>{"b.shops.example"});
  CHECK(world.served.empty());
}

TEST_CASE("What is not due is renewed with force alone, and the refusal says when it will be") {
  World world;
  world.site("a.example");
  world.configure();
  const std::string first = world.serial("a.example");
  const auto refused = world.renew("a.example");
  REQUIRE(!refused);
  CHECK(refused.error().kind == ErrorKind::unavailable);
  CHECK(says(refused.error(), "--force"));
  CHECK(says(refused.error(), timestamp(world.show("a.example")->status.renew_at)));
  CHECK(world.ca.orders.size() == 1);
  CHECK(world.renew("a.example", true));
  CHECK(world.ca.orders.size() == 2);
  CHECK(world.serial("a.example") != first);
}

TEST_CASE("A person does not wait for the next attempt after a failure") {
  World world;
  world.ca.failure = scripted(FailureClass::policy);
  world.site("a.example");
  world.configure();
  const size_t before = world.ca.orders.size();
  CHECK(world.show("a.example")->status.state == "blocked");
  world.pass(1min);
  CHECK(world.ca.orders.size() == before);
  world.ca.failure.reset();
  CHECK(world.renew("a.example"));
  CHECK(world.ca.orders.size() == before + 1);
  CHECK(world.show("a.example")->status.state == "active");
}

TEST_CASE("A person's order stands, whatever 'ask' answers meanwhile") {
  World world;
  size_t asked = 0;
  const test::ScriptedServer server(world.control, [&](const test::ScriptedRequest&) {
    ++asked;
    test::ScriptedReply reply;
    reply.status = 404;
    return reply;
  });
  world.site("*.shops.example", Mode::on_demand);
  world.snapshot.on_demand.allow.clear();
  world.snapshot.on_demand.ask = server.url("/ask");
  world.configure();
  const size_t before = asked;
  const auto ask_for = [&](const std::string& name) {
    auto outcome = std::make_shared<std::optional<tls::Acquired::Outcome>>();
    world.manager->acquire(name, "127.0.0.1",
                           [outcome](tls::Acquired given) { *outcome = given.outcome; });
    return outcome;
  };
  const auto run_until = [&](const std::function<bool()>& done) {
    for (int turn = 0; turn < 1000 && !done(); ++turn) {
      world.control.restart();
      world.control.run_one_for(10s);
    }
    REQUIRE(done());
  };
  const auto first = ask_for("a.shops.example");
  REQUIRE(world.renew("a.shops.example"));
  CHECK(*first == tls::Acquired::Outcome::ready);
  run_until([&] { return asked == before + 1; });
  const auto second = ask_for("b.shops.example");
  run_until([&] { return second->has_value(); });
  CHECK(*second == tls::Acquired::Outcome::denied);
  CHECK(world.show("a.shops.example")->status.state == "active");
}

TEST_CASE("The last order of a name is kept for a person, who has no more than that") {
  World world(letsencrypt);
  const auto used_up = [&](int taken) {
    const auto full = world.clock.wall() + taken * std::chrono::hours(7 * 24) / 5;
    world.memory.files["issuers/test-ca/rate.json"] = fmt::format(
        R"({{"version":1,"full_at_ms":{{"set:a.example":{}}}}})",
        std::chrono::duration_cast<std::chrono::milliseconds>(full.time_since_epoch()).count());
  };
  used_up(4);
  world.site("a.example");
  world.configure();
  CHECK(world.ca.orders.empty());
  CHECK(world.show("a.example")->budgets[0].left.name_set == 1);
  CHECK(world.renew("a.example"));
  CHECK(world.ca.orders.size() == 1);
  CHECK(world.served.contains("a.example"));

  World without(letsencrypt);
  without.memory.files = world.memory.files;
  used_up(5);
  without.memory.files["issuers/test-ca/rate.json"] =
      world.memory.files["issuers/test-ca/rate.json"];
  without.clock.set_wall(world.clock.wall());
  without.site("a.example");
  without.configure();
  const auto refused = without.renew("a.example", true);
  REQUIRE(!refused);
  CHECK(refused.error().kind == ErrorKind::unavailable);
  CHECK(says(refused.error(), "limits"));
  CHECK(without.ca.orders.empty());
}

TEST_CASE("A moment that the CA named is kept, whoever asks") {
  World world;
  world.ca.failure = scripted(FailureClass::rate_limit);
  world.ca.failure->retry_at = world.clock.wall() + 1h;
  world.site("a.example");
  world.configure();
  const size_t before = world.ca.orders.size();
  REQUIRE(!world.renew("a.example", true));
  CHECK(world.ca.orders.size() == before);
}

TEST_CASE("Nothing is renewed or revoked for a name that no site has") {
  World world;
  world.site("a.example");
  world.site("*", Mode::on_demand);
  world.configure();
  for (const char* const name : {"b.example", "x.other", ""}) {
    CHECK(world.renew(name, true).error().kind == ErrorKind::not_found);
    CHECK(world.revoke(name).error().kind == ErrorKind::not_found);
  }
  world.snapshot.sites.clear();
  world.site("c.example");
  world.configure();
  const auto archived = world.renew("a.example", true);
  REQUIRE(!archived);
  CHECK(archived.error().kind == ErrorKind::unavailable);
  CHECK(says(archived.error(), "archive"));
  CHECK(world.show("a.example")->status.state == "archived");
}

TEST_CASE("What is revoked is replaced at once and served until then") {
  World world;
  world.site("a.example");
  world.configure();
  const std::string first = world.serial("a.example");
  world.ca.failure = scripted(FailureClass::validation);
  CHECK(world.revoke("a.example", 4));
  REQUIRE(world.ca.revoked.size() == 1);
  CHECK(world.ca.revoked[0] == std::pair<std::string, int>(first, 4));
  CHECK(world.serial("a.example") == first);
  CHECK(world.show("a.example")->status.state == "revoked");
  const auto twice = world.revoke("a.example");
  REQUIRE(!twice);
  CHECK(says(twice.error(), "revoked already"));
  CHECK(world.ca.revoked.size() == 1);

  world.ca.failure.reset();
  CHECK(world.renew("a.example"));
  CHECK(world.serial("a.example") != first);
  CHECK(world.show("a.example")->status.state == "active");
  CHECK(world.memory.files.count("revoked/a.example") == 0);
}

TEST_CASE("What is revoked is not returned to, even where the new one is not seen") {
  World world;
  world.site("a.example");
  world.configure();
  const std::string first = world.serial("a.example");
  world.problem_of = [first](const tls::CertificatePtr& one) {
    return one->serial() == first ? "" : "another is shown";
  };
  REQUIRE(world.revoke("a.example"));
  CHECK(world.ca.orders.size() == 2);
  CHECK(world.serial("a.example") != first);
}

TEST_CASE("A revoked certificate is not taken for a good one after a restart") {
  World world;
  world.site("a.example");
  world.configure();
  const std::string first = world.serial("a.example");
  world.ca.failure = scripted(FailureClass::internal);
  CHECK(world.revoke("a.example"));
  CHECK(world.serial("a.example") == first);
  world.ca.failure.reset();
  world.start();
  world.configure();
  world.pass(1s);
  CHECK(world.serial("a.example") != first);
  CHECK(world.ca.revoked.size() == 1);
}

TEST_CASE("A compromised key is no longer served, nor found again by its name") {
  World world;
  world.site("a.example");
  world.configure();
  const std::string first = world.serial("a.example");
  world.ca.failure = scripted(FailureClass::internal);
  CHECK(world.revoke("a.example", 1));
  CHECK(world.serial("a.example").empty());
  CHECK(!world.memory.folders.contains("certs/a.example"));
  CHECK(world.memory.folders.contains("archive/a.example+revoked-" + first));
  world.ca.failure.reset();
  world.start();
  world.configure();
  CHECK(world.serial("a.example") != first);
  CHECK(!world.serial("a.example").empty());
}

TEST_CASE("What the CA does not revoke stays as it was") {
  World world;
  world.site("a.example");
  world.configure();
  const std::string first = world.serial("a.example");
  world.ca.refusal = scripted(FailureClass::internal, "unauthorized");
  const auto refused = world.revoke("a.example", 1);
  REQUIRE(!refused);
  CHECK(refused.error().kind == ErrorKind::protocol);
  CHECK(says(refused.error(), "scripted failure"));
  CHECK(world.serial("a.example") == first);
  CHECK(world.show("a.example")->status.state == "active");
  CHECK(world.ca.orders.size() == 1);
  // Somebody else revoked it before us: that is what was wanted.
  world.ca.refusal = scripted(FailureClass::internal, "alreadyRevoked");
  CHECK(world.revoke("a.example"));
  CHECK(world.ca.orders.size() == 2);
}

TEST_CASE("What cannot be revoked is said to be so") {
  World world;
  world.site("inside.example", Mode::internal);
  world.ca.failure = scripted(FailureClass::policy);
  world.site("a.example");
  world.configure();
  CHECK(says(world.revoke("inside.example").error(), "own authority"));
  CHECK(says(world.revoke("a.example").error(), "no certificate yet"));
  CHECK(world.renew("inside.example", true));
}

TEST_CASE("An account's key is changed at the CA that is named") {
  World world;
  world.site("a.example");
  world.configure();
  CHECK(test::await(world.control, world.manager->roll_over("test-ca")));
  CHECK(world.ca.rollovers == 1);
  const auto unknown = test::await(world.control, world.manager->roll_over("other"));
  REQUIRE(!unknown);
  CHECK(unknown.error().kind == ErrorKind::not_found);
  CHECK(says(unknown.error(), "test-ca"));
  world.ca.refusal = scripted(FailureClass::account);
  CHECK(test::await(world.control, world.manager->roll_over("test-ca")).error().kind ==
        ErrorKind::protocol);
  const auto list = world.manager->budget();
  REQUIRE(list.size() == 1);
  CHECK(list[0].authority == "test-ca");
  CHECK(!list[0].open);
}

TEST_CASE("An account's key is not changed under orders of the settings before") {
  World world;
  world.ca.gate =
      std::make_shared<asio::steady_timer>(world.control, asio::steady_timer::time_point::max());
  world.site("a.example");
  world.configure();
  REQUIRE(world.ca.orders.size() == 1);
  world.snapshot.acme.email = "another@example.com";
  world.configure();
  const auto early = test::await(world.control, world.manager->roll_over("test-ca"));
  REQUIRE(!early);
  CHECK(early.error().kind == ErrorKind::unavailable);
  CHECK(says(early.error(), "before the last reload"));
  CHECK(world.ca.rollovers == 0);
  std::exchange(world.ca.gate, nullptr)->cancel();
  world.settle();
  CHECK(test::await(world.control, world.manager->roll_over("test-ca")));
  CHECK(world.ca.rollovers == 1);
}

TEST_CASE("Names with a person's certificate are left alone, and taken up again") {
  World world;
  world.site("a.example");
  world.site("b.example");
  world.manager->leave_to_owner({"a.example"});
  world.configure();
  CHECK(world.ca.orders == std::vector<std::string>{"b.example"});
  CHECK(world.renew("a.example", true).error().kind == ErrorKind::not_found);

  world.manager->leave_to_owner({"b.example"});
  world.settle();
  CHECK(world.ca.orders == std::vector<std::string>{"b.example", "a.example"});
  CHECK(!world.served.contains("b.example"));
  CHECK(world.memory.folders.contains("certs/b.example"));

  world.manager->leave_to_owner({});
  world.settle();
  CHECK(world.ca.orders.size() == 2);  // b's was stored
  CHECK(world.served.contains("b.example"));
}

TEST_CASE("Names that a person may ask for are host names, wildcards and addresses") {
  CHECK(requested_name("A.Example.") == "a.example");
  CHECK(requested_name("*.Example.com") == "*.example.com");
  CHECK(requested_name("localhost") == "localhost");
  CHECK(requested_name("2001:DB8:0::1") == "2001:db8::1");
  for (const char* const bad : {"",
                                ".",
                                "..",
                                "*",
                                "*.",
                                "a b",
                                "a/b",
                                "a\nb",
                                "-a.example",
                                "a-",
                                "1.2.3.4.5",
                                "256.1.1.1",
                                "a..b",
                                "fe80::1%lo",
                                "[::1]",
                                "a:80",
                                "\xc3\xbc.example",
                                "a\\b",
                                "'a'",
                                "$(a)",
                                "a;b"})
    CHECK(requested_name(bad) == "");
}

TEST_CASE("What is left of a bucket counts down and refills") {
  using Time = Buckets::Time;
  const Time start = Time(std::chrono::seconds(1'800'000'000));
  Buckets buckets;
  const Limit limit{5, 500s};
  CHECK(buckets.left("x", limit, start) == 5);
  for (uint32_t taken = 1; taken <= 5; ++taken) {
    buckets.take("x", limit, start);
    CHECK(buckets.left("x", limit, start) == 5 - taken);
  }
  CHECK(buckets.left("x", limit, start + 99s) == 0);
  CHECK(buckets.left("x", limit, start + 100s) == 1);
  CHECK(buckets.left("x", limit, start + 1000s) == 5);
  buckets.empty_until("y", limit, start + 1h);
  CHECK(buckets.left("y", limit, start) == 0);
}
