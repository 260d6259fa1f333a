#include "app/certificates.hpp"

#include <filesystem>
#include <fstream>
#include <thread>

#include <boost/asio/co_spawn.hpp>
#include <catch2/catch.hpp>

#include "base/fetch.hpp"
#include "config/load.hpp"
#include "tests/support/memory_storage.hpp"

using namespace gatehouse;
using tls::CertificatePtr;
namespace asio = boost::asio;

namespace {

class World {
 public:
  World() {
    char pattern[] = "/tmp/gatehouse-certificates-XXXXXX";
    folder_ = ::mkdtemp(pattern);
  }
  ~World() {
    certificates.close();
    std::filesystem::remove_all(folder_);
  }

  // Certificate and key in one file.
  CertificatePtr write(const std::string& name, const std::vector<std::string>& names) {
    auto made = tls::make_self_signed(names, std::chrono::hours(24));
    REQUIRE(made.has_value());
    std::ofstream(folder_ + "/" + name) << (*made)->chain_pem() << (*made)->key_pem();
    return *made;
  }
  void spoil(const std::string& name) { std::ofstream(folder_ + "/" + name) << "nonsense"; }

  // A configuration that listens where no port is needed.
  config::SnapshotPtr listening() const {
    const auto result =
        config::load_text("[server]\nhttp = [\"unix:" + path("http.sock") +
                              "\"]\nhttps = []\nworkers = 2\n[[site]]\nhosts = [\"a.example\"]\n"
                              "upstream = \"127.0.0.1:1\"\ncertificates = \"off\"\n",
                          "test.toml");
    for (const auto& mistake : result.diagnostics) UNSCOPED_INFO(mistake.to_string());
    return result.snapshot;
  }

  // Hosts and files, nothing else.
  static config::Site site(std::vector<std::string> hosts, std::string file = "") {
    config::Site made;
    for (auto& host : hosts) made.hosts.push_back({host});
    made.certificate = made.key = std::move(file);
    return made;
  }
  static config::SnapshotPtr snapshot(std::vector<config::Site> sites) {
    auto made = std::make_shared<config::Snapshot>();
    made->sites = std::move(sites);
    return made;
  }

  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  CertificatePtr served(const std::string& name) const {
    const auto found = certificates.table()->find(name);
    return found.certificate == nullptr ? nullptr : *found.certificate;
  }
  void settle() {
    control.restart();
    control.poll();
  }

  asio::io_context control;
  app::Certificates certificates{control, 2};

 private:
  std::string folder_;
};

CertificatePtr self_signed(const std::string& name) {
  auto made = tls::make_self_signed({name}, std::chrono::hours(24));
  REQUIRE(made.has_value());
  return *made;
}

}  // namespace

TEST_CASE("A site's own certificate is served for each of its hosts") {
  World world;
  const auto own = world.write("own.pem", {"shop.example", "*.shop.example"});
  REQUIRE(world.certificates
              .configure(World::snapshot(
                  {World::site({"shop.example", "*.shop.example"}, world.path("own.pem"))}))
              .empty());
  REQUIRE(world.served("shop.example"));
  CHECK(world.served("shop.example")->fingerprint() == own->fingerprint());
  CHECK(world.served("a.shop.example")->fingerprint() == own->fingerprint());
  CHECK(!world.served("other.example"));
  CHECK(world.certificates.status().size() == 2);
  CHECK(world.certificates.status()[0].state == "file");
}

TEST_CASE(
    "Every file of the user's is listed with its hosts, also of any host, and the fallbacks") {
  World world;
  const auto own = world.write("own.pem", {"a.example"});
  const auto spare = world.write("spare.pem", {"*.b.example"});
  auto other = World::site({"b.example"});
  other.fallback_certificate = other.fallback_key = world.path("spare.pem");
  REQUIRE(world.certificates
              .configure(World::snapshot({World::site({"*", "a.example"}, world.path("own.pem")),
                                          other, World::site({"c.example"})}))
              .empty());
  const auto list = world.certificates.file_status();
  REQUIRE(list.size() == 3);
  CHECK(list[0].name == "*");
  CHECK(list[0].serial == own->serial());
  CHECK(list[1].name == "a.example");
  CHECK(list[2].name == "b.example");
  CHECK(list[2].not_after == spare->not_after());
}

TEST_CASE("What acme obtains is served, replaced and withdrawn") {
  World world;
  auto hooks = world.certificates.manager_hooks();
  const auto first = self_signed("a.example"), second = self_signed("a.example");
  hooks.serve("a.example", first);
  CHECK(world.served("a.example") == first);
  hooks.serve("a.example", second);
  CHECK(world.served("a.example") == second);
  hooks.withdraw("a.example");
  CHECK(!world.served("a.example"));
}

