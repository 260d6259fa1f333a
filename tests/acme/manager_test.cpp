
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "acme/certificate_details.hpp"
#include "acme/manager_state.hpp"
#include "acme/names.hpp"
#include "acme/on_demand.hpp"
#include "acme/storage/file.hpp"
#include "acme/vault.hpp"
#include "base/log.hpp"
#include "tests/acme/manager_stage.hpp"
#include "tests/support/scripted_server.hpp"

using namespace gatehouse;
using namespace gatehouse::acme;
using namespace std::chrono_literals;
namespace asio = boost::asio;
using Given = tls::Acquired::Outcome;
using Mode = config::CertificateMode;

namespace {

/// A CA whose answers the test decides: at once, later, or never.
struct ScriptedCa {
  ScriptedCa(asio::io_context& c, const base::Clock& k) : control(c), time(k) {
    root = *tls::InternalAuthority::create("Scripted CA");
  }

  static asio::awaitable<Outcome<Issued>> obtain(ScriptedCa* ca, std::vector<std::string> names) {
    ca->orders.push_back(names.front());
    ++ca->running;
    ca->running_max = std::max(ca->running_max, ca->running);
    if (ca->hang) {
      asio::steady_timer& event = *ca->events.emplace_back(
          std::make_unique<asio::steady_timer>(ca->control, asio::steady_timer::time_point::max()));
      boost::system::error_code error;
      co_await event.async_wait(asio::redirect_error(asio::use_awaitable, error));
      if (ca->hang || ca->interrupted_fails) {
        --ca->running;
        ++ca->interruptions;
        Failure failure;
        failure.kind = FailureClass::transport;
        failure.sentence = "given up";
        co_return failure;
      }
    }
    --ca->running;
    const bool fails =
        ca->failing.empty() || ca->failing == names.front() || ca->failing_too == names.front();
    if (ca->failure && fails) co_return *ca->failure;
    co_return issue(ca->root, names, ca->time.wall(), ca->lifetime);
  }
  static asio::awaitable<void> forget(ScriptedCa* ca, std::string id) {
    ca->forgotten.push_back(id);
    co_return;
  }
  static asio::awaitable<bool> probe(ScriptedCa* ca) {
    ++ca->probes;
    if (ca->probe_hangs) {
      asio::steady_timer& event = *ca->events.emplace_back(
          std::make_unique<asio::steady_timer>(ca->control, asio::steady_timer::time_point::max()));
      boost::system::error_code error;
      co_await event.async_wait(asio::redirect_error(asio::use_awaitable, error));
    }
    co_return ca->probe_well && !ca->probe_hangs;
  }
  static asio::awaitable<std::optional<base::WallClock::time_point>> date(ScriptedCa* ca) {
    co_return ca->clock;
  }

  Authority authority(const config::CertificateAuthority& settings) {
    Authority made;
    made.name = settings.name;
    made.directory = settings.directory;
    made.obtain = [this](Wanted wanted) { return obtain(this, std::move(wanted.names)); };
    made.forget = [this](std::string id) { return forget(this, std::move(id)); };
    made.probe = [this] { return probe(this); };
    made.orders_placed = [this] { return static_cast<uint64_t>(orders.size()); };
    made.date = [this] { return date(this); };
    return made;
  }
  void fail(FailureClass kind, std::optional<base::WallClock::time_point> until = std::nullopt) {
    Failure made;
    made.kind = kind;
    made.sentence = "a.example: scripted failure";
    made.retry_at = until;
    failure = made;
  }
  void release() {
    hang = false;
    for (auto& event : events) event->cancel();
  }

  asio::io_context& control;
  const base::Clock& time;
  tls::CertificatePtr root;
  std::vector<std::string> orders;
  std::vector<std::string> forgotten;
  std::optional<Failure> failure;
  std::string failing, failing_too;  // these names alone; empty: all
  std::optional<base::WallClock::time_point> clock;
  std::chrono::seconds lifetime = 24h * 90;
  bool hang = false;
  bool interrupted_fails = false;
  bool probe_well = true;
  bool probe_hangs = false;
  int probes = 0;
  int interruptions = 0;
  int running = 0;
  int running_max = 0;
  std::vector<std::unique_ptr<asio::steady_timer>> events;
};

struct World : ManagerStage {
  World() : ca(control, clock) {
    use("test-ca", "https://ca.test/dir");
    start();
  }
  ~World() {
    manager.reset();
    ca.release();
    settle();
  }

  void start() {
    ManagerHooks hooks = ManagerStage::hooks();
    hooks.serve_fallback = [this](const std::string& zone, tls::CertificatePtr one) {
      fallbacks[zone] = one;
    };
    hooks.own_fallback = [this](const std::string&) { return own_fallback; };
    hooks.check = [this](const std::string& name, const tls::CertificatePtr& one,
                         const std::function<void(std::optional<std::string>)>& report) {
      ++checks;
      asio::post(control, [report, problem = problem_of ? problem_of(name, one)
                                                        : std::optional<std::string>("")] {
        report(problem);
      });
    };
    ManagerStage::start(std::move(hooks), [this](const config::CertificateAuthority& settings) {
      const auto desk = std::make_shared<int>();
      desks.push_back(desk);
      Authority made = ca.authority(settings);
      made.accounts_made = [desk] { return uint64_t{0}; };
      return made;
    });
  }
  void pass(std::chrono::nanoseconds time) {
    // In steps, as real time passes: a probe every 15 s is no probe a day.
    constexpr std::chrono::nanoseconds step = 250ms;
    const bool fine = time <= 10min;
    while (fine && time > step) {
      clock.advance(step);
      time -= step;
      manager->recheck();
      settle();
    }
    clock.advance(time);
    manager->recheck();
    settle();
  }
  struct Answer {
    std::optional<tls::Acquired> given;
    int times = 0;
  };
  std::shared_ptr<Answer> ask_for(const std::string& name,
                                  const std::string& client = "127.0.0.1") {
    auto answer = std::make_shared<Answer>();
    manager->acquire(name, client, [answer](tls::Acquired acquired) {
      answer->given = std::move(acquired);
      ++answer->times;
    });
    return answer;
  }
  /// Answered without any time passing.
  Given at_once(const std::string& name, const std::string& client = "127.0.0.1") {
    const auto answer = ask_for(name, client);
    settle();
    REQUIRE(answer->times == 1);
    return answer->given->outcome;
  }
  int64_t count(base::Metric metric) const { return metrics.total(metric); }

  ScriptedCa ca;
  std::map<std::string, tls::CertificatePtr> fallbacks;
  tls::CertificatePtr own_fallback;  // the user's, for every name
  /// What a visitor would find wrong with the certificate; empty: nothing.
  std::function<std::optional<std::string>(const std::string& name, const tls::CertificatePtr&)>
      problem_of;
  int checks = 0;
  std::vector<std::weak_ptr<int>> desks;  // what is left of each authority that was made
};

/// The program's log, from warnings on, while it lives.
class Warnings {
 public:
  Warnings() {
    char pattern[] = "/tmp/gatehouse-warnings-XXXXXX";
    const int descriptor = ::mkstemp(pattern);
    REQUIRE(descriptor >= 0);
    ::close(descriptor);
    path_ = pattern;
    base::log::Settings settings;
    settings.level = base::log::Level::warn;
    settings.file = path_;
    REQUIRE(base::log::configure(settings).empty());
  }
  ~Warnings() {
    base::log::Settings quiet;
    quiet.level = base::log::Level::error;
    base::log::configure(quiet);
    std::filesystem::remove(path_);
  }
  Warnings(const Warnings&) = delete;
  Warnings& operator=(const Warnings&) = delete;
  std::string text() const {
    std::ifstream file(path_);
    return {std::istreambuf_iterator<char>(file), {}};
  }

 private:
  std::string path_;
};

/// Stored as by an earlier life of the program, issued `age` ago.
void stock(World& world, const std::vector<std::string>& names, std::chrono::hours age = 24h,
           bool index = true) {
  Vault vault(world.memory);
  REQUIRE(test::await(world.control, vault.read_index()));
  for (const auto& name : names) {
    tls::CertificateDraft draft;
    draft.common_name = name;
    draft.names = {name};
    draft.not_before = world.clock.wall() - age;
    draft.not_after = draft.not_before + 90 * 24h;
    auto made = tls::build_with_key(draft, world.ca.root.get());
    REQUIRE(made);
    CertificateNote note;
    note.name = name;
    note.authority = "test-ca";
    REQUIRE(test::await(world.control, vault.save(certificate_id(name), *made, note)));
    if (index) vault.ledger().look_at(name, draft.not_before + 60 * 24h);
  }
  if (index) REQUIRE(test::await(world.control, vault.save_index()));
}

std::vector<std::string> numbered(size_t count, const std::string& zone) {
  std::vector<std::string> names;
  for (size_t i = 0; i < count; ++i) names.push_back(fmt::format("n{}.{}", i, zone));
  return names;
}

}  // namespace

