#include "http/http1_client.hpp"

#include <memory>

#include <catch2/catch.hpp>

#include "http/websocket.hpp"
#include "tests/support/stage.hpp"

namespace gatehouse::http {

namespace {

using std::chrono::milliseconds;
using test::SocketPair;
using test::Stage;

Http1Client::Settings settings() {
  Http1Client::Settings s;
  s.response_timeout = s.body_timeout = s.idle_timeout = std::chrono::seconds(30);
  return s;
}

struct Scene {
  explicit Scene(Http1Client::Settings s = settings())
      : client(std::make_unique<Http1Client>(stage.reactor, s)) {
    REQUIRE(client->stream().open(pair.ours));
    REQUIRE(client->begin(s) == client.get());
    request.method = Method::get;
    request.method_text = "GET";
    request.target = "/";
  }
  ~Scene() {
    client->cancel(base::ErrorKind::cancelled, "the test is over");
    client->stream().close();
  }
  void rest(ClientConnection::Keeper& keeper) {
    client->keep(&keeper);
    REQUIRE(client->available());
  }
  Stage stage;
  SocketPair pair;
  RequestHead request;
  std::unique_ptr<Http1Client> client;
  std::string log;
  bool ended = false;
};

base::Task<void> read_body(Scene& scene) {
  std::string body;
  for (;;) {
    auto reading = scene.client->read_body();
    const bool read = co_await reading;
    if (!read) {
      scene.log += " body failed after " + body;
      co_return;
    }
    const BodyChunk chunk = scene.client->chunk();
    body += chunk.bytes;
    if (!chunk.last) continue;
    scene.log += " body=" + body;
    if (chunk.trailers != nullptr) {
      for (const auto& [name, value] : *chunk.trailers) scene.log += " " + name + "=" + value;
    }
    co_return;
  }
}

base::Task<void> request(Scene& scene) {
  BodyChunk none;
  none.last = true;
  scene.client->write_head(scene.request, "origin.test", none);
  for (;;) {
    auto reading = scene.client->read_head();
    const bool come = co_await reading;
    if (!come) {
      scene.log += "failed: " + std::string(base::name(scene.client->error().kind));
      break;
    }
    scene.log += std::to_string(scene.client->response().status);
    if (scene.client->response().status < 200) {
      scene.log += " ";
      continue;
    }
    auto body = read_body(scene);
    co_await body;
    break;
  }
  scene.client->end(*scene.client);
  if (scene.client->available()) scene.log += " reusable";
  scene.ended = true;
}

std::string understood(const std::string& response, bool split, bool finish,
                       Method method = Method::get) {
  Scene scene;
  scene.request.method = method;
  base::spawn(request(scene));
  scene.pair.receive();
  if (split) {
    for (const char& byte : response) {
      scene.pair.send({&byte, 1});
      scene.stage.settle();
      if (scene.ended) break;
    }
  } else {
    scene.pair.send(response);
  }
  if (finish) scene.pair.finish();
  scene.stage.until([&] { return scene.ended; });
  return scene.log;
}

}  // namespace

TEST_CASE("responses are understood the same, whole and split at every byte") {
  const struct {
    std::string input, log;
    bool finish = false;
    Method method = Method::get;
  } cases[] = {
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "200 body=hello reusable"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
       "200 body=hello X-Sum=1 reusable"},
      {"HTTP/1.1 204 No Content\r\n\r\n", "204 body= reusable"},
      {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "304 body= reusable"},
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "200 body= reusable", false, Method::head},
      {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200 body= reusable"},
      {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
       "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
       "100 103 200 body=x reusable"},
      {"HTTP/1.1 200 OK\r\n\r\nuntil the end", "200 body=until the end", true},
      {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", "200 body=x"},
      {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", "200 body=x"},
      {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "200 body failed after short", true},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "200 body failed after hel",
       true},
      {"HTTP/1.1 101 Switching Protocols\r\n\r\n", "failed: protocol"},
      {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
       "failed: protocol"},
      {"SSH-2.0-OpenSSH\r\n\r\n", "failed: protocol"},
      {"", "failed: closed", true},
      {"HTTP/1.1 200", "failed: closed", true},
  };
  for (const auto& each : cases) {
    INFO(each.input);
    CHECK(understood(each.input, false, each.finish, each.method) == each.log);
    CHECK(understood(each.input, true, each.finish, each.method) == each.log);
  }
}

TEST_CASE("bytes after the response make the connection useless") {
  const std::string log = understood(
      "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
      false, false);
  CHECK(log == "200 body=x");
}

TEST_CASE("a flood of interim responses is cut off") {
  std::string flood;
  for (size_t i = 0; i < Http1Client::interim_responses_max + 1; ++i) {
    flood += "HTTP/1.1 103 Early Hints\r\n\r\n";
  }
  const std::string log = understood(flood, false, false);
  CHECK(log.ends_with("failed: limit"));
}

TEST_CASE("a silent origin is a timeout, and so is one that stalls in the body") {
  auto quick = settings();
  quick.response_timeout = quick.body_timeout = milliseconds(200);
  for (const std::string begin : {"", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"}) {
    Scene scene(quick);
    base::spawn(request(scene));
    if (!begin.empty()) scene.pair.send(begin);
    scene.stage.until([&] { return scene.ended; });
    CHECK(scene.client->error().kind == base::ErrorKind::timeout);
  }
}

namespace {

struct Keeping final : ClientConnection::Keeper {
  void on_change(ClientConnection&) override { lost = true; }
  bool lost = false;
};

}  // namespace

TEST_CASE("an idle connection that the origin closes is lost, and one with stray bytes not woken") {
  const bool stray = GENERATE(false, true);
  Scene scene;
  base::spawn(request(scene));
  scene.pair.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  scene.stage.until([&] { return scene.ended; });
  Keeping keeping;
  scene.rest(keeping);
  if (stray) {
    scene.pair.send("HTTP/1.1 200 OK\r\n");
    scene.stage.settle();
    CHECK(scene.client->begin(settings()) == nullptr);
    CHECK(scene.client->finished());
  } else {
    scene.pair.close_theirs();
    scene.stage.until([&] { return keeping.lost; });
    CHECK(keeping.lost);
    CHECK(scene.client->finished());
  }
}

namespace {

/// Sends the next request in the very batch in which its connection becomes readable, as an event
/// of another client's may, and before the stream has heard of it.
base::Task<void> wake_and_request(Scene& scene, bool& woken) {
  woken = scene.client->begin(settings()) != nullptr;
  auto requesting = request(scene);
  co_await requesting;
}

struct Trigger final : base::Source {
  Trigger(Scene& s, bool& w) : scene(s), woken(w) {}
  void on_ready() override {
    if (std::exchange(fired, true)) return;
    base::spawn(wake_and_request(scene, woken));
  }
  Scene& scene;
  bool& woken;
  bool fired = true;
};

}  // namespace

TEST_CASE("bytes that were there before the request are not its answer") {
  Scene scene;
  bool woken = false;
  SocketPair clock;
  Trigger trigger(scene, woken);
  REQUIRE(scene.stage.reactor.add(trigger, clock.ours));
  base::spawn(request(scene));
  scene.pair.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  scene.stage.until([&] { return scene.ended; });
  Keeping keeping;
  scene.rest(keeping);
  scene.stage.settle();
  scene.ended = false;
  scene.log.clear();
  trigger.fired = false;
  // The trigger's event comes first, because it became ready first.
  clock.send("now");
  scene.pair.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
  scene.stage.until([&] { return scene.ended; });
  CHECK(woken);
  CHECK(scene.log == "failed: closed");
  CHECK(scene.client->error().retry == base::Retry::if_reused);
  scene.stage.reactor.close(trigger);
}

TEST_CASE("an idle connection is given up before the origin's keep-alive runs out") {
  Scene scene;
  base::spawn(request(scene));
  scene.pair.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: timeout=2\r\n\r\n");
  scene.stage.until([&] { return scene.ended; });
  Keeping keeping;
  scene.rest(keeping);
  scene.stage.until([&] { return keeping.lost; }, std::chrono::seconds(10));
  CHECK(keeping.lost);
}

TEST_CASE("a reused connection that ends without an answer may be retried, a new one may not") {
  Scene scene;
  base::spawn(request(scene));
  scene.pair.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  scene.stage.until([&] { return scene.ended; });
  Keeping keeping;
  scene.rest(keeping);
  REQUIRE(scene.client->begin(settings()) != nullptr);
  CHECK(scene.client->reused());
  scene.ended = false;
  scene.log.clear();
  base::spawn(request(scene));
  scene.pair.close_theirs();
  scene.stage.until([&] { return scene.ended; });
  CHECK(scene.client->error().retry == base::Retry::if_reused);
  Scene fresh;
  base::spawn(request(fresh));
  fresh.pair.close_theirs();
  fresh.stage.until([&] { return fresh.ended; });
  CHECK(fresh.client->error().retry == base::Retry::never);
}

TEST_CASE("an origin that is silent on a reused connection is not asked again") {
  auto quick = settings();
  quick.response_timeout = milliseconds(200);
  Scene scene(quick);
  base::spawn(request(scene));
  scene.pair.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  scene.stage.until([&] { return scene.ended; });
  Keeping keeping;
  scene.rest(keeping);
  REQUIRE(scene.client->begin(quick) != nullptr);
  CHECK(scene.client->reused());
  scene.ended = false;
  base::spawn(request(scene));
  scene.stage.until([&] { return scene.ended; });
  CHECK(scene.client->error().kind == base::ErrorKind::timeout);
  CHECK(scene.client->error().retry == base::Retry::never);
}

namespace {

/// The key that the client has sent with its request.
std::string key_in(const std::string& sent) {
  constexpr std::string_view name = "Sec-WebSocket-Key: ";
  const size_t at = sent.find(name);
  REQUIRE(at != std::string::npos);
  const size_t begin = at + name.size();
  return sent.substr(begin, sent.find('\r', begin) - begin);
}

std::string granting(const std::string& key) {
  return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Accept: " +
         websocket_accept(key) + "\r\n\r\n";
}

/// A request for a tunnel that was sent; the key it was sent with.
std::string ask(Scene& scene) {
  scene.request.protocol = websocket_protocol;
  base::spawn(request(scene));
  return key_in(scene.pair.receive());
}

void send_split(Scene& scene, const std::string& bytes, bool split) {
  if (!split) return scene.pair.send(bytes);
  for (const char& byte : bytes) {
    scene.pair.send({&byte, 1});
    scene.stage.settle();
  }
}

base::Task<void> read_tunnel(Scene& scene) {
  auto head = scene.client->read_head();
  const bool come = co_await head;
  scene.log += come ? std::to_string(scene.client->response().status) : "failed";
  auto body = read_body(scene);
  co_await body;
  scene.ended = true;
}

base::Task<void> drain(Scene& scene, bool& over, bool& taken) {
  auto drained = scene.client->drained();
  taken = co_await drained;
  over = true;
}

BodyChunk piece(std::string_view bytes, bool last = false) {
  BodyChunk chunk;
  chunk.bytes = bytes;
  chunk.last = last;
  return chunk;
}

/// Opens a tunnel whose bytes go into the log when it ends.
void open(Scene& scene, bool split = false, const std::string& behind = {}) {
  scene.request.protocol = websocket_protocol;
  scene.client->write_head(scene.request, "origin.test", piece({}, true));
  const std::string key = key_in(scene.pair.receive());
  base::spawn(read_tunnel(scene));
  send_split(scene, granting(key) + behind, split);
  scene.stage.until([&] { return !scene.log.empty(); });
}

}  // namespace

TEST_CASE("a granted tunnel carries bytes both ways, and each end of them, split at every byte") {
  const bool split = GENERATE(false, true);
  Scene scene;
  open(scene, split, "\x81\x02hi");
  REQUIRE(scene.log == "101");
  scene.client->write_body(piece("up\r\n\r\n"));
  CHECK(scene.pair.receive() == "up\r\n\r\n");
  send_split(scene, " and more", split);
  SECTION("the origin ends first") {
    scene.pair.finish();
    scene.stage.until([&] { return scene.ended; });
    CHECK(scene.log == "101 body=\x81\x02hi and more");
    scene.client->write_body(piece("late"));
    scene.client->write_body(piece("", true));
    CHECK(scene.pair.receive() == "late");
    CHECK(scene.pair.closed);
  }
  SECTION("we end first") {
    scene.client->write_body(piece("last", true));
    CHECK(scene.pair.receive() == "last");
    CHECK(scene.pair.closed);
    CHECK_FALSE(scene.ended);
    send_split(scene, ", late", split);
    scene.pair.finish();
    scene.stage.until([&] { return scene.ended; });
    CHECK(scene.log == "101 body=\x81\x02hi and more, late");
  }
  CHECK_FALSE(scene.client->available());
}

TEST_CASE("the client's own key is sent and answered for") {
  Scene scene;
  scene.request.add_view("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
  scene.request.add_view("Sec-WebSocket-Version", "13");
  CHECK(ask(scene) == "dGhlIHNhbXBsZSBub25jZQ==");
  scene.pair.send(granting("dGhlIHNhbXBsZSBub25jZQ=="));
  scene.stage.settle();
  CHECK(scene.log == "101 ");
}

TEST_CASE("interim responses may come ahead of the 101") {
  Scene scene;
  const std::string key = ask(scene);
  scene.pair.send("HTTP/1.1 103 Early Hints\r\n\r\n" + granting(key));
  scene.stage.settle();
  CHECK(scene.log == "103 101 ");
}

TEST_CASE("a 101 that does not answer what was asked is a bad response, whole and split") {
  const bool split = GENERATE(false, true);
  Scene scene;
  const std::string key = ask(scene);
  std::string answer = granting(key);
  SECTION("no accept value") {
    answer = granting(key).substr(0, 75) + "\r\n";
  }
  SECTION("another key's") {
    answer = granting("dGhlIHNhbXBsZSBub25jZQ==");
  }
  SECTION("another protocol") {
    answer.replace(answer.find("websocket"), 9, "h2c");
  }
  SECTION("both framings") {
    answer.insert(34, "Content-Length: 1\r\nTransfer-Encoding: x\r\n");
  }
  send_split(scene, answer, split);
  scene.stage.until([&] { return scene.ended; });
  CHECK(scene.log == "failed: protocol");
}

TEST_CASE("an answer other than 101 is an ordinary response") {
  Scene scene;
  ask(scene);
  scene.pair.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
  scene.stage.until([&] { return scene.ended; });
  CHECK(scene.log == "403 body=no reusable");
}

TEST_CASE("a connection that asked for a tunnel in vain takes no 101 afterwards") {
  Scene scene;
  const std::string key = ask(scene);
  scene.pair.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
  scene.stage.until([&] { return scene.ended; });
  REQUIRE(scene.client->begin(settings()) != nullptr);
  scene.request.protocol = {};
  scene.ended = false;
  scene.log.clear();
  base::spawn(request(scene));
  CHECK(scene.pair.receive().find("Upgrade") == std::string::npos);
  scene.pair.send(granting(key));
  scene.stage.until([&] { return scene.ended; });
  CHECK(scene.log == "failed: protocol");
}

TEST_CASE("in a tunnel silence is no stall, but refusing what waits is one") {
  auto quick = settings();
  quick.body_timeout = milliseconds(300);
  Scene scene(quick);
  open(scene);
  const auto begun = std::chrono::steady_clock::now();
  scene.stage.until([&] { return std::chrono::steady_clock::now() - begun > milliseconds(900); });
  CHECK_FALSE(scene.ended);
  // More than the socket takes, and nobody reads it.
  const std::string block(200'000, 'x');
  while (!scene.client->stream().pending()) scene.client->write_body(piece(block));
  bool over = false, taken = true;
  base::spawn(drain(scene, over, taken));
  scene.pair.send("meanwhile");  // what the origin says does not excuse it
  scene.stage.until([&] { return over && scene.ended; });
  CHECK_FALSE(taken);
  CHECK(scene.client->error().kind == base::ErrorKind::timeout);
}

TEST_CASE("a tunnel that is given up resumes whoever waits") {
  Scene scene;
  open(scene);
  scene.client->cancel(base::ErrorKind::cancelled, "enough");
  CHECK(scene.ended);
  CHECK(scene.log == "101 body failed after ");
  scene.pair.receive();
  CHECK(scene.pair.closed);
}

}  // namespace gatehouse::http
