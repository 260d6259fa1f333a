#include "app/self_check.hpp"

#include <filesystem>
#include <optional>
#include <vector>

#include <boost/asio/post.hpp>
#include <catch2/catch.hpp>

#include "base/metrics.hpp"
#include "config/load.hpp"
#include "proxy/access_log.hpp"
#include "proxy/server.hpp"
#include "tls/certificate_table.hpp"

using namespace gatehouse;
using namespace std::chrono_literals;
using tls::CertificatePtr;
namespace asio = boost::asio;

namespace {

CertificatePtr self_signed(const std::string& name) {
  auto made = tls::make_self_signed({name}, std::chrono::hours(24));
  REQUIRE(made.has_value());
  return *made;
}

/// A server on a Unix socket whose table may say anything, and what looks at it.
class Scene {
 public:
  explicit Scene(const std::string& more = "") {
    char pattern[] = "/tmp/gatehouse-check-XXXXXX";
    folder_ = ::mkdtemp(pattern);
    const auto result = config::load_text(
        "[server]\nhttp = []\nhttps = [\"unix:" + folder_ + "/https.sock\"]\nworkers = 2\n" + more +
            "\n[[site]]\nhosts = [\"a.example\", \"*.example\"]\nupstream = \"127.0.0.1:1\"\n"
            "certificates = \"internal\"\n",
        "test.toml");
    for (const auto& mistake : result.diagnostics) UNSCOPED_INFO(mistake.to_string());
    REQUIRE(result.snapshot);
    snapshot_ = result.snapshot;
    proxy::ServerHooks hooks;
    hooks.seen = [this](const std::string& name) {
      asio::post(control, [this, name] { seen_while_looking.push_back(checks.looks_at(name)); });
    };
    server.emplace(control, metrics, access_log, std::move(hooks));
    REQUIRE(server->bind(snapshot_).has_value());
    server->run();
    checks.configure(snapshot_);
  }
  ~Scene() {
    checks.close();
    if (server) server->stop();
    control.restart();
    control.poll();
    std::filesystem::remove_all(folder_);
  }

  /// Every worker answers `name` with this from now on.
  void publish(const std::string& name, const CertificatePtr& certificate) {
    bool done = false;
    server->publish_certificates(tls::CertificateTable::empty()->with(name, certificate),
                                 [&done] { done = true; });
    until([&done] { return done; });
  }
  template <class Condition>
  void until(Condition condition) {
    const auto end = std::chrono::steady_clock::now() + 20s;
    while (!condition()) {
      REQUIRE(std::chrono::steady_clock::now() < end);
      control.restart();
      control.run_one_for(10ms);
    }
  }
  app::SelfCheck::Problem look(const std::string& name, const CertificatePtr& certificate,
                               bool current = true) {
    std::optional<app::SelfCheck::Problem> found;
    checks.check(
        name, certificate, [current] { return current; },
        [&found](const app::SelfCheck::Problem& problem) { found.emplace(problem); });
    until([&found] { return found.has_value(); });
    return *found;
  }

  asio::io_context control;
  base::Metrics metrics{2};
  proxy::AccessLog access_log{2, metrics};
  std::optional<proxy::Server> server;
  app::SelfCheck checks{control};
  std::vector<bool> seen_while_looking;

 private:
  std::string folder_;
  config::SnapshotPtr snapshot_;
};

}  // namespace

TEST_CASE("A certificate that the listener shows passes the check, by name and by wildcard") {
  Scene scene;
  const auto exact = self_signed("a.example"), wildcard = self_signed("*.example");
  scene.publish("a.example", exact);
  CHECK(scene.look("a.example", exact) == "");
  scene.publish("*.example", wildcard);
  CHECK(scene.look("*.example", wildcard) == "");
}

TEST_CASE("What the look does to the listener can be told from a visit") {
  Scene scene;
  const auto certificate = self_signed("a.example");
  scene.publish("a.example", certificate);
  CHECK(scene.look("a.example", certificate) == "");
  scene.until([&] { return !scene.seen_while_looking.empty(); });
  CHECK(scene.seen_while_looking == std::vector<bool>{true});
  CHECK_FALSE(scene.checks.looks_at("a.example"));
}

TEST_CASE("A table that lies is found out, and the listener is named") {
  Scene scene;
  const auto meant = self_signed("a.example"), shown = self_signed("a.example");
  scene.publish("a.example", shown);
  const std::string problem = scene.look("a.example", meant).value();
  CHECK(problem.find("https.sock") != problem.npos);
  CHECK(problem.find(shown->fingerprint()) != problem.npos);
}

TEST_CASE("A name that the listener refuses is a problem with OpenSSL's words for it") {
  Scene scene;
  const auto meant = self_signed("b.other");
  scene.publish("b.other", meant);
  CHECK(scene.look("b.other", meant).value().find("fails") != std::string::npos);
}

TEST_CASE("A listener behind a PROXY protocol is told that nobody stands behind us") {
  Scene scene("proxy_protocol = true\ntrusted_proxies = [\"127.0.0.1\"]");
  const auto certificate = self_signed("a.example");
  scene.publish("a.example", certificate);
  CHECK(scene.look("a.example", certificate) == "");
}

TEST_CASE(
    "What cannot be seen is told as that: addresses, listeners that are gone, what is replaced") {
  Scene scene;
  const auto meant = self_signed("a.example");
  scene.publish("a.example", self_signed("a.example"));
  CHECK(app::name_to_ask_for("192.0.2.1").empty());
  CHECK(app::name_to_ask_for("2001:db8::1").empty());
  CHECK(app::name_to_ask_for("*.example") == "gatehouse-self-check.example");
  CHECK_FALSE(scene.look("192.0.2.1", meant));
  CHECK_FALSE(scene.look("a.example", meant, false));
  scene.server->stop();
  scene.server.reset();
  CHECK_FALSE(scene.look("a.example", meant));
}

TEST_CASE("Many checks at once run a few at a time, and all are answered") {
  Scene scene;
  const auto certificate = self_signed("a.example");
  scene.publish("a.example", certificate);
  size_t answered = 0;
  for (size_t i = 0; i < app::SelfCheck::waiting_max + 100; ++i)
    scene.checks.check(
        i % 2 == 0 ? "a.example"
                   : "192.0." + std::to_string(i / 250) + "." + std::to_string(i % 250),
        certificate, [] { return true; },
        [&answered](const app::SelfCheck::Problem& problem) {
          CHECK((!problem || problem->empty()));
          ++answered;
        });
  scene.until([&] { return answered == app::SelfCheck::waiting_max + 100; });
}
