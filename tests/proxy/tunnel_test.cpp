#include "proxy/tunnel.hpp"

#include <random>

#include <catch2/catch.hpp>

#include "tests/support/scripted_streams.hpp"
#include "tests/support/stage.hpp"

namespace gatehouse::proxy {

namespace {

using std::chrono::milliseconds;
using test::ScriptedClient;
using test::ScriptedOrigin;

/// A tunnel from the moment its origin has granted it.
struct Scene {
  explicit Scene(config::Duration idle = std::chrono::hours(1))
      : tunnel(client, origin, stage.reactor, idle) {
    origin.response().status = 101;
  }
  ~Scene() { origin.cancel(base::ErrorKind::cancelled, "the test is over"); }
  void begin();
  void wake() {
    client.wake();
    origin.wake();
  }
  std::string why() const { return tunnel.error() ? tunnel.error()->context : ""; }
  bool cut() const { return client.aborted && origin.cancelled; }

  test::Stage stage;
  ScriptedClient client;
  ScriptedOrigin origin;
  Tunnel tunnel;
  bool over = false;
};

base::Task<void> run(Scene& scene) {
  auto running = scene.tunnel.run();
  co_await running;
  scene.over = true;
}

void Scene::begin() {
  base::spawn(run(*this));
}

}  // namespace

TEST_CASE("a tunnel carries both directions at once") {
  Scene scene;
  scene.origin.feed.pieces = {"came with the 101"};
  scene.client.feed.pieces = {"came with the request"};
  scene.begin();
  CHECK(scene.client.status == 101);
  CHECK(scene.client.drain.bytes == "came with the 101");
  CHECK(scene.origin.drain.bytes == "came with the request");
  scene.client.feed.pieces = {", up"};
  scene.origin.feed.pieces = {", down"};
  scene.wake();
  CHECK(scene.client.drain.bytes == "came with the 101, down");
  CHECK(scene.origin.drain.bytes == "came with the request, up");
  CHECK_FALSE(scene.over);
  scene.client.feed.ended = scene.origin.feed.ended = true;
  scene.wake();
  CHECK(scene.over);
  CHECK_FALSE(scene.tunnel.error());
  CHECK_FALSE(scene.client.aborted);
  CHECK_FALSE(scene.origin.cancelled);
  CHECK(scene.tunnel.bytes_up() == scene.origin.drain.bytes.size());
  CHECK(scene.tunnel.bytes_down() == scene.client.drain.bytes.size());
}

TEST_CASE("the end of one direction is passed on, and the other goes on") {
  Scene scene;
  scene.begin();
  const bool client_first = GENERATE(true, false);
  auto& ends = client_first ? scene.client.feed : scene.origin.feed;
  auto& stays = client_first ? scene.origin.feed : scene.client.feed;
  auto& told = client_first ? scene.origin.drain : scene.client.drain;
  auto& hears = client_first ? scene.client.drain : scene.origin.drain;
  ends.pieces = {"the end"};
  ends.ended = true;
  scene.wake();
  CHECK(told.bytes == "the end");
  CHECK(told.ended);
  CHECK_FALSE(scene.over);
  stays.pieces = {"not yet"};
  scene.wake();
  CHECK(hears.bytes == "not yet");
  CHECK_FALSE(hears.ended);
  CHECK_FALSE(scene.over);
  stays.ended = true;
  scene.wake();
  CHECK(hears.ended);
  CHECK(scene.over);
  CHECK_FALSE(scene.tunnel.error());
}

TEST_CASE("a tunnel whose origin ends at once passes that on") {
  Scene scene;
  scene.origin.feed.ended = true;
  scene.begin();
  CHECK(scene.client.status == 101);
  CHECK(scene.client.drain.ended);
  CHECK_FALSE(scene.over);
  scene.client.feed.ended = true;
  scene.wake();
  CHECK(scene.over);
}

TEST_CASE("an error on either side, reading or writing, ends both") {
  Scene scene;
  scene.begin();
  const int which = GENERATE(0, 1, 2, 3);
  if (which == 0) scene.client.feed.failed = true;
  if (which == 1) scene.origin.feed.failed = true;
  if (which == 2) {
    scene.client.drain.broken = true;
    scene.origin.feed.pieces = {"nobody takes this"};
  }
  if (which == 3) {
    scene.origin.drain.broken = true;
    scene.client.feed.pieces = {"nobody takes this"};
  }
  scene.wake();
  CHECK(scene.over);
  CHECK(scene.cut());
  CHECK(scene.why() ==
        (which % 2 == 0 ? "the scripted client failed" : "the scripted origin failed"));
}

TEST_CASE("an error ends a direction that waits for its reader, too") {
  Scene scene;
  scene.begin();
  scene.client.drain.blocked = scene.origin.drain.blocked = true;
  scene.client.feed.pieces = {"up"};
  scene.origin.feed.pieces = {"down", "stuck"};
  scene.wake();
  CHECK(scene.origin.feed.pieces.size() == 1);
  const bool client = GENERATE(true, false);
  (client ? scene.client.drain : scene.origin.drain).broken = true;
  scene.wake();
  CHECK(scene.over);
  CHECK(scene.cut());
}

TEST_CASE("the last words of an origin arrive though it listens no more") {
  Scene scene;
  scene.begin();
  scene.client.drain.blocked = true;
  scene.origin.feed.pieces = {"last words"};
  scene.origin.feed.ended = true;
  scene.wake();
  scene.origin.drain.broken = true;
  scene.client.feed.pieces = {"too late"};
  scene.wake();
  CHECK_FALSE(scene.over);
  CHECK(scene.client.stopped);
  scene.client.drain.blocked = false;
  scene.wake();
  CHECK(scene.over);
  CHECK_FALSE(scene.client.aborted);
  CHECK_FALSE(scene.tunnel.error());
  CHECK(scene.client.drain.bytes == "last words");
}

TEST_CASE("a reader that takes nothing holds its own direction up, and no other") {
  Scene scene;
  scene.begin();
  scene.client.drain.blocked = true;
  scene.origin.feed.pieces = {"one", "two", "three"};
  scene.client.feed.pieces = {"a", "b", "c"};
  scene.wake();
  CHECK(scene.client.drain.bytes == "one");
  CHECK(scene.origin.feed.pieces.size() == 2);
  CHECK(scene.origin.drain.bytes == "abc");
  scene.client.drain.blocked = false;
  scene.wake();
  CHECK(scene.client.drain.bytes == "onetwothree");
}

TEST_CASE("a tunnel without a byte in either direction ends, one with bytes in one does not") {
  Scene scene(milliseconds(400));
  scene.begin();
  const auto begun = std::chrono::steady_clock::now();
  auto fed = begun;
  scene.stage.until([&] {
    const auto now = std::chrono::steady_clock::now();
    if (now - fed > milliseconds(100)) {
      fed = now;
      scene.origin.feed.pieces.push_back("x");
      scene.origin.wake();
    }
    return now - begun > milliseconds(1200);
  });
  CHECK_FALSE(scene.over);
  scene.stage.until([&] { return scene.over; });
  CHECK(scene.cut());
  CHECK(scene.why().find("timeouts.tunnel") != std::string::npos);
  CHECK(scene.tunnel.error()->kind == base::ErrorKind::timeout);
}

TEST_CASE("an idle tunnel ends also when a direction is over or waits for its reader") {
  Scene scene(milliseconds(100));
  const int which = GENERATE(0, 1, 2, 3);
  if (which == 0) scene.origin.feed.ended = true;
  if (which == 1) scene.client.feed.ended = true;
  if (which >= 2) scene.client.drain.blocked = scene.origin.drain.blocked = true;
  if (which == 2) scene.client.feed.pieces = {"up"};
  if (which == 3) scene.client.feed.pieces = scene.origin.feed.pieces = {"both"};
  scene.begin();
  scene.stage.until([&] { return scene.over; });
  CHECK(scene.cut());
  CHECK(scene.tunnel.error()->kind == base::ErrorKind::timeout);
}

TEST_CASE("a tunnel given up from outside ends") {
  Scene scene;
  scene.begin();
  scene.origin.cancel(base::ErrorKind::cancelled, "the time to drain is over");
  CHECK(scene.over);
  CHECK(scene.cut());
}

TEST_CASE("whatever happens in whatever order, a tunnel ends and loses or invents nothing") {
  for (unsigned seed = 0; seed < 20'000; ++seed) {
    std::mt19937 random(seed);
    Scene scene;
    std::string up, down;
    scene.begin();
    auto& client = scene.client;
    auto& origin = scene.origin;
    const auto feed = [&](test::Feed& to, std::string& all, int step) {
      if (to.ended || to.failed) return;
      to.pieces.push_back(std::to_string(step) + ",");
      all += to.pieces.back();
    };
    for (int step = 0; step < 40 && !scene.over; ++step) {
      switch (random() % 12) {
        case 0:
        case 1:
          feed(client.feed, up, step);
          break;
        case 2:
        case 3:
          feed(origin.feed, down, step);
          break;
        case 4:
          client.feed.ended = !client.feed.failed;
          break;
        case 5:
          origin.feed.ended = !origin.feed.failed;
          break;
        case 6:
          client.drain.blocked = !client.drain.blocked;
          break;
        case 7:
          origin.drain.blocked = !origin.drain.blocked;
          break;
        case 8:
          client.feed.failed = random() % 8 == 0 && !client.feed.ended;
          break;
        case 9:
          origin.feed.failed = random() % 8 == 0 && !origin.feed.ended;
          break;
        case 10:
          client.drain.broken = random() % 16 == 0;
          break;
        case 11:
          origin.drain.broken = random() % 16 == 0;
          break;
      }
      random() % 2 == 0 ? client.wake() : origin.wake();
    }
    client.drain.blocked = origin.drain.blocked = false;
    client.feed.ended = !client.feed.failed;
    origin.feed.ended = !origin.feed.failed;
    for (int i = 0; i < 4; ++i) scene.wake();
    INFO("seed " << seed);
    REQUIRE(scene.over);
    const auto& sent = origin.drain.bytes;
    const auto& got = client.drain.bytes;
    REQUIRE(sent == up.substr(0, sent.size()));
    REQUIRE(got == down.substr(0, got.size()));
    REQUIRE(scene.cut() == scene.tunnel.error().has_value());
    if (scene.cut()) continue;
    REQUIRE(got == down);
    REQUIRE(client.drain.ended);
    if (!client.stopped) REQUIRE((sent == up && origin.drain.ended));
  }
}

}  // namespace gatehouse::proxy