TEST_CASE("The user's own certificate goes before acme's and is not withdrawn by it") {
  World world;
  world.write("own.pem", {"a.example"});
  REQUIRE(world.certificates
              .configure(World::snapshot({World::site({"a.example"}, world.path("own.pem"))}))
              .empty());
  auto hooks = world.certificates.manager_hooks();
  const auto own = world.served("a.example");
  hooks.serve("a.example", self_signed("a.example"));
  CHECK(world.served("a.example") == own);
  hooks.withdraw("a.example");
  CHECK(world.served("a.example") == own);
}

TEST_CASE("A site that gives up its own certificate makes room for acme's") {
  World world;
  world.write("own.pem", {"a.example"});
  REQUIRE(world.certificates
              .configure(World::snapshot({World::site({"a.example"}, world.path("own.pem"))}))
              .empty());
  REQUIRE(world.certificates.configure(World::snapshot({World::site({"a.example"})})).empty());
  CHECK(!world.served("a.example"));
  const auto obtained = self_signed("a.example");
  world.certificates.manager_hooks().serve("a.example", obtained);
  CHECK(world.served("a.example") == obtained);
}

TEST_CASE("A file that cannot be loaded is named and changes nothing") {
  World world;
  world.write("own.pem", {"a.example"});
  REQUIRE(world.certificates
              .configure(World::snapshot({World::site({"a.example"}, world.path("own.pem"))}))
              .empty());
  world.spoil("bad.pem");
  const auto mistakes = world.certificates.configure(
      World::snapshot({World::site({"a.example"}, world.path("bad.pem"))}));
  REQUIRE(mistakes.size() == 1);
  CHECK(mistakes[0].context.find(world.path("bad.pem")) != std::string::npos);
  CHECK(world.served("a.example"));
}

namespace {

/// A server of two workers beside the certificates, as in the program.
struct Serving {
  explicit Serving(World& w)
      : world(w),
        access_log(2, metrics),
        server(w.control, metrics, access_log, w.certificates.server_hooks()),
        fetcher(w.control),
        http01(w.control, w.certificates.challenge_publisher()),
        tls_alpn01(w.control, w.certificates.alpn_publisher()),
        manager(w.control, fetcher, storage, acme::Solvers{http01, tls_alpn01}, base::real_clock(),
                metrics.control(), w.certificates.manager_hooks()) {
    const auto snapshot = world.listening();
    REQUIRE(snapshot);
    REQUIRE(server.bind(snapshot).has_value());
    world.certificates.connect(server, manager);
    server.run();
  }
  ~Serving() {
    world.certificates.close();
    manager.stop();
    server.stop();
    world.settle();
  }

  World& world;
  base::Metrics metrics{2};
  proxy::AccessLog access_log;
  proxy::Server server;
  base::Fetcher fetcher;
  test::MemoryStorage storage;
  acme::Http01 http01;
  acme::TlsAlpn01 tls_alpn01;
  acme::Manager manager;
};

}  // namespace

TEST_CASE("Without a server name the only site's certificate is served") {
  World world;
  Serving serving(world);
  REQUIRE(world.certificates.configure(World::snapshot({World::site({"a.example"})})).empty());
  world.certificates.publish_now();
  const auto stand_in = world.certificates.table()->default_certificate();
  REQUIRE(stand_in);
  CHECK(stand_in->self_signed());
  const auto obtained = self_signed("a.example");
  world.certificates.manager_hooks().serve("a.example", obtained);
  world.settle();
  CHECK(world.certificates.table()->default_certificate() == obtained);
}

TEST_CASE("Without a server name the default site's own certificate is served") {
  World world;
  Serving serving(world);
  const auto own = world.write("own.pem", {"x.example"});
  REQUIRE(world.certificates
              .configure(World::snapshot(
                  {World::site({"a.example"}), World::site({"*"}, world.path("own.pem"))}))
              .empty());
  world.certificates.publish_now();
  REQUIRE(world.certificates.table()->default_certificate());
  CHECK(world.certificates.table()->default_certificate()->fingerprint() == own->fingerprint());
}

TEST_CASE("Of several sites none is the default") {
  World world;
  Serving serving(world);
  REQUIRE(world.certificates
              .configure(World::snapshot({World::site({"a.example"}), World::site({"b.example"})}))
              .empty());
  world.certificates.publish_now();
  CHECK(!world.certificates.table()->default_certificate());
}

TEST_CASE("A wish from a worker's thread is answered through the control thread") {
  World world;
  Serving serving(world);
  const auto hooks = world.certificates.server_hooks();
  std::atomic<int> answers{0};
  std::thread worker([&] {
    hooks.acquire("unknown.example", "127.0.0.1", [&](tls::Acquired acquired) {
      CHECK(acquired.outcome == tls::Acquired::Outcome::denied);
      ++answers;
    });
  });
  worker.join();
  CHECK(answers == 0);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (answers == 0 && std::chrono::steady_clock::now() < deadline) world.settle();
  CHECK(answers == 1);
}