TEST_CASE("A configured name is ordered at once, served, stored, and its order forgotten") {
  World world;
  world.site("a.example", Mode::automatic);
  REQUIRE(world.configure());
  CHECK(world.ca.orders == std::vector<std::string>{"a.example"});
  REQUIRE(world.served.contains("a.example"));
  CHECK(world.memory.folders.contains("certs/a.example"));
  const auto& files = world.memory.folders["certs/a.example"].back();
  for (const char* name : {"cert.pem", "chain.pem", "fullchain.pem", "privkey.pem", "meta.json"})
    CHECK(files.contains(name));
  CHECK(world.ca.forgotten == std::vector<std::string>{"a.example"});
  CHECK(world.status("a.example").state == "active");
  CHECK(world.count(base::Metric::certificates_issued) == 1);
  CHECK(world.count(base::Metric::certificate_orders) == 1);
}

TEST_CASE("A restart serves what is stored and orders nothing") {
  World world;
  world.site("a.example", Mode::automatic);
  world.site("*.shops.example", Mode::on_demand);
  world.allow("*.shops.example");
  REQUIRE(world.configure());
  CHECK(world.at_once("b.shops.example") == Given::ready);
  CHECK(world.ca.orders.size() == 2);
  world.start();
  REQUIRE(world.configure());
  CHECK(world.served.contains("a.example"));
  CHECK_FALSE(world.served.contains("b.shops.example"));  // not before it is wanted
  world.snapshot.on_demand.allow.clear();
  world.snapshot.on_demand.ask = "http://127.0.0.1:1/";
  REQUIRE(world.configure());
  CHECK(world.at_once("b.shops.example") == Given::ready);  // neither asked nor counted
  CHECK(world.ca.orders.size() == 2);
  CHECK(world.count(base::Metric::ondemand_asks) == 1);  // the start's own
}

TEST_CASE("100 handshakes for one new name are one order and share its end") {
  World world;
  world.site("*.shops.example", Mode::on_demand);
  world.allow("*.shops.example");
  REQUIRE(world.configure());
  world.ca.hang = true;
  std::vector<std::shared_ptr<World::Answer>> answers;
  for (int number = 0; number < 100; ++number) answers.push_back(world.ask_for("a.shops.example"));
  world.settle();
  CHECK(world.ca.orders.size() == 1);
  for (const auto& answer : answers) CHECK(answer->times == 0);
  world.ca.release();
  world.settle();
  for (const auto& answer : answers) {
    REQUIRE(answer->times == 1);
    CHECK(answer->given->outcome == Given::ready);
    CHECK(answer->given->certificate == answers[0]->given->certificate);
  }
  CHECK(world.ca.orders.size() == 1);
}

TEST_CASE("Names nobody has, that are off, or that make no sense are refused without an order") {
  World world;
  world.site("*", Mode::on_demand);
  world.site("plain.example", Mode::off);
  world.allow("*.example");
  REQUIRE(world.configure());
  for (const char* name : {"plain.example", "a.other", "192.0.2.1", "x.x.x.example", "a_b.example"})
    CHECK(world.at_once(name) == Given::denied);
  CHECK(world.ca.orders.empty());
  CHECK(world.fallbacks.empty());
}

TEST_CASE("A denied name costs one question a minute, and leaves nothing behind") {
  World world;
  int asked = 0;
  test::ScriptedServer server(world.control, [&](const test::ScriptedRequest& request) {
    if (request.target.find("invalid") == std::string::npos) ++asked;
    test::ScriptedReply reply;
    reply.status = 404;
    return reply;
  });
  world.snapshot.on_demand.ask = server.url();
  world.site("*", Mode::on_demand);
  REQUIRE(world.configure());
  const auto handshakes = [&](int number) {
    std::vector<std::shared_ptr<World::Answer>> answers;
    for (int one = 0; one < number; ++one) answers.push_back(world.ask_for("bad.example"));
    const auto deadline = std::chrono::steady_clock::now() + 5s;
    while (answers.back()->times == 0 && std::chrono::steady_clock::now() < deadline) {
      world.control.restart();
      world.control.run_one_for(10ms);
    }
    for (const auto& answer : answers) {
      REQUIRE(answer->times == 1);
      CHECK(answer->given->outcome == Given::denied);
    }
  };
  handshakes(40);
  CHECK(asked == 1);
  world.pass(50s);
  handshakes(40);
  CHECK(asked == 1);
  world.pass(11s);
  handshakes(40);
  CHECK(asked == 2);
  CHECK(world.manager->status().empty());
  CHECK(world.ca.orders.empty());
  CHECK(world.fallbacks.empty());
}

TEST_CASE("An ask that allows a made-up name stops the start") {
  World world;
  test::ScriptedServer server(world.control,
                              [](const test::ScriptedRequest&) { return test::ScriptedReply(); });
  world.snapshot.on_demand.ask = server.url();
  world.site("*", Mode::on_demand);
  const auto configured = world.configure();
  REQUIRE_FALSE(configured);
  CHECK(configured.error().context.find(server.url()) != std::string::npos);
}

TEST_CASE("An ask can be tried before the configuration is switched, and is asked once") {
  World world;
  int status = 200;
  test::ScriptedServer server(world.control, [&](const test::ScriptedRequest&) {
    test::ScriptedReply reply;
    reply.status = status;
    return reply;
  });
  world.site("*", Mode::on_demand);
  world.allow("*.good.example");
  REQUIRE(world.configure());
  world.snapshot.on_demand.ask = server.url();
  auto next = std::make_shared<const config::Snapshot>(world.snapshot);
  const auto refused = test::await(world.control, world.manager->try_ask(next));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().context.find(server.url()) != std::string::npos);
  // What was in use still decides.
  CHECK(world.at_once("a.bad.example") == Given::denied);
  CHECK(server.requests().size() == 1);
  for (const int other : {503, 404}) {
    status = other;
    const size_t before = server.requests().size();
    next = std::make_shared<const config::Snapshot>(world.snapshot);
    REQUIRE(test::await(world.control, world.manager->try_ask(next)));
    REQUIRE(test::await(world.control, world.manager->configure(next)));
    CHECK(server.requests().size() == before + 1);
  }
  // It is known to deny what nobody has.
  CHECK(world.configure());
  CHECK(server.requests().size() == 3);
}

TEST_CASE("A name that a reload denies is not ordered again") {
  World world;
  world.site("*", Mode::on_demand);
  world.allow("*.shops.example");
  REQUIRE(world.configure());
  world.ca.fail(FailureClass::validation);
  for (const char* name : {"a.shops.example", "b.shops.example"})
    CHECK(world.at_once(name) == Given::fallback);
  CHECK(world.ca.orders.size() == 2);
  world.snapshot.on_demand.deny = {{"a.shops.example"}};
  REQUIRE(world.configure());
  CHECK(world.at_once("a.shops.example") == Given::denied);
  world.ca.failure.reset();
  world.pass(10min);
  CHECK(world.ca.orders ==
        std::vector<std::string>{"a.shops.example", "b.shops.example", "b.shops.example"});
  CHECK(world.status("a.shops.example").name.empty());
}

