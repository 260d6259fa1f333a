#include "proxy/pool.hpp"

#include <arpa/inet.h>
#include <memory>
#include <netinet/in.h>

#include <catch2/catch.hpp>

#include "proxy/upstream.hpp"
#include "tests/support/http2_peer.hpp"

namespace gatehouse::proxy {

namespace {

using base::Metric;
using std::chrono::seconds;
using test::Http2Peer;

http::ClientConnection::Settings settings() {
  http::ClientConnection::Settings s;
  s.response_timeout = s.body_timeout = seconds(30);
  s.idle_timeout = seconds(60);
  return s;
}

/// The origin's side of one connection.
struct Accepted {
  Accepted(int fd, const Http2Peer::Settings& settings) {
    ::close(pair.ours);
    pair.close_theirs();
    pair.theirs = fd;
    peer = std::make_unique<Http2Peer>(pair, settings);
  }
  test::SocketPair pair;
  std::unique_ptr<Http2Peer> peer;
};

/// An origin on loopback that accepts when it is told to.
struct Origin {
  Origin() {
    settings.server = true;
    listener = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const where = reinterpret_cast<sockaddr*>(&address);
    REQUIRE(::bind(listener, where, size) == 0);
    REQUIRE(::listen(listener, 4096) == 0);
    REQUIRE(::getsockname(listener, where, &size) == 0);
    port = ntohs(address.sin_port);
  }
  ~Origin() { stop(); }
  void stop() {
    if (listener >= 0) ::close(listener);
    listener = -1;
  }
  bool accept() {
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return false;
    all.push_back(std::make_unique<Accepted>(fd, settings));
    return true;
  }
  Http2Peer& operator[](size_t i) { return *all[i]->peer; }

  Http2Peer::Settings settings;
  std::vector<std::unique_ptr<Accepted>> all;
  int listener = -1;
  uint16_t port = 0;
};

struct Opened {
  Pool::Opening opening;
  base::Result<Pool::Lease> lease = base::Error();
  bool done = false;
};

struct Scene {
  Scene() {
    endpoint.origin.text = "the origin";
    endpoint.origin.host = "127.0.0.1";
    endpoint.origin.port = origin.port;
    endpoint.origin.http2 = true;
  }
  ~Scene() {
    opened.clear();
    pool.clear();
    stage.reactor.run([] {});
  }
  Opened& open(const void* owner = nullptr);
  /// Everything moves until `condition` holds.
  template <class C>
  void until(C&& condition) {
    stage.until([&] {
      stage.reactor.run([] {});
      if (accepts) {
        while (origin.accept()) continue;
      }
      for (auto& each : origin.all) each->peer->pump();
      return condition();
    });
  }
  void until_done() {
    until([&] {
      for (const auto& each : opened) {
        if (!each->done) return false;
      }
      return true;
    });
  }
  int64_t count(Metric metric) const { return metrics.value(metric); }