TEST_CASE("The default site's own certificate answers names that no other site claims") {
  World world;
  Serving serving(world);
  const auto own = world.write("own.pem", {"x.example"});
  REQUIRE(world.certificates
              .configure(World::snapshot(
                  {World::site({"a.example"}), World::site({"*"}, world.path("own.pem"))}))
              .empty());
  const auto hooks = world.certificates.server_hooks();
  tls::Acquired any, other;
  hooks.acquire("any.example", "127.0.0.1", [&](tls::Acquired a) { any = std::move(a); });
  hooks.acquire("a.example", "127.0.0.1", [&](tls::Acquired a) { other = std::move(a); });
  world.settle();
  REQUIRE(any.outcome == tls::Acquired::Outcome::ready);
  CHECK(any.certificate->fingerprint() == own->fingerprint());
  CHECK(other.outcome != tls::Acquired::Outcome::ready);
}

TEST_CASE("When a challenge is published, every worker answers it, and unknown ones none") {
  World world;
  Serving serving(world);
  const auto hooks = world.certificates.server_hooks();
  const std::string target = "/.well-known/acme-challenge/token-1";
  CHECK(hooks.local(0, "a.example", target) == nullptr);
  auto table = std::make_shared<acme::ChallengeTable>();
  acme::Challenge challenge;
  challenge.identifier = "a.example";
  challenge.key_authorization = "token-1.thumb";
  table->set("token-1", challenge);
  bool done = false;
  world.certificates.challenge_publisher()(table, [&] { done = true; });
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!done && std::chrono::steady_clock::now() < deadline) world.settle();
  REQUIRE(done);
  for (const size_t worker : {0, 1}) {
    const std::string* const body = hooks.local(worker, "a.example", target);
    REQUIRE(body != nullptr);
    CHECK(*body == "token-1.thumb");
    CHECK(hooks.local(worker, "a.example", "/.well-known/acme-challenge/token-2") == nullptr);
  }
}

TEST_CASE("A challenge's certificate is shown by every worker, for its name alone") {
  World world;
  Serving serving(world);
  const auto hooks = world.certificates.server_hooks();
  CHECK(hooks.challenge_certificate(0, "a.example") == nullptr);
  auto table = std::make_shared<acme::AlpnTable>();
  const auto certificate = self_signed("a.example");
  table->set("a.example", certificate);
  bool done = false;
  world.certificates.alpn_publisher()(table, [&] { done = true; });
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!done && std::chrono::steady_clock::now() < deadline) world.settle();
  REQUIRE(done);
  for (const size_t worker : {0, 1}) {
    CHECK(hooks.challenge_certificate(worker, "a.example") == certificate);
    CHECK(hooks.challenge_certificate(worker, "b.example") == nullptr);
    CHECK(hooks.challenge_certificate(worker, "") == nullptr);
  }
}

TEST_CASE("After the close nobody is called any more") {
  World world;
  const auto hooks = world.certificates.server_hooks();
  world.certificates.close();
  hooks.acquire("a.example", "127.0.0.1", [](tls::Acquired) { FAIL("called"); });
  hooks.seen("a.example");
  world.certificates.challenge_publisher()(nullptr, [] { FAIL("called"); });
  world.settle();
}

TEST_CASE(
    "Why a site has no certificate for a name is said, where its configuration is the reason") {
  World world;
  auto plain = World::site({"plain.example"});
  plain.certificates = config::CertificateMode::off;
  auto first_visit = World::site({"*.visited.example"});
  first_visit.certificates = config::CertificateMode::on_demand;
  REQUIRE(world.certificates
              .configure(World::snapshot({plain, first_visit, World::site({"auto.example"})}))
              .empty());
  const auto why = [&](const std::string& name) {
    const auto error = world.certificates.absence(name);
    return error ? error->context : std::string();
  };
  CHECK(why("plain.example").find("plain HTTP only") != std::string::npos);
  CHECK(why("a.visited.example").find("first visited") != std::string::npos);
  CHECK(why("auto.example").empty());
  CHECK(why("nobody.example").empty());
}

TEST_CASE(
    "A name is shown with the certificate that it shares, of a wildcard or of the default site") {
  World world;
  world.write("zone.pem", {"*.zone.example"});
  world.write("any.pem", {"any.example"});
  REQUIRE(world.certificates
              .configure(World::snapshot({World::site({"*.zone.example"}, world.path("zone.pem")),
                                          World::site({"*"}, world.path("any.pem")),
                                          World::site({"auto.example"})}))
              .empty());
  const auto shared = [&](const std::string& name) {
    const auto details = world.certificates.shared_details(name);
    return details ? details->status.name + " of " + details->names.at(0) : std::string();
  };
  CHECK(shared("a.zone.example") == "*.zone.example of *.zone.example");
  CHECK(shared("whatever.example") == "* of any.example");
  std::string listed;
  for (const auto& status : world.certificates.status()) listed += status.name + " ";
  CHECK(listed == "*.zone.example * ");
  CHECK(shared("auto.example").empty());
  CHECK(shared("*.zone.example").empty());
}
