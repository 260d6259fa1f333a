#include "app/expiry_watch.hpp"

#include <optional>

#include <catch2/catch.hpp>

#include "tests/support/manual_clock.hpp"
#include "tests/support/memory_storage.hpp"

using namespace gatehouse;
using acme::Event;
using namespace std::chrono_literals;
namespace asio = boost::asio;

namespace {

constexpr auto day = 24h;

struct Scene {
  asio::io_context control;
  test::ManualClock clock;
  test::MemoryStorage storage;
  std::vector<acme::CertificateStatus> list;
  std::vector<Event> told;
  std::optional<app::ExpiryWatch> watch;

  void add(const std::string& name, const std::string& serial, std::chrono::hours lifetime) {
    acme::CertificateStatus status;
    status.name = name;
    status.state = "file";
    status.issuer = "Some CA";
    status.serial = serial;
    status.not_before = clock.wall();
    status.not_after = clock.wall() + lifetime;
    list.push_back(status);
  }
  void start() {
    watch.emplace(
        control, storage, clock, [this] { return list; },
        [this](const Event& event) { told.push_back(event); });
    watch->start();
    settle();
  }
  void settle() {
    control.restart();
    control.poll();
  }
  void pass(std::chrono::hours time) {
    for (; time.count() > 0; time -= 1h) {
      clock.advance(1h);
      watch->look();
      settle();
    }
  }
};

}  // namespace

TEST_CASE("The end of a certificate is told at 25, 10 and 5 % and when it comes, once each") {
  Scene scene;
  scene.add("a.example", "01", 100 * day);
  scene.start();
  scene.pass(74 * day);
  CHECK(scene.told.empty());
  scene.pass(2 * day);
  REQUIRE(scene.told.size() == 1);
  CHECK(scene.told[0].kind == Event::Kind::expiring);
  CHECK(scene.told[0].name == "a.example");
  CHECK(scene.told[0].text.find("under 25 % of its lifetime are left") != std::string::npos);
  CHECK(scene.told[0].not_after == scene.list[0].not_after);
  scene.pass(15 * day);
  REQUIRE(scene.told.size() == 2);
  CHECK(scene.told[1].text.find("10 %") != std::string::npos);
  scene.pass(5 * day);
  REQUIRE(scene.told.size() == 3);
  CHECK(scene.told[2].text.find("5 %") != std::string::npos);
  scene.pass(5 * day);
  REQUIRE(scene.told.size() == 4);
  CHECK(scene.told[3].kind == Event::Kind::expired);
  scene.pass(60 * day);
  CHECK(scene.told.size() == 4);
}

TEST_CASE("A restart tells nothing twice") {
  Scene scene;
  scene.add("a.example", "01", 100 * day);
  scene.start();
  scene.pass(91 * day);
  REQUIRE(scene.told.size() == 2);
  scene.start();
  scene.pass(1 * day);
  CHECK(scene.told.size() == 2);
  scene.pass(5 * day);
  CHECK(scene.told.size() == 3);
}

TEST_CASE("A certificate first seen near its end is told once, of the nearest step") {
  Scene scene;
  scene.add("a.example", "01", 100 * day);
  scene.clock.advance(96 * day);
  scene.start();
  REQUIRE(scene.told.size() == 1);
  CHECK(scene.told[0].text.find("under 5 %") != std::string::npos);
}

TEST_CASE("A certificate with many names is told once, and a new one in its place anew") {
  Scene scene;
  for (int i = 0; i < 10; ++i) scene.add("n" + std::to_string(i) + ".example", "01", 100 * day);
  scene.start();
  scene.pass(76 * day);
  REQUIRE(scene.told.size() == 1);
  CHECK(scene.told[0].text.find("n0.example, n1.example, n2.example and 7 more") !=
        std::string::npos);
  scene.list.clear();
  scene.add("n0.example", "02", 10 * day);
  scene.pass(8 * day);
  CHECK(scene.told.size() == 2);
}

TEST_CASE("What was noted is forgotten a month after the end of a certificate that is gone") {
  Scene scene;
  scene.add("a.example", "01", 100 * day);
  scene.start();
  scene.pass(101 * day);
  CHECK(scene.storage.files.begin()->second.find("Some CA 01") != std::string::npos);
  scene.list.clear();
  scene.pass(31 * day);
  CHECK(scene.storage.files.begin()->second.find("Some CA 01") == std::string::npos);
}

TEST_CASE("A note that is damaged or cannot be kept costs a repetition, no more") {
  for (const auto* text : {"", "{", "[]", R"({"told":[]})", R"({"told":{"Some CA 01":[9,9]}})",
                           R"({"told":{"Some CA 01":["x",1],"y":[1],"z":7}})",
                           R"({"told":{"y":[-5,9223372036854775807]}})"}) {
    Scene scene;
    scene.storage.files["notify/expiry.json"] = text;
    scene.add("a.example", "01", 100 * day);
    scene.start();
    scene.pass(80 * day);
    CHECK(scene.told.size() <= 1);
  }
  Scene scene;
  scene.storage.permit = [](const auto&, const auto&) { return false; };
  scene.storage.damaged.insert("notify/expiry.json");
  scene.add("a.example", "01", 100 * day);
  scene.start();
  scene.pass(76 * day);
  CHECK(scene.told.size() == 1);
}