  test::ManualClock clock;
  test::Stage stage{clock};
  base::MetricShard metrics;
  Origin origin;
  Endpoint endpoint;
  Pool pool{stage.reactor, metrics};
  std::vector<std::unique_ptr<Opened>> opened;
  bool accepts = true;
};

base::Task<void> open_one(Scene& scene, Opened& into, const void* owner) {
  const auto used = settings();
  auto opening = scene.pool.open(scene.endpoint, seconds(10), used, {owner, {}}, into.opening);
  into.lease = co_await opening;
  into.done = true;
}

Opened& Scene::open(const void* owner) {
  Opened& made = *opened.emplace_back(std::make_unique<Opened>());
  base::spawn(open_one(*this, made, owner));
  return made;
}

}  // namespace

TEST_CASE("requests that want a connection at the same time share one that carries many") {
  Scene scene;
  for (int i = 0; i < 5; ++i) scene.open();
  scene.until_done();
  for (const auto& each : scene.opened) CHECK(each->lease.has_value());
  CHECK(scene.count(Metric::upstream_connects) == 1);
  CHECK(scene.origin.all.size() == 1);
  // And whoever comes later, without opening anything.
  CHECK(scene.pool.acquire(0, settings()));
}

TEST_CASE("connections that carry one request at a time are opened for each") {
  Scene scene;
  scene.endpoint.origin.http2 = false;
  for (int i = 0; i < 3; ++i) scene.open();
  scene.until_done();
  CHECK(scene.count(Metric::upstream_connects) == 3);
  CHECK_FALSE(scene.pool.acquire(0, settings()));
}

TEST_CASE("a connect that fails is told to all that waited for it, and the next one tries again") {
  Scene scene;
  scene.origin.stop();
  for (int i = 0; i < 4; ++i) scene.open();
  scene.until_done();
  for (const auto& each : scene.opened) {
    REQUIRE(each->lease.has_error());
    CHECK(each->lease.error().kind == base::ErrorKind::refused);
    CHECK(each->lease.error().retry == base::Retry::always);
  }
  CHECK(scene.count(Metric::upstream_connect_failures) == 1);
  scene.open();
  scene.until_done();
  CHECK(scene.count(Metric::upstream_connect_failures) == 2);
}

TEST_CASE("a connect that is never answered fails for all that wait for it") {
  Scene scene;
  scene.endpoint.origin.host = "192.0.2.1";  // RFC 5737: nobody
  for (int i = 0; i < 3; ++i) scene.open();
  scene.stage.settle();
  scene.stage.pass(scene.clock, seconds(11));
  scene.until_done();
  for (const auto& each : scene.opened) CHECK(each->lease.has_error());
}

TEST_CASE("requests that find no room on the connection they waited for share the next one") {
  Scene scene;
  constexpr size_t room = 100;
  for (size_t i = 0; i < 2 * room + 10; ++i) scene.open();
  scene.until_done();
  for (const auto& each : scene.opened) CHECK(each->lease.has_value());
  CHECK(scene.count(Metric::upstream_connects) == 3);
}

TEST_CASE("an origin that goes away on a new connection takes no request") {
  Scene scene;
  scene.accepts = false;
  const bool owned = GENERATE(false, true);
  int owner = 0;
  Opened& opened = scene.open(owned ? &owner : nullptr);
  // Before the reactor hears that the connection is made.
  REQUIRE(scene.origin.accept());
  scene.origin[0].goaway(0);
  scene.until([&] { return opened.done; });
  REQUIRE(opened.lease.has_error());
  CHECK(opened.lease.error().kind == base::ErrorKind::unavailable);
  CHECK(opened.lease.error().retry == base::Retry::always);
  CHECK(scene.count(Metric::upstream_connects) == 1);
  scene.opened.clear();
  CHECK(scene.count(Metric::upstream_idle) == 0);
}

TEST_CASE("an origin that allows no request yet is given one, and a further connection") {
  Scene scene;
  scene.origin.settings.streams_max = 0;
  for (int i = 0; i < 3; ++i) scene.open();
  scene.until_done();
  for (const auto& each : scene.opened) CHECK(each->lease.has_value());
  CHECK(scene.count(Metric::upstream_connects) == 3);
}

TEST_CASE("a request that waits has the room that becomes free before a connection is made") {
  Scene scene;
  scene.origin.settings.streams_max = 1;
  Opened& first = scene.open();
  scene.until_done();
  scene.accepts = false;  // the second connection is never greeted
  Opened& second = scene.open();
  Opened& third = scene.open();
  scene.stage.settle();
  CHECK_FALSE(second.done);
  first.lease.value().release();
  scene.until([&] { return second.done; });
  CHECK(second.lease.has_value());
  CHECK_FALSE(third.done);
  second.lease.value().release();
  scene.until([&] { return third.done; });
  CHECK(third.lease.has_value());
  CHECK(scene.count(Metric::upstream_connects) == 1);
}

TEST_CASE("a request waits for room no longer than it may") {
  Scene scene;
  scene.origin.settings.streams_max = 1;
  scene.open();
  scene.until_done();
  scene.accepts = false;
  Opened& second = scene.open();
  scene.stage.pass(scene.clock, seconds(5));
  Opened& third = scene.open();
  scene.stage.pass(scene.clock, seconds(6));
  scene.until([&] { return second.done; });
  REQUIRE(second.lease.has_error());
  CHECK(second.lease.error().kind == base::ErrorKind::timeout);
  CHECK(second.lease.error().retry == base::Retry::always);
  scene.until([&] { return third.done; });  // no connection came for it either
  CHECK(third.lease.has_error());
}

TEST_CASE(
    "a request that waits for a connection can be given up, and the others still get theirs") {
  Scene scene;
  Opened& first = scene.open();
  Opened& second = scene.open();
  first.opening.cancel();
  CHECK(first.done);
  REQUIRE(first.lease.has_error());
  CHECK(first.lease.error().kind == base::ErrorKind::cancelled);
  CHECK_FALSE(second.done);
  scene.until_done();
  CHECK(second.lease.has_value());
  CHECK(scene.count(Metric::upstream_connects) == 1);
}

TEST_CASE("a connection that is being made for many ends with the pool's others") {
  Scene scene;
  scene.accepts = false;
  Opened& opened = scene.open();
  scene.stage.settle();
  opened.opening.cancel();
  CHECK(opened.done);
  CHECK(scene.count(Metric::upstream_connect_failures) == 0);
  scene.pool.clear();
  CHECK(scene.count(Metric::upstream_connect_failures) == 1);
}

TEST_CASE("a connection with an owner serves its owner alone, and goes with it") {
  Scene scene;
  int alice = 0, bob = 0;
  scene.open(&alice);
  scene.open(&alice);
  scene.open();
  scene.until_done();
  CHECK(scene.count(Metric::upstream_connects) == 3);
  scene.opened.clear();
  CHECK(scene.count(Metric::upstream_idle) == 3);
  CHECK_FALSE(scene.pool.acquire(0, settings(), &bob));
  CHECK(scene.pool.acquire(0, settings(), &alice));
  CHECK(scene.pool.acquire(0, settings()));
  scene.pool.forget(&bob);
  CHECK(scene.count(Metric::upstream_idle) == 3);
  scene.pool.forget(&alice);
  CHECK(scene.count(Metric::upstream_idle) == 1);
  CHECK_FALSE(scene.pool.acquire(0, settings(), &alice));
  CHECK(scene.pool.acquire(0, settings()));
}

TEST_CASE("connections of one endpoint are not another's") {
  Scene scene;
  scene.open();
  scene.until_done();
  scene.opened.clear();
  CHECK_FALSE(scene.pool.acquire(1, settings()));
  CHECK_FALSE(scene.pool.acquire(7, settings()));
  CHECK(scene.pool.acquire(0, settings()));
}

TEST_CASE("the newest connection is used first, and the oldest goes when there are too many") {
  Scene scene;
  int owner = 0;  // each opens one of its own
  for (size_t i = 0; i < Pool::idle_max + 3; ++i) {
    Opened& made = scene.open(&owner);
    scene.until([&] { return made.done; });
    REQUIRE(made.lease.has_value());
  }
  scene.opened.clear();
  CHECK(scene.count(Metric::upstream_idle) == Pool::idle_max);
  http::RequestHead head;
  head.method_text = "GET";
  head.target = "/";
  Pool::Lease lease = scene.pool.acquire(0, settings(), &owner);
  REQUIRE(lease);
  http::BodyChunk none;
  none.last = true;
  lease->write_head(head, "a.example", none);
  scene.stage.reactor.run([] {});
  for (size_t i = 0; i < Pool::idle_max + 3; ++i) {
    scene.origin[i].pump();
    CHECK(scene.origin.all[i]->pair.closed == (i < 3));
    CHECK(scene.origin[i].opened.size() == (i == Pool::idle_max + 2 ? 1 : 0));
    scene.origin.all[i]->peer.reset();
    scene.origin.all[i]->pair.close_theirs();
  }
  scene.origin.all.clear();
  lease.release();
}

TEST_CASE("a connection that ends while it is idle leaves the pool by itself") {
  Scene scene;
  scene.open();
  scene.until_done();
  scene.opened.clear();
  CHECK(scene.count(Metric::upstream_idle) == 1);
  SECTION("because the origin closes it") {
    scene.origin.all[0]->pair.close_theirs();
  }
  SECTION("because the origin goes away") {
    scene.origin[0].goaway(0);
  }
  SECTION("because it was idle for too long") {
    scene.stage.pass(scene.clock, seconds(61));
  }
  scene.until([&] { return scene.count(Metric::upstream_idle) == 0; });
  CHECK_FALSE(scene.pool.acquire(0, settings()));
}

TEST_CASE("a connection that ends while it is used is withdrawn, and freed when it is given back") {
  Scene scene;
  Opened& opened = scene.open();
  scene.until_done();
  scene.origin.all[0]->pair.close_theirs();
  scene.until([&] { return (*opened.lease)->poll_head() == http::Poll::failed; });
  CHECK_FALSE(scene.pool.acquire(0, settings()));
  opened.lease.value().release();
  scene.stage.reactor.run([] {});
  CHECK(scene.count(Metric::upstream_idle) == 0);
}

TEST_CASE("clearing closes what is idle and leaves what is used") {
  Scene scene;
  int owner = 0;
  Opened& used = scene.open();
  scene.open(&owner);
  scene.until_done();
  *scene.opened.back()->lease = Pool::Lease();
  CHECK(scene.count(Metric::upstream_idle) == 1);
  scene.pool.clear();
  CHECK(scene.count(Metric::upstream_idle) == 0);
  CHECK_FALSE(scene.pool.acquire(0, settings(), &owner));
  CHECK((*used.lease)->poll_head() == http::Poll::pending);
}

}  // namespace gatehouse::proxy