TEST_CASE("10,000 random names that may not have a certificate leave no trace") {
  World world;
  world.site("*", Mode::on_demand);
  world.allow("*.good.example");
  REQUIRE(world.configure());
  for (int number = 0; number < 10'000; ++number)
    REQUIRE(world.at_once("r" + std::to_string(number) + ".example") == Given::denied);
  CHECK(world.manager->status().empty());
  CHECK(world.ca.orders.empty());
}

TEST_CASE("Random names under an allowed glob meet the budget, and share one fallback") {
  World world;
  world.site("*.good.example", Mode::on_demand);
  world.allow("*.good.example");
  REQUIRE(world.configure());
  int ready = 0;
  for (int number = 0; number < 5000; ++number) {
    const Given given = world.at_once("r" + std::to_string(number) + ".good.example");
    if (given == Given::ready)
      ++ready;
    else
      REQUIRE(given == Given::fallback);
  }
  CHECK(ready == 20);  // a day, for one registered domain
  CHECK(world.ca.orders.size() == 20);
  CHECK(world.manager->status().size() == 20);
  CHECK(world.fallbacks.size() == 1);
  CHECK(world.count(base::Metric::ondemand_throttled) == 4980);
  // A restart forgets nothing of it.
  world.pass(2s);
  world.start();
  REQUIRE(world.configure());
  CHECK(world.at_once("s.good.example") == Given::fallback);
}

TEST_CASE("A trial of another ask without an answer does not silence the one in use") {
  World world;
  int status = 404;
  test::ScriptedServer server(world.control, [&](const test::ScriptedRequest&) {
    test::ScriptedReply reply;
    reply.status = status;
    return reply;
  });
  world.site("*", Mode::on_demand);
  world.snapshot.on_demand.ask = server.url();
  REQUIRE(world.configure());
  auto next = world.snapshot;
  next.on_demand.ask = "http://127.0.0.1:1/";
  REQUIRE(test::await(world.control,
                      world.manager->try_ask(std::make_shared<const config::Snapshot>(next))));
  const Warnings warnings;
  status = 503;
  const auto answer = world.ask_for("a.example");
  const auto deadline = std::chrono::steady_clock::now() + 5s;
  while (answer->times == 0 && std::chrono::steady_clock::now() < deadline) {
    world.control.restart();
    world.control.run_one_for(10ms);
  }
  REQUIRE(answer->times == 1);
  CHECK_THAT(warnings.text(), Catch::Contains("status 503") && Catch::Contains(server.url()));
}

TEST_CASE("The budget's burst is 50 and it grows by 10 a minute") {
  World world;
  world.site("*", Mode::on_demand);
  world.allow("*");
  REQUIRE(world.configure());
  int ready = 0;
  const auto burst = [&](int round) {
    for (int number = 0; number < 80; ++number)
      if (world.at_once(fmt::format("a.d{}x{}.com", round, number)) == Given::ready) ++ready;
  };
  burst(1);
  CHECK(ready == 50);
  world.pass(60s);
  burst(2);
  CHECK(ready == 60);
}

TEST_CASE("A waiting handshake gets the fallback after 'wait', the next one at once") {
  World world;
  world.site("*.shops.example", Mode::on_demand);
  world.allow("*.shops.example");
  REQUIRE(world.configure());
  world.ca.hang = true;  // its directory answers: the order is slow, the CA is not down
  const auto first = world.ask_for("a.shops.example");
  world.pass(11s + 900ms);
  CHECK(first->times == 0);
  world.pass(200ms);
  REQUIRE(first->times == 1);
  CHECK(first->given->outcome == Given::fallback);
  CHECK(first->given->certificate->covers("a.shops.example"));
  CHECK(first->given->certificate->covers("shops.example"));
  CHECK(world.at_once("a.shops.example") == Given::fallback);
  CHECK(world.ca.orders.size() == 1);  // detached from the handshake, and goes on
  world.ca.release();
  world.settle();
  CHECK(world.at_once("a.shops.example") == Given::ready);
}

TEST_CASE("on_timeout = alert refuses instead of a fallback") {
  World world;
  world.site("*.shops.example", Mode::on_demand);
  world.allow("*.shops.example");
  world.snapshot.on_demand.on_timeout = config::OnTimeout::alert;
  REQUIRE(world.configure());
  world.ca.hang = true;
  const auto first = world.ask_for("a.shops.example");
  world.pass(13s);
  REQUIRE(first->times == 1);
  CHECK(first->given->outcome == Given::failed);
  CHECK(world.fallbacks.empty());
}

TEST_CASE("A CA answering errors: fallback within 12 s, then at once, a certificate soon after") {
  World world;
  world.site("configured.example", Mode::automatic);
  world.site("*.shops.example", Mode::on_demand);
  world.allow("*.shops.example");
  world.ca.fail(FailureClass::transport);
  world.ca.probe_well = false;
  REQUIRE(world.configure());
  const auto first = world.ask_for("a.shops.example");
  const auto configured = world.ask_for("configured.example");
  world.pass(12s);
  REQUIRE(first->times == 1);
  CHECK(first->given->outcome == Given::fallback);
  REQUIRE(configured->times == 1);
  CHECK(configured->given->outcome == Given::fallback);
  for (const char* name : {"a.shops.example", "b.shops.example", "configured.example"})
    CHECK(world.at_once(name) == Given::fallback);
  CHECK(world.ca.orders.size() <= 8);  // two names, four tries each
  // Down for long: the CA is not hammered, and looked at every 15 s while somebody waits.
  const int probes = world.ca.probes;
  const size_t orders = world.ca.orders.size();
  world.pass(10min);
  CHECK(world.ca.orders.size() == orders);
  CHECK(world.ca.probes - probes >= 39);
  CHECK(world.ca.probes - probes <= 46);
  CHECK(world.at_once("a.shops.example") == Given::fallback);
  world.ca.failure.reset();
  world.ca.probe_well = true;
  world.pass(16s);
  for (const char* name : {"a.shops.example", "b.shops.example", "configured.example"})
    CHECK(world.at_once(name) == Given::ready);
}

TEST_CASE("A CA that hangs: found out within 12 s, its requests given up when it returns") {
  World world;
  world.site("*", Mode::on_demand);
  world.allow("*");
  REQUIRE(world.configure());
  world.ca.hang = world.ca.probe_hangs = true;
  const auto first = world.ask_for("a.example");
  world.pass(11s + 500ms);
  REQUIRE(first->times == 1);
  CHECK(first->given->outcome == Given::fallback);
  CHECK(world.at_once("a.example") == Given::fallback);
  CHECK(world.at_once("b.example") == Given::fallback);  // the breaker: never parked
  world.pass(5min);
  CHECK(world.ca.orders.size() == 1);
  // The CA is well again, but what it swallowed stays swallowed.
  world.ca.hang = world.ca.probe_hangs = false;
  world.ca.interrupted_fails = true;
  world.pass(16s + 300ms);
  CHECK(world.ca.interruptions == 1);
  CHECK(world.at_once("a.example") == Given::ready);
  CHECK(world.at_once("b.example") == Given::ready);
}

TEST_CASE("A CA that is slow with many orders at once is looked at once, and not given up") {
  World world;
  world.site("*", Mode::on_demand);
  world.allow("*");
  REQUIRE(world.configure());
  world.ca.hang = world.ca.probe_hangs = true;
  std::vector<decltype(world.ask_for(""))> asked;
  for (int number = 0; number < 20; ++number)
    asked.push_back(world.ask_for(fmt::format("a.n{}.example", number)));
  world.pass(8s);
  CHECK(world.ca.probes == 1);
  for (const auto& one : asked) CHECK(one->times == 0);
  world.ca.probe_hangs = false;
  world.ca.release();
  world.pass(100ms);
  for (const auto& one : asked) {
    REQUIRE(one->times == 1);
    CHECK(one->given->outcome == Given::ready);
  }
}

TEST_CASE("A CA that says 429 without a time: one order tries every 15 s") {
  World world;
  world.site("*", Mode::on_demand);
  world.allow("*");
  REQUIRE(world.configure());
  world.ca.fail(FailureClass::rate_limit);
  CHECK(world.at_once("a.example") == Given::fallback);
  for (int number = 0; number < 20; ++number)
    CHECK(world.at_once(fmt::format("a.n{}.example", number)) == Given::fallback);
  CHECK(world.ca.orders.size() == 2);  // the first might have been a limit of its own
  world.pass(10min);
  CHECK(world.ca.orders.size() >= 39);
  CHECK(world.ca.orders.size() <= 46);
  world.ca.failure.reset();
  world.pass(16s);
  CHECK(world.at_once("a.example") == Given::ready);
  CHECK(world.at_once("a.n19.example") == Given::ready);
}

TEST_CASE("A name that alone is answered 429 without a time holds up nobody else") {
  World world;
  world.site("*", Mode::on_demand);
  world.allow("*");
  REQUIRE(world.configure());
  world.ca.fail(FailureClass::rate_limit);
  world.ca.failing = "a.example";
  CHECK(world.at_once("a.example") == Given::fallback);
  for (const auto* name : {"b.example", "c.example", "d.example"})
    CHECK(world.at_once(name) == Given::ready);
  for (int part = 0; part < 3; ++part) world.pass(10min);
  CHECK(world.at_once("e.example") == Given::ready);
  // Every 15 s while somebody came lately, then more and more seldom.
  const auto asked = std::count(world.ca.orders.begin(), world.ca.orders.end(), "a.example");
  CHECK(asked > 20);
  CHECK(asked < 80);
  world.ca.failure.reset();
  world.pass(16min);
  CHECK(world.at_once("a.example") == Given::ready);
}

TEST_CASE("Two names that alone are answered 429 without a time do not stand before the others") {
  World world;
  for (const auto* name : {"a.example", "b.example"}) world.site(name, Mode::automatic);
  world.site("*", Mode::on_demand);
  world.allow("*");
  world.ca.fail(FailureClass::rate_limit);
  world.ca.failing = "a.example";
  world.ca.failing_too = "b.example";
  REQUIRE(world.configure());
  CHECK(world.ca.orders == std::vector<std::string>{"a.example", "b.example"});
  CHECK(world.at_once("c.example") == Given::fallback);
  world.pass(17s);  // the trial is of one that has not been asked for yet
  CHECK(world.at_once("c.example") == Given::ready);
}

TEST_CASE("A 429 whose words name no bucket means every name, to the second") {
  World world;
  world.site("*", Mode::on_demand);
  world.allow("*");
  REQUIRE(world.configure());
  world.ca.hang = true;
  for (int number = 0; number < 60; ++number)  // half of them wait for a place
    world.ask_for(fmt::format("www.n{}.example", number));
  world.settle();
  const size_t begun = world.ca.orders.size();
  CHECK(begun < 40);
  world.ca.fail(FailureClass::rate_limit, world.clock.wall() + 30s);
  world.ca.release();
  world.settle();
  CHECK(world.ca.orders.size() == begun);  // nobody of those who waited
  world.ca.failure.reset();
  CHECK(world.at_once("b.example") == Given::fallback);
  world.pass(29s);
  CHECK(world.ca.orders.size() == begun);
  world.pass(2s);
  CHECK(world.at_once("b.example") == Given::ready);
  CHECK(world.at_once("www.n59.example") == Given::ready);
}

TEST_CASE("Retry-After of a 429 is honoured to the second, for that name if it is named") {
  World world;
  world.site("*", Mode::on_demand);
  world.allow("*");
  REQUIRE(world.configure());
  world.ca.fail(FailureClass::rate_limit, world.clock.wall() + 30s);
  world.ca.failure->words = "too many failed authorizations for a.example";
  const auto first = world.ask_for("a.example");
  world.settle();
  REQUIRE(first->times == 1);
  CHECK(first->given->outcome == Given::fallback);
  CHECK(first->given->retry_after == 30s);
  world.ca.failure.reset();
  CHECK(world.at_once("b.example") == Given::ready);
  world.pass(29s);
  CHECK(world.at_once("a.example") == Given::fallback);
  CHECK(world.ca.orders.size() == 2);
  world.pass(2s);
  CHECK(world.at_once("a.example") == Given::ready);
}

TEST_CASE("A failed validation backs off by minutes and never parks a handshake") {
  World world;
  world.site("a.example", Mode::automatic);
  world.ca.fail(FailureClass::validation);
  REQUIRE(world.configure());
  CHECK(world.ca.orders.size() == 1);
  CHECK(world.status("a.example").state == "backoff");
  CHECK(world.status("a.example").last_error == "a.example: scripted failure");
  CHECK(world.at_once("a.example") == Given::fallback);
  world.pass(50s);
  CHECK(world.ca.orders.size() == 1);
  world.pass(20s);
  CHECK(world.ca.orders.size() == 2);
  world.pass(8min);
  CHECK(world.ca.orders.size() == 2);
  world.ca.failure.reset();
  world.pass(4min);
  CHECK(world.at_once("a.example") == Given::ready);
  CHECK(world.status("a.example").last_error.empty());
}

TEST_CASE("A name the CA refuses is blocked until something about that CA changes") {
  World world;
  world.site("a.example", Mode::automatic);
  world.ca.fail(FailureClass::policy);
  REQUIRE(world.configure());
  CHECK(world.status("a.example").state == "blocked");
  world.pass(20h);
  CHECK(world.ca.orders.size() == 1);
  world.ca.failure.reset();
  REQUIRE(world.configure());  // a reload alone changes nothing
  world.pass(1s);
  CHECK(world.ca.orders.size() == 1);
  world.snapshot.acme.key_type = config::KeyType::p384;
  REQUIRE(world.configure());
  world.pass(1s);
  CHECK(world.ca.orders.size() == 2);
  CHECK(world.served.contains("a.example"));
}

TEST_CASE("A refusal outlasts a restart, unless what was refused has changed meanwhile") {
  World world;
  world.site("a.example", Mode::automatic);
  world.ca.fail(FailureClass::policy);
  REQUIRE(world.configure());
  world.pass(2s);
  world.start();
  REQUIRE(world.configure());
  world.pass(1h);
  CHECK(world.ca.orders.size() == 1);
  CHECK(world.status("a.example").state == "blocked");
  CHECK(world.status("a.example").last_error == "a.example: scripted failure");
  world.snapshot.acme.email = "other@example.com";
  world.start();
  REQUIRE(world.configure());
  CHECK(world.ca.orders.size() == 2);
}

TEST_CASE("Setbacks that cannot be read are begun anew") {
  World world;
  world.site("a.example", Mode::automatic);
  world.ca.fail(FailureClass::validation);
  REQUIRE(world.configure());
  world.pass(2s);
  size_t written = 0;
  for (auto& [path, text] : world.memory.files) {
    if (!path.starts_with("setbacks/")) continue;
    ++written;
    text = "damaged";
  }
  CHECK(written == 1);
  world.start();
  REQUIRE(world.configure());
  CHECK(world.ca.orders.size() == 2);
}

TEST_CASE("A name of its own trouble does not close the CA for the others") {
  World world;
  world.site("*", Mode::on_demand);
  world.allow("*");
  REQUIRE(world.configure());
  world.ca.fail(FailureClass::transport);
  const auto bad = world.ask_for("bad.example");
  world.settle();
  world.ca.failure.reset();
  world.clock.advance(1ms);
  CHECK(world.at_once("good.example") == Given::ready);
  world.ca.fail(FailureClass::transport);
  world.pass(6s);
  REQUIRE(bad->times == 1);
  CHECK(bad->given->outcome == Given::fallback);
  world.ca.failure.reset();
  CHECK(world.at_once("other.example") == Given::ready);
}

TEST_CASE("Certificates of any lifetime are renewed, and the new one is served") {
  for (const std::chrono::seconds life :
       {std::chrono::seconds(24h * 90), std::chrono::seconds(60s)}) {
    World world;
    world.ca.lifetime = life;
    world.site("a.example", Mode::automatic);
    REQUIRE(world.configure());
    const auto first = world.served["a.example"];
    const auto due = world.status("a.example").renew_at;
    CHECK(due > world.clock.wall());
    world.pass(due - world.clock.wall() - 1s);
    CHECK(world.ca.orders.size() == 1);
    world.pass(2s);
    CHECK(world.ca.orders.size() == 2);
    CHECK(world.served["a.example"] != first);
    CHECK(world.count(base::Metric::certificates_renewed) == 1);
    CHECK(world.memory.folders["certs/a.example"].size() == 2);
  }
}

TEST_CASE("A renewal that fails keeps the old certificate, past its end, for 30 days of notices") {
  World world;
  world.site("a.example", Mode::automatic);
  REQUIRE(world.configure());
  const auto old = world.served["a.example"];
  world.ca.fail(FailureClass::validation);
  for (int day = 0; day < 100; ++day) world.pass(24h);
  CHECK(world.served["a.example"] == old);
  CHECK(world.at_once("a.example") == Given::ready);
  CHECK(world.status("a.example").state == "expired");
  // Restarted with the CA down: served at once, nobody waits.
  world.ca.fail(FailureClass::transport);
  world.ca.probe_well = false;
  world.start();
  REQUIRE(world.configure());
  CHECK(world.at_once("a.example") == Given::ready);
  for (int day = 0; day < 25; ++day) world.pass(24h);
  CHECK_FALSE(world.served.contains("a.example"));
  CHECK(world.at_once("a.example") == Given::fallback);
}

TEST_CASE("A full disk at the save: served from memory, one order, written later") {
  World world;
  world.site("a.example", Mode::automatic);
  bool full = true;
  world.memory.permit = [&](const std::string&, const std::string& path) {
    return !full || path.find("certs/") == std::string::npos;
  };
  REQUIRE(world.configure());
  CHECK(world.served.contains("a.example"));
  CHECK(world.ca.forgotten.empty());  // the journal stays
  world.pass(10min);
  CHECK(world.ca.orders.size() == 1);
  full = false;
  world.pass(16min);
  CHECK(world.memory.folders.contains("certs/a.example"));
  CHECK(world.ca.forgotten.size() == 1);
  CHECK(world.ca.orders.size() == 1);
}

namespace {

/// A real folder with the certificate of "a.example" in it, and a manager started on it.
struct OnDisk : World {
  OnDisk() {
    folder = (std::filesystem::temp_directory_path() / "gatehouse-manager-XXXXXX").string();
    REQUIRE(::mkdtemp(folder.data()) != nullptr);
    auto opened = FileStorage::open(folder);
    REQUIRE(opened);
    files = std::move(*opened);
    site("a.example", Mode::automatic);
    REQUIRE(configure());
    const auto set = memory.folders["certs/a.example"].back();
    REQUIRE(test::await(control, files->store_set("certs/a.example", set)));
    key = folder + "/certs/a.example/00000001/privkey.pem";
  }
  ~OnDisk() {
    manager.reset();
    settle();
    files.reset();  // nothing runs after this: who still waits for it would go on with it
    std::filesystem::remove_all(folder);
  }
  void restart() {
    storage = files.get();
    start();
    REQUIRE(configure());
  }
  template <class Done>
  bool run_until(Done done) {
    const auto deadline = std::chrono::steady_clock::now() + 5s;
    while (!done() && std::chrono::steady_clock::now() < deadline) {
      control.restart();
      control.run_one_for(10ms);
    }
    return done();
  }

  std::string folder;
  std::string key;
  std::unique_ptr<FileStorage> files;
};

}  // namespace

TEST_CASE("A damaged certificate with none before it is quarantined, then ordered anew") {
  OnDisk world;
  std::ofstream(world.key) << "damaged";
  world.restart();
  CHECK(world.run_until([&] { return world.ca.forgotten.size() == 2; }));
  CHECK(world.ca.orders.size() == 2);
  CHECK(std::filesystem::exists(world.folder + "/quarantine/certs_a.example_00000001"));
  CHECK(std::filesystem::exists(world.folder + "/certs/a.example/current/fullchain.pem"));
  auto listed = test::await(world.control, read_status(*world.files));
  REQUIRE(listed);
  REQUIRE(listed->size() == 1);
  CHECK(listed->front().name == "a.example");
  CHECK(listed->front().state == "active");
  CHECK(listed->front().issuer == world.served["a.example"]->issuer());
}

TEST_CASE("A key that cannot be read is named, nothing is ordered, and it is tried again") {
  OnDisk world;
  std::filesystem::rename(world.key, world.key + ".aside");
  std::filesystem::create_symlink(world.key + ".aside", world.key);  // opened as no link may be
  world.restart();
  CHECK(world.run_until([&] { return !world.status("a.example").last_error.empty(); }));
  CHECK(world.status("a.example").last_error.find(world.key) != std::string::npos);
  const auto answer = world.ask_for("a.example");
  CHECK(world.run_until([&] { return answer->times == 1; }));
  CHECK(answer->given->outcome == Given::fallback);
  std::filesystem::rename(world.key + ".aside", world.key);
  world.clock.advance(61s);
  world.manager->recheck();
  CHECK(world.run_until([&] { return world.served.contains("a.example"); }));
  CHECK(world.ca.orders.size() == 1);
}

TEST_CASE("A removed site's certificate is archived, and back without an order") {
  World world;
  world.site("a.example", Mode::automatic);
  REQUIRE(world.configure());
  const auto sites = std::exchange(world.snapshot.sites, {});
  world.site("b.example", Mode::automatic);
  REQUIRE(world.configure());
  CHECK_FALSE(world.served.contains("a.example"));
  CHECK(world.memory.folders.contains("archive/a.example"));
  CHECK(world.at_once("a.example") == Given::denied);
  world.snapshot.sites = sites;
  REQUIRE(world.configure());
  CHECK(world.served.contains("a.example"));
  CHECK(world.memory.folders.contains("certs/a.example"));
  CHECK(world.ca.orders == std::vector<std::string>{"a.example", "b.example"});
}

TEST_CASE("A site that returns while its renewal runs is served at once with what is stored") {
  World world;
  const auto sites = world.snapshot.sites;
  world.site("a.example", Mode::automatic);
  stock(world, {"a.example"}, 70 * 24h);
  world.ca.hang = true;
  REQUIRE(world.configure());
  const auto with_it = std::exchange(world.snapshot.sites, sites);
  REQUIRE(world.ca.orders.size() == 1);
  const auto old = world.served["a.example"]->fingerprint();
  REQUIRE(world.configure());
  CHECK_FALSE(world.served.contains("a.example"));
  world.snapshot.sites = with_it;
  REQUIRE(world.configure());
  REQUIRE(world.served.contains("a.example"));
  CHECK(world.served["a.example"]->fingerprint() == old);
  CHECK(world.at_once("a.example") == Given::ready);
  SECTION("and with the new one when it is there") {
    world.ca.release();
    world.settle();
    CHECK(world.served["a.example"]->fingerprint() != old);
  }
  SECTION("and still when the renewal fails") {
    world.ca.fail(FailureClass::validation);
    world.ca.release();
    world.settle();
    CHECK(world.served["a.example"]->fingerprint() == old);
  }
  CHECK(world.ca.orders.size() == 1);
}

TEST_CASE("A site that becomes internal while its order runs gets no other certificate") {
  World world;
  auto& site = world.site("a.example", Mode::automatic);
  world.ca.hang = true;
  REQUIRE(world.configure());
  REQUIRE(world.ca.orders.size() == 1);
  site.certificates = Mode::internal;
  REQUIRE(world.configure());
  SECTION("that comes after all") {}
  SECTION("nor is another CA asked") {
    world.ca.fail(FailureClass::rate_limit);
  }
  world.ca.release();
  world.settle();
  REQUIRE(world.served.contains("a.example"));
  CHECK(world.served["a.example"]->issuer() != "Scripted CA");
  CHECK(world.memory.folders.contains("internal/leaves/a.example"));
  CHECK(world.ca.orders.size() == 1);
}

TEST_CASE("An archived certificate is removed 30 days after its end, not before") {
  World world;
  world.site("a.example", Mode::automatic);
  REQUIRE(world.configure());
  world.snapshot.sites.clear();
  REQUIRE(world.configure());
  REQUIRE(world.memory.folders.contains("archive/a.example"));
  for (int day = 0; day < 119; ++day) world.pass(24h);
  CHECK(world.memory.folders.contains("archive/a.example"));
  for (int day = 0; day < 3; ++day) world.pass(24h);
  CHECK_FALSE(world.memory.folders.contains("archive/a.example"));
}

TEST_CASE("Names that are stored but not loaded are in the list") {
  World world;
  world.site("*", Mode::on_demand);
  world.allow("*");
  REQUIRE(world.configure());
  CHECK(world.at_once("a.example") == Given::ready);
  world.pass(11min);
  world.pass(2s);
  world.start();
  REQUIRE(world.configure());
  CHECK(world.status("a.example").state == "stored");
  CHECK(world.status("a.example").on_demand);
  CHECK(world.at_once("a.example") == Given::ready);
  CHECK(world.status("a.example").state == "active");
  CHECK(world.manager->status().size() == 1);
}

TEST_CASE("A reload drops neither a waiting handshake nor a running order") {
  World world;
  world.site("*.shops.example", Mode::on_demand);
  world.allow("*.shops.example");
  REQUIRE(world.configure());
  world.ca.hang = true;
  const auto waiting = world.ask_for("a.shops.example");
  world.settle();
  world.site("new.example", Mode::automatic);
  world.snapshot.acme.email = "other@example.com";  // another account: another desk
  REQUIRE(world.configure());
  CHECK(waiting->times == 0);
  world.ca.release();
  world.settle();
  REQUIRE(waiting->times == 1);
  CHECK(waiting->given->outcome == Given::ready);
  CHECK(world.served.contains("new.example"));
}

TEST_CASE("What a reload leaves of the CAs before it ends with their last order") {
  World world;
  world.site("a.example", Mode::automatic);
  world.ca.hang = true;
  REQUIRE(world.configure());
  CHECK(world.desks.size() == 1);
  for (int number = 0; number < 20; ++number) {
    world.snapshot.acme.email = fmt::format("n{}@example.com", number);
    REQUIRE(world.configure());
  }
  const auto alive = [&] {
    return std::count_if(world.desks.begin(), world.desks.end(),
                         [](const auto& desk) { return !desk.expired(); });
  };
  CHECK(world.desks.size() == 21);
  CHECK(alive() == 2);  // one has an order that runs
  world.ca.fail(FailureClass::internal);
  world.ca.release();
  world.settle();
  world.pass(11min);
  CHECK(alive() == 1);
  world.ca.failure.reset();
  world.pass(17min);
  CHECK(world.served.contains("a.example"));
}

TEST_CASE("A CA that is no longer configured is not looked at") {
  World world;
  world.site("a.example", Mode::automatic);
  world.ca.fail(FailureClass::transport);
  world.ca.probe_well = false;
  REQUIRE(world.configure());
  world.pass(2min);
  const int before = world.ca.probes;
  CHECK(before > 0);
  world.snapshot.acme.authorities.clear();
  REQUIRE(world.configure());
  world.pass(10min);
  CHECK(world.ca.probes == before);
}

TEST_CASE("An order that a former process left is continued without asking or counting") {
  World world;
  world.memory.files["orders/a.shops.example/order.json"] = "{}";
  world.site("*.shops.example", Mode::on_demand);
  world.snapshot.on_demand.ask = "http://127.0.0.1:1/";
  REQUIRE(world.configure());
  CHECK(world.ca.orders == std::vector<std::string>{"a.shops.example"});
  CHECK(world.served.contains("a.shops.example"));
  CHECK(world.ca.forgotten == std::vector<std::string>{"a.shops.example"});
}

TEST_CASE("A visitor waits for an order that is continued, whatever failed before it") {
  World world;
  world.site("a.example", Mode::automatic);
  world.ca.fail(FailureClass::internal);
  REQUIRE(world.configure());
  world.pass(2s);
  world.memory.files["orders/a.example/order.json"] =
      R"({"version":1,"directory":"https://ca.test/dir","names":["a.example"],)"
      R"("created":"2026-01-01T00:00:00Z","order":"https://ca.test/order/1"})";
  world.ca.failure.reset();
  world.ca.hang = true;
  world.start();
  REQUIRE(world.configure());
  const auto waiting = world.ask_for("a.example");
  world.settle();
  CHECK(waiting->times == 0);
  world.ca.release();
  world.settle();
  REQUIRE(waiting->times == 1);
  CHECK(waiting->given->outcome == Given::ready);
}

TEST_CASE("At most 32 orders run at once, and visited names go first") {
  World world;
  for (int number = 0; number < 60; ++number)
    world.site(fmt::format("n{}.example", number), Mode::automatic);
  world.ca.hang = true;
  REQUIRE(world.configure());
  CHECK(world.ca.orders.size() == 28);  // the rest is for those that somebody comes for
  world.ask_for("n59.example");
  world.settle();
  REQUIRE(world.ca.orders.size() == 29);
  CHECK(world.ca.orders[28] == "n59.example");
  for (int number = 40; number < 50; ++number) world.ask_for(fmt::format("n{}.example", number));
  world.settle();
  CHECK(world.ca.orders.size() == 32);
  world.ca.release();
  world.settle();
  CHECK(world.ca.orders.size() == 60);
  CHECK(world.ca.running_max == 32);
}

TEST_CASE("Too many waiting handshakes are answered, not queued") {
  World world;
  world.site("*", Mode::on_demand);
  world.allow("*");
  REQUIRE(world.configure());
  world.ca.hang = true;
  for (size_t number = 0; number < Parking::per_client_max; ++number)
    world.ask_for(fmt::format("a.n{}.com", number), "203.0.113.9");
  const auto one_more = world.ask_for("a.more.com", "203.0.113.9");
  CHECK(one_more->times == 1);
  CHECK(one_more->given->outcome == Given::failed);
  world.settle();
  CHECK(world.ca.orders.size() == Parking::per_client_max);  // and it started none
  for (size_t number = 1; number < Parking::per_name_max; ++number) world.ask_for("a.n0.com");
  CHECK(world.at_once("a.n0.com") == Given::fallback);
  world.ca.release();
  world.settle();
  CHECK(world.at_once("a.more.com", "203.0.113.9") == Given::ready);
}

TEST_CASE("On-demand certificates are renewed only if somebody came by in 30 days") {
  World world;
  world.site("*", Mode::on_demand);
  world.allow("*");
  REQUIRE(world.configure());
  CHECK(world.at_once("busy.example") == Given::ready);
  CHECK(world.at_once("idle.example") == Given::ready);
  for (int day = 0; day < 75; ++day) {
    world.pass(24h);
    world.manager->seen("busy.example");
  }
  CHECK(std::count(world.ca.orders.begin(), world.ca.orders.end(), "busy.example") == 2);
  CHECK(std::count(world.ca.orders.begin(), world.ca.orders.end(), "idle.example") == 1);
}

TEST_CASE("A name that is no longer permitted is not renewed, and is again when it is") {
  World world;
  world.site("*", Mode::on_demand);
  world.allow("*.example");
  REQUIRE(world.configure());
  CHECK(world.at_once("a.example") == Given::ready);
  world.pass(50 * 24h);
  world.manager->seen("a.example");
  const auto due = world.status("a.example").renew_at;
  REQUIRE(due > world.clock.wall() + 1h);
  world.snapshot.on_demand.allow.clear();
  world.allow("*.other");
  REQUIRE(world.configure());
  world.pass(due - world.clock.wall() + 1s);
  world.pass(23h);
  CHECK(world.ca.orders.size() == 1);
  CHECK(world.served.contains("a.example"));  // what it has is served to its end
  CHECK(world.events.size() == 1);            // and that is nobody's trouble
  world.snapshot.on_demand.allow.clear();
  world.allow("*.example");
  REQUIRE(world.configure());
  world.pass(2h);
  CHECK(world.ca.orders.size() == 2);
}

TEST_CASE("A renewal that nobody permits or forbids waits for the answer, and the old one serves") {
  World world;
  world.site("*", Mode::on_demand);
  world.allow("*.example");
  REQUIRE(world.configure());
  CHECK(world.at_once("a.example") == Given::ready);
  world.pass(50 * 24h);
  world.manager->seen("a.example");
  const auto due = world.status("a.example").renew_at;
  int status = 503;
  int asked = 0;
  test::ScriptedServer server(world.control, [&](const test::ScriptedRequest& request) {
    const bool ours = request.target.find("domain=a.example") != std::string::npos;
    asked += ours ? 1 : 0;
    test::ScriptedReply reply;
    reply.status = ours ? status : 404;
    return reply;
  });
  world.snapshot.on_demand.allow.clear();
  world.snapshot.on_demand.ask = server.url();
  REQUIRE(world.configure());
  const auto until = [&](const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + 5s;
    while (!condition() && std::chrono::steady_clock::now() < deadline) {
      world.control.restart();
      world.control.run_one_for(10ms);
    }
    return condition();
  };
  const auto planned = [&] { return world.status("a.example").next_attempt > world.clock.wall(); };
  world.pass(due - world.clock.wall() + 1s);
  REQUIRE(until(planned));
  CHECK(asked == 1);
  CHECK(world.status("a.example").next_attempt <= world.clock.wall() + 15min);
  CHECK(world.served.contains("a.example"));
  CHECK(world.ca.orders.size() == 1);
  SECTION("and is renewed once it is permitted") {
    status = 200;
    world.pass(15min + 1s);
    CHECK(until([&] { return world.ca.orders.size() == 2; }));
    CHECK(asked == 2);
  }
  SECTION("and is left once it is forbidden") {
    status = 404;
    world.pass(15min + 1s);
    CHECK(until([&] { return asked == 2 && !planned(); }));
    world.pass(12h);
    CHECK(world.ca.orders.size() == 1);
    CHECK(asked == 2);
  }
}

TEST_CASE("After a restart a visited name is renewed without a visit") {
  World world;
  world.site("*", Mode::on_demand);
  world.allow("*");
  REQUIRE(world.configure());
  CHECK(world.at_once("a.example") == Given::ready);
  for (int day = 0; day < 50; ++day) {
    world.pass(24h);
    world.manager->seen("a.example");
  }
  world.pass(11min);
  world.pass(2s);
  world.start();
  REQUIRE(world.configure());
  CHECK(world.served.empty());
  for (int day = 0; day < 20; ++day) world.pass(24h);
  CHECK(world.ca.orders.size() == 2);
}

TEST_CASE("Of many stored names a part is loaded at the start, the others at their handshake",
          "[many]") {
  World world;
  const auto names = numbered(loaded_at_start_max + 100, "example");
  for (const auto& name : names) world.site(name, Mode::automatic);
  stock(world, names);
  REQUIRE(world.configure());
  CHECK(world.served.size() == loaded_at_start_max);
  CHECK(world.status(names.back()).state == "stored");
  CHECK(world.manager->states().at("stored") == 100);
  CHECK(world.manager->states().at("active") == loaded_at_start_max);
  CHECK(world.at_once(names.back()) == Given::ready);
  CHECK(world.status(names.back()).state == "active");
  CHECK(world.ca.orders.empty());
}

TEST_CASE("A name that hundreds come for at once holds up no other's load") {
  World world;
  world.site("*.shops.example", Mode::on_demand);
  world.allow("*.shops.example");
  stock(world, {"a.shops.example"});
  REQUIRE(world.configure());
  std::vector<std::shared_ptr<World::Answer>> answers;
  for (int visitor = 0; visitor < 250; ++visitor)
    answers.push_back(world.ask_for("a.shops.example", fmt::format("192.0.2.{}", visitor)));
  world.site("inside.example", Mode::internal);
  REQUIRE(world.configure());
  for (const auto& answer : answers) CHECK(answer->times == 1);
  CHECK(world.served.contains("a.shops.example"));
  CHECK(world.served.contains("inside.example"));
}

TEST_CASE("Renewals of names that are not loaded come from the index, paced, behind visitors",
          "[many]") {
  World world;
  const auto names = numbered(loaded_at_start_max + 300, "example");
  for (const auto& name : names) world.site(name, Mode::automatic);
  world.site("*.shops.example", Mode::on_demand);
  world.allow("*.shops.example");
  stock(world, names);
  REQUIRE(world.configure());
  world.ca.hang = true;
  world.pass(65 * 24h);
  CHECK(world.ca.orders.size() == 28);
  CHECK(world.served.size() <= loaded_at_start_max + renewals_max);
  // Whoever comes first is not behind them.
  world.ask_for("new.shops.example");
  world.settle();
  CHECK(world.ca.orders.back() == "new.shops.example");
  world.ca.release();
  world.settle();
  for (int rounds = 0; rounds < 100 && world.ca.orders.size() < names.size() + 1; ++rounds)
    world.pass(100ms);
  CHECK(world.ca.orders.size() == names.size() + 1);
  CHECK(std::set(world.ca.orders.begin(), world.ca.orders.end()).size() == names.size() + 1);
  CHECK(world.ca.running_max <= 32);
  for (const auto& name : names) CHECK(world.memory.folders["certs/" + name].size() == 2);
}

TEST_CASE("While no CA answers, what is due stays where it is, and goes on when one does",
          "[many]") {
  World world;
  const auto names = numbered(loaded_at_start_max + 300, "example");
  for (const auto& name : names) world.site(name, Mode::automatic);
  stock(world, names);
  REQUIRE(world.configure());
  world.ca.fail(FailureClass::transport);
  world.ca.probe_well = false;
  world.pass(65 * 24h);
  world.pass(2min);
  CHECK(world.served.size() <= loaded_at_start_max + renewals_max);
  const size_t tried = world.ca.orders.size();
  CHECK(tried <= 32 * 4);
  world.pass(5min);
  CHECK(world.ca.orders.size() == tried);
  world.ca.failure.reset();
  world.ca.probe_well = true;
  for (int round = 0; round < 3; ++round) world.pass(10min);
  CHECK(world.count(base::Metric::certificates_renewed) == static_cast<int64_t>(names.size()));
}

TEST_CASE("An index that is torn, old or foreign changes nothing that is served or renewed",
          "[many]") {
  for (const bool torn : {true, false}) {
    World world;
    const auto names = numbered(loaded_at_start_max + 20, "example");
    for (const auto& name : names) world.site(name, Mode::automatic);
    stock(world, names, 24h);
    for (auto& [path, text] : world.memory.files) {
      if (!path.starts_with("index/")) continue;
      if (torn) text.resize(text.size() / 2);
      if (torn && text.size() % 2 == 0) world.memory.damaged.insert(path);
    }
    // Renewed, as it were, by a process that had no time to write the index.
    if (!torn) stock(world, {names.back()}, 66 * 24h, false);
    REQUIRE(world.configure());
    CHECK(world.at_once(names.back()) == Given::ready);
    world.pass(5s);
    CHECK(world.ca.orders.size() == (torn ? 0 : 1));
    for (int day = 0; day < 66; ++day) world.pass(24h);
    CHECK(std::set(world.ca.orders.begin(), world.ca.orders.end()).size() == names.size());
  }
}

TEST_CASE("Certificates in memory are bounded, and one that made room returns without an order",
          "[many]") {
  World world;
  world.site("*.shops.example", Mode::on_demand);
  world.allow("*.shops.example");
  const auto names = numbered(loaded_max + 50, "shops.example");
  stock(world, names);
  REQUIRE(world.configure());
  for (const auto& name : names) REQUIRE(world.at_once(name) == Given::ready);
  CHECK(world.served.size() == loaded_max);
  CHECK_FALSE(world.served.contains(names.front()));
  CHECK(world.served.contains(names.back()));
  CHECK(world.at_once(names.front()) == Given::ready);
  world.settle();
  CHECK(world.served.size() == loaded_max);
  CHECK(world.ca.orders.empty());
}

TEST_CASE("A generation that is whole and another's gives way to the one before it") {
  World world;
  world.site("a.example", Mode::automatic);
  stock(world, {"a.example", "b.example"});
  auto& generations = world.memory.folders["certs/a.example"];
  const auto own = generations.back();
  generations.push_back(world.memory.folders["certs/b.example"].back());
  REQUIRE(world.configure());
  REQUIRE(world.served.contains("a.example"));
  CHECK(world.served["a.example"]->covers("a.example"));
  CHECK(world.ca.orders.empty());
  CHECK(generations == std::vector{own});
  CHECK(world.memory.folders.contains("quarantine/certs_a.example_00000002"));
}

TEST_CASE("A new certificate that is not what visitors see gives way to the one before it") {
  World world;
  world.site("a.example", Mode::automatic);
  REQUIRE(world.configure());
  CHECK(world.checks == 1);
  const auto old = world.served["a.example"];
  const auto stored = world.memory.folders["certs/a.example"].back();
  world.problem_of = [old](const std::string&, const tls::CertificatePtr& one) {
    return one == old ? "" : "the listener shows another";
  };
  world.pass(world.status("a.example").renew_at - world.clock.wall() + 1s);
  CHECK(world.ca.orders.size() == 2);
  CHECK(world.served["a.example"] == old);
  CHECK(world.memory.folders["certs/a.example"] == std::vector{stored});
  CHECK(world.memory.folders.contains("quarantine/certs_a.example_00000002"));
  CHECK(world.ca.forgotten.size() >= 2);
  CHECK(world.status("a.example").last_error.find("shows another") != std::string::npos);
  // The bad one does not come back by itself: not by time, not by a restart.
  world.pass(80min);
  CHECK(world.ca.orders.size() == 2);
  CHECK(world.at_once("a.example") == Given::ready);
  // The next order is another chance.
  world.problem_of = nullptr;
  world.pass(40min);
  CHECK(world.ca.orders.size() == 3);
  CHECK(world.served["a.example"] != old);
  CHECK(world.status("a.example").last_error.empty());
  world.start();
  REQUIRE(world.configure());
  CHECK(world.served["a.example"]->fingerprint() != old->fingerprint());
  CHECK(world.ca.orders.size() == 3);
}

TEST_CASE("An internal certificate that is not seen gives way for good, too") {
  World world;
  world.site("inside.example", Mode::internal);
  REQUIRE(world.configure());
  const auto old = world.served["inside.example"];
  world.problem_of = [old](const std::string&, const tls::CertificatePtr& one) {
    return one == old ? "" : "the listener shows another";
  };
  REQUIRE(test::await(world.control, world.manager->renew("inside.example", true)));
  world.settle();
  CHECK(world.checks == 3);
  CHECK(world.served["inside.example"] == old);
  world.start();
  REQUIRE(world.configure());
  CHECK(world.served["inside.example"]->serial() == old->serial());
  CHECK(world.ca.orders.empty());
}

TEST_CASE("The certificate that is back is still that of the CA which issued it") {
  World world;
  world.site("a.example", Mode::automatic);
  REQUIRE(world.configure());
  const auto old = world.served["a.example"];
  world.snapshot.acme.authorities[0].name = "other-ca";
  REQUIRE(world.configure());
  world.problem_of = [old](const std::string&, const tls::CertificatePtr& one) {
    return one == old ? "" : "the listener shows another";
  };
  REQUIRE(test::await(world.control, world.manager->renew("a.example", true)));
  world.settle();
  REQUIRE(world.served["a.example"] == old);
  CHECK(test::await(world.control, world.manager->show("a.example"))->authority == "test-ca");
}

TEST_CASE("A certificate that is not what visitors see is told, and which one they see instead") {
  World world;
  world.site("a.example", Mode::automatic);
  REQUIRE(world.configure());
  CHECK(world.told(Event::Kind::deploy_failed).empty());
  const auto old = world.served["a.example"];
  std::string outcome;
  bool back = false;
  SECTION("the one before it") {
    back = true;
    outcome = "the one before is served again";
    world.problem_of = [old](const std::string&, const tls::CertificatePtr& one) {
      return one == old ? "" : "the listener shows another";
    };
  }
  SECTION("neither of them") {
    outcome = "the new one stays";
    world.problem_of = [](const std::string&, const tls::CertificatePtr&) {
      return "the listener shows another";
    };
  }
  world.pass(world.status("a.example").renew_at - world.clock.wall() + 1s);
  const auto told = world.told(Event::Kind::deploy_failed);
  REQUIRE(told.size() == 1);
  CHECK(told[0].name == "a.example");
  CHECK(told[0].authority == "test-ca");
  CHECK(told[0].text.find("a.example: the new certificate is not served") == 0);
  CHECK(told[0].text.find("the listener shows another") != std::string::npos);
  CHECK(told[0].text.find(outcome) != std::string::npos);
  CHECK(told[0].not_after == world.served["a.example"]->not_after());
  CHECK((told[0].not_after == old->not_after()) == back);
  CHECK((told[0].next_attempt > world.clock.wall()) == back);
  // Once for each certificate, not for each look.
  world.pass(80min);
  CHECK(world.told(Event::Kind::deploy_failed).size() == 1);
}

TEST_CASE("Where not even the certificate before is seen, the new one stays") {
  World world;
  world.site("a.example", Mode::automatic);
  REQUIRE(world.configure());
  const auto old = world.served["a.example"];
  // Another one answers, or, at the second look, nobody does.
  const bool reached = GENERATE(true, false);
  world.problem_of = [old, reached](const std::string&,
                                    const tls::CertificatePtr& one) -> std::optional<std::string> {
    if (one == old && !reached) return std::nullopt;
    return "the listener shows another";
  };
  world.pass(world.status("a.example").renew_at - world.clock.wall() + 1s);
  CHECK(world.ca.orders.size() == 2);
  CHECK(world.served["a.example"] != old);
  CHECK(world.memory.folders["certs/a.example"].size() == 2);
  world.pass(24h);
  CHECK(world.ca.orders.size() == 2);
}

TEST_CASE("A first certificate that is not seen stays, as there is none before it") {
  World world;
  world.problem_of = [](const std::string&, const tls::CertificatePtr&) {
    return "it is not there";
  };
  world.site("a.example", Mode::automatic);
  REQUIRE(world.configure());
  CHECK(world.served.contains("a.example"));
  world.pass(24h);
  CHECK(world.ca.orders.size() == 1);
}

TEST_CASE("A clock that the CA's contradicts starts no storm of renewals") {
  World world;
  for (int number = 0; number < 20; ++number)
    world.site(fmt::format("n{}.example", number), Mode::automatic);
  REQUIRE(world.configure());
  CHECK(world.ca.orders.size() == 20);
  const auto right = world.clock.wall();
  world.ca.clock = right;
  world.clock.set_wall(right + 24h * 80);
  world.manager->recheck();
  world.settle();
  world.pass(5min);
  CHECK(world.ca.orders.size() == 20);
  world.clock.set_wall(right + 6min);
  world.ca.clock.reset();
  world.pass(20min);
  CHECK(world.ca.orders.size() == 20);
}

TEST_CASE("A clock over a minute away from the CA's is warned of, and renews all the same") {
  struct Case {
    std::chrono::milliseconds ahead;
    std::string warned;
  };
  const auto one = GENERATE(Case{-63500ms, "63 s behind that of test-ca"}, Case{-58500ms, ""},
                            Case{58500ms, ""}, Case{63500ms, "63 s ahead of that of test-ca"});
  World world;
  world.site("a.example", Mode::automatic);
  REQUIRE(world.configure());
  world.pass(world.status("a.example").renew_at - world.clock.wall() + 500ms - 15min);
  world.pass(14min);
  world.ca.clock = world.clock.wall() + 1min - 500ms - one.ahead;  // at the renewal
  const Warnings warnings;
  world.pass(1min);
  CHECK(world.ca.orders.size() == 2);
  const std::string said = warnings.text();
  CHECK((said.find("this machine's clock is") != std::string::npos) == !one.warned.empty());
  CHECK(said.find(one.warned) != std::string::npos);
  CHECK(said.find("renewals wait") == std::string::npos);
}

TEST_CASE("certificates = internal: our own root signs, and a restart keeps both") {
  World world;
  world.site("*.inside.example", Mode::internal);
  REQUIRE(world.configure());
  CHECK(world.ca.orders.empty());
  REQUIRE(world.served.contains("*.inside.example"));
  CHECK_FALSE(world.served["*.inside.example"]->self_signed());
  const auto serial = world.served["*.inside.example"]->serial();
  CHECK(world.memory.folders.contains("internal/root"));
  world.start();
  REQUIRE(world.configure());
  CHECK(world.served["*.inside.example"]->serial() == serial);
  CHECK(world.at_once("a.inside.example") == Given::ready);
}

TEST_CASE("Own files and plain sites need nothing") {
  World world;
  world.site("own.example", Mode::automatic).certificate = "cert.pem";
  world.site("plain.example", Mode::off);
  REQUIRE(world.configure());
  CHECK(world.ca.orders.empty());
  CHECK(world.manager->status().empty());
}

TEST_CASE("A fallback is made once for a zone, stored, and the same after a restart") {
  World world;
  world.site("a.zone.example", Mode::automatic);
  world.ca.fail(FailureClass::validation);
  REQUIRE(world.configure());
  CHECK(world.at_once("a.zone.example") == Given::fallback);
  const auto serial = world.fallbacks["zone.example"]->serial();
  CHECK(world.memory.folders.contains("fallback/zone.example"));
  world.fallbacks.clear();
  world.start();
  REQUIRE(world.configure());
  CHECK(world.at_once("a.zone.example") == Given::fallback);
  CHECK(world.fallbacks["zone.example"]->serial() == serial);
}

TEST_CASE("A fallback is self-signed, P-256, for a year, its zone and one label below") {
  World world;
  world.site("a.zone.example", Mode::automatic);
  world.ca.fail(FailureClass::validation);
  REQUIRE(world.configure());
  CHECK(world.at_once("a.zone.example") == Given::fallback);
  const auto made = world.fallbacks.at("zone.example");
  CHECK(made->self_signed());
  CHECK(made->names() == std::vector<std::string>{"zone.example", "*.zone.example"});
  const auto left = made->not_after() - base::WallClock::now();
  CHECK(left <= 365 * 24h);
  CHECK(left > 364 * 24h);
  // How PKCS#8 of a P-256 key begins: id-ecPublicKey with prime256v1.
  CHECK(made->key_pem().find("MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEH") != std::string::npos);
}

TEST_CASE("The user's own fallback goes before one that is made") {
  World world;
  world.site("a.zone.example", Mode::automatic);
  world.own_fallback = *tls::make_self_signed({"*.zone.example"}, 24h);
  world.ca.fail(FailureClass::validation);
  REQUIRE(world.configure());
  const auto answer = world.ask_for("a.zone.example");
  world.settle();
  REQUIRE(answer->times == 1);
  CHECK(answer->given->outcome == Given::fallback);
  CHECK(answer->given->certificate == world.own_fallback);
  CHECK(world.fallbacks.empty());
  CHECK_FALSE(world.memory.folders.contains("fallback/zone.example"));
}

TEST_CASE("Two CAs: the second takes what the first cannot") {
  World world;
  ScriptedCa second(world.control, world.clock);
  config::CertificateAuthority authority;
  authority.name = "second-ca";
  authority.directory = "https://second.test/dir";
  world.snapshot.acme.authorities.push_back(authority);
  ManagerHooks hooks;
  hooks.serve = [&](const std::string& name, tls::CertificatePtr one) { world.served[name] = one; };
  world.manager = std::make_unique<Manager>(
      world.control, world.fetcher, world.memory, Solvers{world.http01, world.tls_alpn01},
      world.clock, world.metrics.control(), hooks,
      [&](const config::CertificateAuthority& settings, const config::SnapshotPtr&) {
        return (settings.name == "second-ca" ? second : world.ca).authority(settings);
      });
  world.site("a.example", Mode::automatic);
  world.ca.fail(FailureClass::rate_limit, world.clock.wall() + 3h);
  REQUIRE(world.configure());
  world.pass(1s);
  CHECK(world.ca.orders.size() == 1);
  CHECK(second.orders.size() == 1);
  CHECK(world.served.contains("a.example"));
  world.manager.reset();
  world.settle();
}

TEST_CASE("After stop nothing starts, waiting handshakes end, running orders finish") {
  World world;
  world.site("*", Mode::on_demand);
  world.allow("*");
  REQUIRE(world.configure());
  world.ca.hang = true;
  const auto running = world.ask_for("a.example");
  world.settle();
  world.manager->stop();
  CHECK(running->times == 0);
  CHECK(world.at_once("b.example") == Given::fallback);
  world.ca.release();
  world.settle();
  REQUIRE(running->times == 1);
  CHECK(running->given->outcome == Given::ready);
  CHECK(world.memory.folders.contains("certs/a.example"));
  CHECK(world.ca.orders.size() == 1);
}

TEST_CASE("When stop has stored them, the visits are in the storage") {
  World world;
  world.site("*", Mode::on_demand);
  world.allow("*");
  REQUIRE(world.configure());
  world.ask_for("a.example");
  world.settle();
  bool stored = false;
  world.manager->stop([&] { stored = true; });
  world.settle();
  CHECK(stored);
  CHECK_THAT(world.memory.files["on_demand/visits.json"], Catch::Contains("a.example"));
}

namespace {

/// A storage whose writes of single files may take as long as the test wants.
struct SlowStorage final : Storage {
  SlowStorage(Storage& s, asio::io_context& c)
      : storage(s), released(c, asio::steady_timer::time_point::max()) {}

  template <class T>
  using Awaitable = asio::awaitable<T>;
  Awaitable<base::Result<std::string>> load(std::string path) override {
    return storage.load(std::move(path));
  }
  Awaitable<base::Result<void>> store(std::string path, std::string bytes) override {
    boost::system::error_code error;
    if (slow) co_await released.async_wait(asio::redirect_error(asio::use_awaitable, error));
    auto stored = co_await storage.store(std::move(path), std::move(bytes));
    co_return stored;
  }
  Awaitable<base::Result<void>> store_set(std::string folder, FileSet files) override {
    return storage.store_set(std::move(folder), std::move(files));
  }
  Awaitable<base::Result<FileSet>> load_set(std::string folder) override {
    return storage.load_set(std::move(folder));
  }
  Awaitable<base::Result<void>> move(std::string from, std::string to) override {
    return storage.move(std::move(from), std::move(to));
  }
  Awaitable<base::Result<std::vector<std::string>>> list(std::string folder) override {
    return storage.list(std::move(folder));
  }
  Awaitable<std::vector<std::string>> current(std::vector<std::string> folders) override {
    return storage.current(std::move(folders));
  }

  Storage& storage;
  asio::steady_timer released;
  bool slow = false;
};

}  // namespace

TEST_CASE("What changed while an earlier state was being written is stored by the stop, too") {
  World world;
  SlowStorage slow(world.memory, world.control);
  world.storage = &slow;
  world.start();
  world.site("*", Mode::on_demand);
  world.allow("*");
  REQUIRE(world.configure());
  slow.slow = true;
  world.ask_for("a.example");
  world.pass(10s);
  world.ask_for("b.example");
  world.settle();
  bool stored = false;
  world.manager->stop([&] { stored = true; });
  world.settle();
  CHECK_FALSE(stored);
  slow.slow = false;
  slow.released.cancel();
  world.settle();
  CHECK(stored);
  CHECK_THAT(world.memory.files["on_demand/visits.json"], Catch::Contains("b.example"));
  world.manager.reset();
  world.settle();
}

TEST_CASE("A manager that ends with orders and handshakes under way leaves nothing behind") {
  World world;
  world.site("*", Mode::on_demand);
  world.allow("*");
  REQUIRE(world.configure());
  world.ca.hang = true;
  world.ask_for("a.example");
  world.settle();
  world.manager.reset();
  world.ca.release();
  world.settle();
  CHECK(world.served.empty());
}
