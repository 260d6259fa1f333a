#include "http/http1_server.hpp"

#include <memory>

#include <catch2/catch.hpp>

#include "tests/support/stage.hpp"

namespace gatehouse::http {

namespace {

using std::chrono::milliseconds;
using test::SocketPair;
using test::Stage;

Http1Server::Settings settings() {
  Http1Server::Settings s;
  s.header_timeout = s.idle_timeout = s.body_timeout = std::chrono::seconds(30);
  return s;
}

/// One connection whose requests are answered with what was understood of them.
struct Scene {
  explicit Scene(Http1Server::Settings s = settings()) {
    REQUIRE(stream.open(pair.ours));
    server = std::make_unique<Http1Server>(stream, stage.reactor, s);
  }
  ~Scene() {
    stream.fail(base::ErrorKind::cancelled, "the test is over");
    stage.settle();
  }
  Stage stage;
  SocketPair pair;
  tls::Stream stream{stage.reactor, base::Side::downstream};
  std::unique_ptr<Http1Server> server;
  std::string log;
  bool ended = false;
  bool answer = true;
};

base::Task<void> read_body(Scene& scene) {
  std::string body;
  for (;;) {
    auto reading = scene.server->read_body();
    const bool read = co_await reading;
    if (!read) {
      scene.log += " body failed: " + scene.server->error().context;
      co_return;
    }
    const BodyChunk chunk = scene.server->chunk();
    body += chunk.bytes;
    if (!chunk.last) continue;
    scene.log += " body=" + body;
    if (chunk.trailers != nullptr) {
      for (const auto& [name, value] : *chunk.trailers) scene.log += " " + name + "=" + value;
    }
    co_return;
  }
}

void respond(Scene& scene) {
  ResponseHead head;
  head.status = 200;
  head.reason = "OK";
  head.framing = Framing::length;
  head.add_view("Content-Length", "2");
  BodyChunk body;
  body.bytes = "ok";
  body.last = true;
  scene.server->write_head(head, body);
}

base::Task<void> serve(Scene& scene) {
  for (;;) {
    auto reading = scene.server->read_request();
    const bool come = co_await reading;
    if (!come) break;
    scene.log += std::string(scene.server->request().method_text) + " " +
                 std::string(scene.server->request().target);
    auto body = read_body(scene);
    co_await body;
    scene.log += "\n";
    if (scene.answer) respond(scene);
    auto drained = scene.server->drained();
    co_await drained;
    if (!scene.server->finish_request()) break;
  }
  if (scene.server->refusal()) {
    scene.log += "refused " + std::to_string(scene.server->refusal()->status) + "\n";
  }
  scene.ended = true;
}

/// What a connection makes of `input`, given whole or byte by byte.
std::string understood(const std::string& input, bool split) {
  Scene scene;
  base::spawn(serve(scene));
  if (split) {
    for (const char& byte : input) {
      scene.pair.send({&byte, 1});
      scene.stage.settle();
      if (scene.ended) break;
    }
  } else {
    scene.pair.send(input);
  }
  scene.pair.finish();
  scene.stage.until([&] { return scene.ended; });
  return scene.log;
}

}  // namespace

TEST_CASE("requests are understood the same, whole and split at every byte") {
  const struct {
    std::string input, log;
  } cases[] = {
      {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / body=\n"},
      {"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "POST /x body=hello\n"},
      {"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
       "3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nX-Sum: 7\r\n\r\n",
       "POST /x body=abc0123456789abcdef X-Sum=7\n"},
      // Pipelined: each in its turn, the bodies told apart.
      {"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nabGET /2 HTTP/1.1\r\nHost: "
       "a\r\n\r\n"
       "POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nz\r\n0\r\n\r\n"
       "GET /4 HTTP/1.1\r\nHost: a\r\n\r\n",
       "POST /1 body=ab\nGET /2 body=\nPOST /3 body=z\nGET /4 body=\n"},
      // After Connection: close nothing more is read.
      {"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
       "GET /1 body=\n"},
      {"GET / HTTP/1.0\r\n\r\nGET /2 HTTP/1.0\r\n\r\n", "GET / body=\n"},
      {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
       "GET / body=\nGET /2 body=\n"},
      {"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / body=\n"},
      {"GET / HTTP/1.1\r\nHost: a\r\n\r\nGARBAGE\r\n\r\n", "GET / body=\nrefused 400\n"},
      {"GET / HTTP/1.1\r\n\r\n", "refused 400\n"},
      {"GET / HTTP/1.1\nHost: a\n\n", "refused 400\n"},
      {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "refused 505\n"},
      {"GET / HTT", ""},
      {"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel",
       "POST /x body failed: the client closed in the middle of the body\n"},
  };
  for (const auto& each : cases) {
    INFO(each.input);
    CHECK(understood(each.input, false) == each.log);
    CHECK(understood(each.input, true) == each.log);
  }
}

TEST_CASE("a malformed chunked body is a failure, whole and split") {
  for (const std::string body : {"x\r\n", "-1\r\n", "0x1\r\na\r\n", "1\r\nab\r\n", "1\na\n"}) {
    const std::string input =
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body;
    INFO(input);
    CHECK(understood(input, false).find("body failed") != std::string::npos);
    CHECK(understood(input, true).find("body failed") != std::string::npos);
  }
}

TEST_CASE("a chunked body over the limit fails, one at the limit passes") {
  auto limited = settings();
  limited.body_bytes_max = 4;
  for (const auto& [body, fails] :
       {std::pair{"4\r\nabcd\r\n0\r\n\r\n", false}, std::pair{"5\r\nabcde\r\n0\r\n\r\n", true}}) {
    Scene scene(limited);
    base::spawn(serve(scene));
    scene.pair.send(
        std::string("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n") + body);
    scene.stage.until([&] { return scene.log.ends_with("\n"); });
    CHECK((scene.log.find("limits.request_body") != std::string::npos) == fails);
  }
}

TEST_CASE("responses leave in the order of pipelined requests, with the right persistence") {
  Scene scene;
  base::spawn(serve(scene));
  scene.pair.send(
      "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  scene.stage.until([&] { return scene.ended; });
  CHECK(scene.pair.receive() ==
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
}

TEST_CASE("a head that does not come in time is refused with 408, an idle connection just closed") {
  auto quick = settings();
  quick.header_timeout = milliseconds(200);
  quick.idle_timeout = milliseconds(200);
  {
    Scene scene(quick);
    base::spawn(serve(scene));
    scene.pair.send("GET / HT");
    scene.stage.until([&] { return scene.ended; });
    CHECK(scene.log == "refused 408\n");
  }
  {
    Scene scene(quick);
    base::spawn(serve(scene));
    scene.pair.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    scene.stage.until([&] { return scene.ended; });
    CHECK(scene.log == "GET / body=\n");
  }
}

TEST_CASE("a body that stalls fails with a timeout") {
  auto quick = settings();
  quick.body_timeout = milliseconds(200);
  Scene scene(quick);
  base::spawn(serve(scene));
  scene.pair.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe");
  scene.stage.until([&] { return scene.log.ends_with("\n"); });
  CHECK(scene.log.find("did not come in time") != std::string::npos);
}

TEST_CASE("a body that trickles fails, unless its answer is under way") {
  const bool answered = GENERATE(false, true);
  auto quick = settings();
  quick.body_timeout = milliseconds(300);
  quick.body_bytes_a_second = 64;
  Scene scene(quick);
  base::spawn(serve(scene));
  scene.pair.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
  scene.stage.settle();
  if (answered) {
    ResponseHead head;
    head.status = 200;
    head.framing = Framing::chunked;
    scene.server->write_head(head, {});
  }
  const auto end = std::chrono::steady_clock::now() + milliseconds(1000);
  while (std::chrono::steady_clock::now() < end && !scene.log.ends_with("\n")) {
    scene.pair.send("1\r\na\r\n");
    const auto next = std::chrono::steady_clock::now() + milliseconds(50);
    while (std::chrono::steady_clock::now() < next) scene.stage.context.run_one_until(next);
  }
  const bool failed = scene.log.find("did not come in time") != std::string::npos;
  CHECK(failed == !answered);
}

namespace {

struct Watching final : ServerStream::Watcher {
  void on_client_gone() override { gone = true; }
  bool gone = false;
};

base::Task<void> wait_with_watcher(Scene& scene, Watching& watching, bool& begun) {
  auto reading = scene.server->read_request();
  const bool come = co_await reading;
  if (!come) co_return;
  scene.server->watch(&watching);
  begun = true;
}

}  // namespace

TEST_CASE("a client that leaves is noticed; one that half-closed with its request is not gone") {
  const bool at_once = GENERATE(false, true);
  Scene scene;
  Watching watching;
  bool begun = false;
  scene.pair.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  if (at_once) scene.pair.finish();
  scene.stage.settle();
  base::spawn(wait_with_watcher(scene, watching, begun));
  scene.stage.until([&] { return begun; });
  if (!at_once) scene.pair.close_theirs();
  scene.stage.settle();
  CHECK(watching.gone == !at_once);
  scene.server->watch(nullptr);
}

namespace {

constexpr std::string_view handshake =
    "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
constexpr std::string_view granted =
    "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3p\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\n\r\n";

BodyChunk piece(std::string_view bytes, bool last = false) {
  BodyChunk chunk;
  chunk.bytes = bytes;
  chunk.last = last;
  return chunk;
}

/// Grants what is asked, then reads to the end.
base::Task<void> serve_tunnel(Scene& scene) {
  auto reading = scene.server->read_request();
  const bool come = co_await reading;
  scene.log += come ? std::string(scene.server->request().protocol) : "nothing";
  CHECK(scene.server->request_complete());
  ResponseHead head;
  head.status = 101;
  head.reason = "Switching Protocols";
  head.add_view("Sec-WebSocket-Accept", "s3p");
  scene.server->write_head(head, piece("first"));
  CHECK_FALSE(scene.server->request_complete());
  auto body = read_body(scene);
  co_await body;
  scene.ended = true;
}

void send_split(Scene& scene, std::string_view bytes, bool split) {
  if (!split) return scene.pair.send(bytes);
  for (const char& byte : bytes) {
    scene.pair.send({&byte, 1});
    scene.stage.settle();
  }
}

}  // namespace

TEST_CASE("a tunnel begins with what came behind the request, split at every byte") {
  const bool split = GENERATE(false, true);
  Scene scene;
  base::spawn(serve_tunnel(scene));
  send_split(scene, std::string(handshake) + "GET /2 HTTP/1.1\r\n\r\n", split);
  scene.stage.settle();
  CHECK(scene.log == "websocket");
  CHECK(scene.pair.receive() == std::string(granted) + "first");
  scene.server->write_body(piece(" and more"));
  CHECK(scene.pair.receive() == " and more");
  SECTION("the client ends first, and is not gone") {
    send_split(scene, "bye", split);
    scene.pair.finish();
    scene.stage.until([&] { return scene.ended; });
    CHECK(scene.log == "websocket body=GET /2 HTTP/1.1\r\n\r\nbye");
    CHECK(scene.server->request_complete());
    scene.server->write_body(piece("still here", true));
    CHECK(scene.pair.receive() == "still here");
    CHECK(scene.pair.closed);
  }
  SECTION("the origin ends first") {
    scene.server->write_body(piece("", true));
    scene.pair.receive();
    CHECK(scene.pair.closed);
    send_split(scene, "late", split);
    scene.pair.finish();
    scene.stage.until([&] { return scene.ended; });
    CHECK(scene.log == "websocket body=GET /2 HTTP/1.1\r\n\r\nlate");
  }
  CHECK_FALSE(scene.server->finish_request());
}

TEST_CASE("a client in a tunnel may be silent, and one that leaves is no failure of its body") {
  auto quick = settings();
  quick.body_timeout = quick.header_timeout = quick.idle_timeout = milliseconds(200);
  Scene scene(quick);
  base::spawn(serve_tunnel(scene));
  scene.pair.send(handshake);
  const auto begun = std::chrono::steady_clock::now();
  scene.stage.until([&] { return std::chrono::steady_clock::now() - begun > milliseconds(700); });
  CHECK_FALSE(scene.ended);
  scene.pair.receive();
  scene.pair.send("x");
  scene.pair.close_theirs();
  scene.stage.until([&] { return scene.ended; });
  CHECK(scene.log == "websocket body=x");
}

TEST_CASE("an aborted tunnel resumes whoever waits") {
  Scene scene;
  base::spawn(serve_tunnel(scene));
  scene.pair.send(handshake);
  scene.stage.settle();
  scene.server->abort();
  CHECK(scene.ended);
  CHECK(scene.log.starts_with("websocket body failed"));
}

TEST_CASE("what follows a handshake that is not granted is no request") {
  const bool split = GENERATE(false, true);
  Scene scene;
  scene.pair.send(std::string(handshake) + "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
  scene.stage.settle();
  base::spawn(serve(scene));
  scene.stage.until([&] { return scene.ended; });
  CHECK(scene.log == "GET /chat body=\n");
  CHECK(scene.pair.receive() ==
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
  Scene polite;
  base::spawn(serve(polite));
  send_split(polite, handshake, split);
  polite.stage.settle();
  send_split(polite, "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n", split);
  polite.stage.settle();
  CHECK(polite.log == "GET /chat body=\nGET /2 body=\n");
}

}  // namespace gatehouse::http
