#include "http/http2_client.hpp"

#include <memory>

#include <catch2/catch.hpp>

#include "tests/support/http2_peer.hpp"

namespace gatehouse::http {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::FieldTexts;
using test::Http2Peer;
using test::with;

const FieldTexts ok = {{":status", "200"}};

ClientConnection::Settings settings() {
  ClientConnection::Settings s;
  s.response_timeout = seconds(60);
  s.body_timeout = seconds(30);
  s.idle_timeout = seconds(300);
  return s;
}

Http2Peer::Settings origin_settings() {
  Http2Peer::Settings s;
  s.server = true;
  return s;
}

BodyChunk piece(std::string_view bytes, bool last = false) {
  BodyChunk chunk;
  chunk.bytes = bytes;
  chunk.last = last;
  return chunk;
}

struct Scene;

/// One request and what came of it.
struct Fetch {
  Scene& scene;
  ClientStream* stream;
  bool reads_body = true;
  std::string log;
  bool ended = false;
  base::Error error;
};

struct Scene {
  explicit Scene(const Http2Peer::Settings& peer = origin_settings(),
                 ClientConnection::Settings s = settings())
      : origin(pair, peer),
        limits(s),
        client(std::make_unique<Http2Client>(stage.reactor, metrics, s)) {
    REQUIRE(client->stream().open(pair.ours));
    base::spawn(greet());
    head.method = Method::get;
    head.method_text = "GET";
    head.target = "/";
    head.framing = Framing::none;
  }
  ~Scene() {
    for (auto& each : fetches) {
      if (!each->ended) each->stream->cancel(base::ErrorKind::cancelled, "the test is over");
      if (!each->ended) client->end(*each->stream);
    }
    client->keep(nullptr);
    client->stream().fail(base::ErrorKind::cancelled, "the test is over");
    stage.settle();
    CHECK(greeted);
    client->stream().close();
    stage.settle();
  }
  base::Task<void> greet() {
    auto greeting = client->greet();
    greeted = co_await greeting ? "well" : "not";
  }

  /// A stream that nothing is done with yet.
  Fetch& begin() {
    ClientStream* const stream = client->begin(limits);
    REQUIRE(stream != nullptr);
    return *fetches.emplace_back(new Fetch{*this, stream, true, {}, false, {}});
  }
  Fetch& fetch(std::string_view target = "/", bool ends = true);
  void settle() { origin.settle(stage); }
  void pass(milliseconds time) {
    stage.pass(clock, time);
    settle();
  }
  /// The origin's number of the newest request.
  int32_t id() const { return origin.opened.back(); }

  test::ManualClock clock;
  test::Stage stage{clock};
  test::SocketPair pair;
  base::MetricShard metrics;
  Http2Peer origin;
  ClientConnection::Settings limits;
  RequestHead head;
  std::unique_ptr<Http2Client> client;
  std::vector<std::unique_ptr<Fetch>> fetches;
  const char* greeted = nullptr;  // while it goes on
};

base::Task<void> read_body(Fetch& fetch) {
  ClientStream& stream = *fetch.stream;
  std::string body;
  while (!stream.response_complete()) {
    auto reading = stream.read_body();
    const bool read = co_await reading;
    if (!read) {
      fetch.log += " body failed after " + body;
      co_return;
    }
    body += stream.chunk().bytes;
    if (stream.chunk().trailers == nullptr) continue;
    for (const auto& [name, value] : *stream.chunk().trailers) body += " " + name + "=" + value;
  }
  fetch.log += " body=" + body;
}

base::Task<void> read_response(Fetch& fetch) {
  ClientStream& stream = *fetch.stream;
  for (;;) {
    auto reading = stream.read_head();
    const bool come = co_await reading;
    if (!come) {
      fetch.log += "failed: " + std::string(base::name(stream.error().kind));
      break;
    }
    fetch.log += std::to_string(stream.response().status);
    for (const Field& field : stream.response().fields) {
      if (!field.skip) fetch.log += " " + std::string(field.name) + "=" + std::string(field.value);
    }
    if (stream.response().status < 200) {
      fetch.log += ", ";
      continue;
    }
    if (!fetch.reads_body) co_return;
    auto body = read_body(fetch);
    co_await body;
    break;
  }
  fetch.error = stream.error();
  fetch.scene.client->end(stream);
  fetch.ended = true;
}

Fetch& Scene::fetch(std::string_view target, bool ends) {
  Fetch& made = begin();
  head.target = target;
  made.stream->write_head(head, "a.example", piece("", ends));
  base::spawn(read_response(made));
  return made;
}

base::Task<void> drain(Fetch& fetch) {
  auto drained = fetch.stream->drained();
  const bool taken = co_await drained;
  fetch.log += taken ? "drained " : "not drained ";
}

struct Keeping final : ClientConnection::Keeper {
  void on_change(ClientConnection& connection) override {
    ++told;
    finished = connection.finished();
    available = connection.available();
  }
  int told = 0;
  bool finished = false;
  bool available = true;
};

}  // namespace

// --- requests and responses

TEST_CASE("HTTP/2: responses are understood the same, whole and split at every byte") {
  const bool split = GENERATE(false, true);
  const struct {
    Method method;
    FieldTexts head;
    std::string body;
    FieldTexts trailers;
    std::string log;
  } cases[] = {
      {Method::get, ok, "hello", {}, "200 body=hello"},
      {Method::get, ok, "", {}, "200 body="},
      {Method::get,
       with(ok, {{"x", "y"}}),
       "hello",
       {{"x-sum", "1"}, {"date", "x"}},
       "200 x=y body=hello x-sum=1"},
      {Method::get,
       with(ok, {{"content-length", "5"}}),
       "hello",
       {},
       "200 content-length=5 body=hello"},
      {Method::get, {{":status", "204"}}, "", {}, "204 body="},
      {Method::get,
       {{":status", "304"}, {"content-length", "5"}},
       "",
       {},
       "304 content-length=5 body="},
      {Method::head, with(ok, {{"content-length", "5"}}), "", {}, "200 content-length=5 body="},
      {Method::get,
       with(ok, {{"content-length", "5"}}),
       "hell",
       {},
       "200 content-length=5 body failed after hell"},
      {Method::get, {{":status", "101"}}, "", {}, "failed: "},
      {Method::get, {{":status", "20"}}, "", {}, "failed: "},
      {Method::get, {{"x", "y"}}, "", {}, "failed: "},
      {Method::get, with(ok, {{"connection", "close"}}), "", {}, "failed: "},
      {Method::get, with(ok, {{"x", "a\r\nb: c"}}), "", {}, "failed: "},
      {Method::get, with(ok, {{"content-length", "x"}}), "", {}, "failed: "},
  };
  for (const auto& each : cases) {
    INFO(each.log);
    Scene scene;
    scene.head.method = each.method;
    if (each.method == Method::head) scene.head.method_text = "HEAD";
    Fetch& fetch = scene.fetch();
    scene.settle();
    REQUIRE(scene.origin.opened.size() == 1);
    const bool ends = each.body.empty() && each.trailers.empty();
    scene.origin.respond(scene.id(), each.head, ends);
    if (!ends) scene.origin.send(scene.id(), each.body, true, each.trailers);
    split ? scene.origin.settle_split(scene.stage) : scene.settle();
    CHECK(fetch.ended);
    CHECK(fetch.log.starts_with(each.log));
    CHECK(scene.client->idle());
    CHECK(scene.client->available());
  }
}

TEST_CASE("HTTP/2: a request's head, body and trailers arrive, in pieces small and big") {
  Scene scene;
  scene.head.method = Method::post;
  scene.head.method_text = "POST";
  scene.head.accepts_trailers = true;
  scene.head.add_view("X-Mixed", "Case");
  Fetch& fetch = scene.fetch("/up?x", false);
  std::string sent;
  for (const size_t size : {1, 100, 9000, 40'000, 5}) {
    const std::string part(size, static_cast<char>('a' + size % 26));
    sent += part;
    fetch.stream->write_body(piece(part));
    if (size == 9000) scene.settle();
  }
  const Trailers trailers = {{"x-sum", "7"}};
  BodyChunk last = piece("!", true);
  last.trailers = &trailers;
  fetch.stream->write_body(last);
  scene.settle();
  const auto& request = scene.origin[scene.id()];
  REQUIRE(request.heads.size() == 2);
  CHECK(request.heads[0] ==
        ":method=POST :scheme=http :authority=a.example :path=/up?x x-mixed=Case te=trailers");
  CHECK(request.heads[1] == "x-sum=7");
  CHECK(request.body == sent + "!");
  CHECK(request.ended);
  scene.origin.respond(scene.id(), ok);
  scene.settle();
  CHECK(fetch.log == "200 body=");
}

TEST_CASE("HTTP/2: many requests share the connection and are answered in any order") {
  Scene scene;
  std::vector<Fetch*> all;
  for (int i = 0; i < 20; ++i) all.push_back(&scene.fetch("/" + std::to_string(i)));
  scene.settle();
  REQUIRE(scene.origin.opened.size() == 20);
  for (size_t i = 20; i > 0; --i) {
    const int32_t id = scene.origin.opened[i - 1];
    scene.origin.respond(id, ok, false);
    scene.origin.send(id, "for " + std::to_string(i - 1), true);
    if (i % 3 == 0) scene.settle();
  }
  scene.settle();
  for (size_t i = 0; i < 20; ++i) CHECK(all[i]->log == "200 body=for " + std::to_string(i));
  CHECK(scene.client->idle());
}

TEST_CASE("HTTP/2: interim responses come first, up to their limit") {
  const uint32_t count = GENERATE(1U, ClientConnection::interim_responses_max,
                                  ClientConnection::interim_responses_max + 1);
  Scene scene;
  Fetch& fetch = scene.fetch();
  scene.settle();
  for (uint32_t i = 0; i < count; ++i) scene.origin.inform(scene.id(), {{":status", "103"}});
  scene.settle();
  scene.origin.respond(scene.id(), ok);
  scene.settle();
  const bool sane = count <= ClientConnection::interim_responses_max;
  CHECK(fetch.log.ends_with(sane ? "103, 200 body=" : "failed: limit"));
  if (!sane) CHECK(scene.origin[scene.id()].reset == static_cast<uint32_t>(Http2Error::cancel));
}

TEST_CASE("HTTP/2: heads and trailers over the limit are bad responses") {
  auto small = settings();
  small.head.bytes_max = 1000;
  for (const bool trailers : {false, true}) {
    Scene scene(origin_settings(), small);
    Fetch& fetch = scene.fetch();
    scene.settle();
    const FieldTexts large = {{"x", std::string(1000, 'x')}};
    scene.origin.respond(scene.id(), trailers ? ok : with(ok, large), false);
    scene.settle();
    scene.origin.send(scene.id(), "body", true, trailers ? large : FieldTexts{});
    scene.settle();
    CHECK(fetch.log.find(trailers ? "200 body failed" : "failed: protocol") != std::string::npos);
    CHECK(fetch.error.kind == base::ErrorKind::protocol);
    CHECK(scene.client->available());
  }
}

// --- flow control

TEST_CASE("HTTP/2: whoever does not read a response is given at most a window of it") {
  Scene scene;
  Fetch& slow = scene.begin();
  slow.reads_body = false;
  slow.stream->write_head(scene.head, "a.example", piece("", true));
  base::spawn(read_response(slow));
  scene.settle();
  const std::string body(300'000, 'b');
  scene.origin.respond(scene.id(), ok, false);
  scene.origin.send(scene.id(), body, true);
  scene.settle();
  CHECK(slow.log == "200");
  // Others are not held up by it.
  Fetch& other = scene.fetch();
  scene.settle();
  scene.origin.respond(scene.id(), ok, false);
  scene.origin.send(scene.id(), "quick", true);
  scene.settle();
  CHECK(other.log == "200 body=quick");
  size_t come = 0;
  while (slow.stream->poll_body() == Poll::ready) {
    CHECK(slow.stream->chunk().bytes.size() <= Http2Session::stream_window_bytes);
    come += slow.stream->chunk().bytes.size();
    if (slow.stream->response_complete()) break;
    scene.settle();
  }
  CHECK(come == body.size());
}

TEST_CASE("HTTP/2: an origin whose window is closed stops the upload, and opens it again") {
  auto narrow = origin_settings();
  narrow.window_bytes = 0;
  narrow.opens_windows = false;
  Scene scene(narrow);
  scene.settle();
  Fetch& first = scene.fetch();  // learns of the window
  scene.settle();
  scene.origin.respond(scene.id(), ok);
  scene.settle();
  REQUIRE(first.ended);
  Fetch& fetch = scene.fetch("/", false);
  const std::string body(20'000, 'x');
  fetch.stream->write_body(piece(body, true));
  base::spawn(drain(fetch));
  scene.settle();
  CHECK(fetch.log.empty());
  scene.origin.open_window(scene.id(), 19'999);
  scene.settle();
  CHECK(fetch.log.empty());
  scene.origin.open_window(scene.id(), 1);
  scene.settle();
  CHECK(fetch.log == "drained ");
  CHECK(scene.origin[scene.id()].body == body);
}

// --- failures

TEST_CASE("HTTP/2: a refused stream may always be sent again, a reset one may not") {
  const struct {
    uint32_t code;
    base::Retry retry;
  } cases[] = {{7, base::Retry::always},
               {0, base::Retry::never},
               {2, base::Retry::never},
               {8, base::Retry::never}};
  for (const auto& each : cases) {
    Scene scene;
    Fetch& fetch = scene.fetch();
    scene.settle();
    scene.origin.reset(scene.id(), each.code);
    scene.settle();
    CHECK(fetch.log.starts_with("failed: "));
    CHECK(fetch.error.retry == each.retry);
    CHECK(fetch.error.side == base::Side::upstream);
    CHECK(scene.client->available());
  }
}

TEST_CASE("HTTP/2: a response is cut short by a reset, after what had come") {
  Scene scene;
  Fetch& fetch = scene.fetch();
  scene.settle();
  scene.origin.respond(scene.id(), ok, false);
  scene.origin.send(scene.id(), "begin");
  scene.settle();
  scene.origin.reset(scene.id(), 2);
  scene.settle();
  CHECK(fetch.log == "200 body failed after begin");
}

TEST_CASE("HTTP/2: an origin that has answered may stop the upload without an error") {
  Scene scene;
  Fetch& fetch = scene.fetch("/", false);
  const std::string body(200'000, 'x');
  fetch.stream->write_body(piece(body));
  fetch.reads_body = true;
  base::spawn(drain(fetch));
  scene.settle();
  scene.origin.respond(scene.id(), {{":status", "413"}}, false);
  scene.origin.send(scene.id(), "no", true);
  scene.settle();
  CHECK(fetch.log.find("413 body=no") != std::string::npos);
}

TEST_CASE("HTTP/2: GOAWAY refuses the requests behind its last, and the others are answered") {
  Scene scene;
  Fetch& first = scene.fetch("/1");
  Fetch& second = scene.fetch("/2");
  Keeping keeping;
  scene.client->keep(&keeping);
  scene.settle();
  scene.origin.goaway(1);
  scene.settle();
  CHECK(second.log == "failed: unavailable");
  CHECK(second.error.retry == base::Retry::always);
  CHECK(first.log.empty());
  CHECK(keeping.told > 0);
  CHECK_FALSE(scene.client->available());
  scene.origin.respond(1, ok);
  scene.settle();
  CHECK(first.log == "200 body=");
  CHECK(scene.client->finished());
  CHECK_FALSE(scene.client->available());
}

TEST_CASE("HTTP/2: a request that GOAWAY has overtaken was never sent, and may be sent again") {
  Scene scene;
  scene.fetch();
  scene.settle();
  scene.origin.respond(scene.id(), ok);
  scene.settle();
  scene.origin.goaway(1);
  scene.origin.pump();
  // Begun in the same batch in which the GOAWAY comes.
  Fetch& late = scene.fetch("/late");
  scene.stage.settle();
  scene.settle();
  CHECK(late.log.starts_with("failed: "));
  CHECK(late.error.retry != base::Retry::never);
  CHECK(scene.origin.opened.size() == 1);
}

TEST_CASE("HTTP/2: a response that came whole can be read although the connection has ended") {
  const bool goes_away = GENERATE(false, true);
  Scene scene;
  Fetch& now = scene.fetch("/now");
  Fetch& later = scene.begin();
  later.reads_body = false;
  later.stream->write_head(scene.head, "a.example", piece("", true));
  base::spawn(read_response(later));
  Fetch& cut = scene.fetch("/cut");
  scene.settle();
  const auto ids = scene.origin.opened;
  scene.origin.respond(ids[2], ok, false);
  scene.origin.send(ids[2], "hal");
  for (const int32_t id : {ids[0], ids[1]}) {
    scene.origin.respond(id, ok, false);
    scene.origin.send(id, "whole", true, {{"x-sum", "1"}});
  }
  if (goes_away) scene.origin.goaway(ids[2]);
  scene.origin.pump();
  scene.pair.close_theirs();
  scene.settle();
  CHECK_FALSE(scene.client->available());
  CHECK(now.log == "200 body=whole x-sum=1");
  CHECK(cut.log.find("failed") != std::string::npos);
  CHECK(cut.error.retry == base::Retry::never);
  REQUIRE(later.log == "200");
  base::spawn(read_body(later));
  CHECK(later.log == "200 body=whole x-sum=1");
}

TEST_CASE("HTTP/2: a connection that is lost fails every request, in every state") {
  Scene scene;
  Keeping keeping;
  Fetch& waiting = scene.fetch("/waiting");
  Fetch& uploading = scene.fetch("/uploading", false);
  Fetch& unsent = scene.begin();
  scene.settle();
  scene.client->keep(&keeping);
  scene.pair.close_theirs();
  scene.settle();
  CHECK_FALSE(scene.client->available());
  CHECK(waiting.log == "failed: closed");
  CHECK(waiting.error.retry == base::Retry::never);
  CHECK(uploading.log == "failed: closed");
  unsent.stream->write_head(scene.head, "a.example", piece("late", true));
  base::spawn(drain(unsent));
  base::spawn(read_response(unsent));
  CHECK(unsent.log == "not drained failed: closed");
  CHECK(unsent.error.retry == base::Retry::if_reused);
  CHECK(keeping.told > 0);
  CHECK(scene.client->finished());
}

TEST_CASE("HTTP/2: an origin that speaks something else fails the request") {
  Scene scene;
  Fetch& fetch = scene.fetch();
  scene.origin.by_hand = true;
  scene.origin.send_raw("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
  scene.settle();
  CHECK(fetch.log.starts_with("failed: "));
  CHECK(scene.client->finished());
}

// --- time

TEST_CASE("HTTP/2: an origin that does not answer in time, or stalls, is a timeout and a CANCEL") {
  const bool begun = GENERATE(false, true);
  Scene scene;
  Fetch& fetch = scene.fetch();
  scene.settle();
  if (begun) {
    scene.origin.respond(scene.id(), ok, false);
    scene.origin.send(scene.id(), "begin");
    scene.settle();
  }
  scene.pass(begun ? seconds(29) : seconds(59));
  CHECK_FALSE(fetch.ended);
  scene.pass(seconds(2));
  CHECK(fetch.log == (begun ? "200 body failed after begin" : "failed: timeout"));
  CHECK(fetch.error.kind == base::ErrorKind::timeout);
  CHECK(fetch.error.retry == base::Retry::never);
  CHECK(scene.origin[scene.id()].reset == static_cast<uint32_t>(Http2Error::cancel));
  CHECK(scene.client->available());
}

TEST_CASE("HTTP/2: the time for an answer begins when the last piece was taken") {
  Scene scene;
  Fetch& fetch = scene.fetch("/", false);
  // Not while the request goes on, however slowly.
  for (int i = 0; i < 5; ++i) {
    scene.settle();
    scene.pass(seconds(80));
    fetch.stream->write_body(piece("part", i == 4));
    base::spawn(drain(fetch));
  }
  scene.settle();
  scene.pass(seconds(59));
  CHECK_FALSE(fetch.ended);
  scene.pass(seconds(2));
  CHECK(fetch.ended);
}

TEST_CASE(
    "HTTP/2: cancelling a request is a CANCEL, resumes whoever waits, and spares the others") {
  Scene scene;
  Fetch& cancelled = scene.fetch("/a", false);
  Fetch& other = scene.fetch("/b");
  cancelled.stream->write_body(piece(std::string(200'000, 'x')));
  scene.settle();
  base::spawn(drain(cancelled));
  cancelled.stream->cancel(base::ErrorKind::cancelled, "the client went away");
  CHECK(cancelled.log.ends_with("failed: cancelled"));
  scene.settle();
  CHECK(scene.origin[1].reset == static_cast<uint32_t>(Http2Error::cancel));
  scene.origin.respond(3, ok);
  scene.settle();
  CHECK(other.log == "200 body=");
}

TEST_CASE("HTTP/2: a request that is cancelled before it left is not sent at all") {
  Scene scene;
  Fetch& fetch = scene.fetch();
  fetch.stream->cancel(base::ErrorKind::cancelled, "the client went away");
  CHECK(fetch.ended);
  scene.settle();
  CHECK(scene.origin.opened.empty());
  Fetch& next = scene.fetch();
  scene.settle();
  scene.origin.respond(scene.id(), ok);
  scene.settle();
  CHECK(next.log == "200 body=");
}

namespace {

/// A connection that has served a request and has been idle for `time`.
void rest(Scene& scene, milliseconds time) {
  Fetch& first = scene.fetch();
  scene.settle();
  scene.origin.respond(scene.id(), ok);
  scene.settle();
  REQUIRE(first.ended);
  CHECK_FALSE(first.log.empty());
  scene.pass(time);
}

}  // namespace

TEST_CASE("HTTP/2: a connection that was idle for long is asked first, a busy one is not") {
  Scene scene;
  rest(scene, seconds(9));
  scene.fetch();
  scene.settle();
  CHECK(scene.origin.pings == 0);
  scene.origin.respond(scene.id(), ok);
  scene.settle();
  scene.pass(seconds(10));
  Fetch& fetch = scene.fetch();
  CHECK(fetch.stream->reused());
  scene.origin.reads = false;
  scene.settle();
  scene.origin.reads = true;
  scene.origin.pump();
  CHECK(scene.origin.pings == 1);
  CHECK(scene.origin.opened.size() == 2);  // nothing follows the ping until it was answered
  scene.settle();
  CHECK(scene.origin.opened.size() == 3);
  scene.origin.respond(scene.id(), ok);
  scene.settle();
  CHECK(fetch.log == "200 body=");
  // The time it may be idle is the usual one again.
  scene.pass(seconds(299));
  CHECK(scene.client->available());
  scene.pass(seconds(2));
  CHECK(scene.client->finished());
  CHECK(scene.origin.goaway_code == 0U);
}

TEST_CASE("HTTP/2: a connection that does not answer is given up, its requests go elsewhere") {
  Scene scene;
  Keeping keeping;
  scene.client->keep(&keeping);
  rest(scene, seconds(11));
  scene.origin.reads = false;
  std::vector<Fetch*> all = {&scene.fetch()};
  // Requests that keep coming do not put the end off.
  for (int i = 0; i < 3; ++i) {
    scene.pass(milliseconds(600));
    all.push_back(&scene.fetch());
  }
  scene.pass(milliseconds(600));
  CHECK(scene.client->finished());
  CHECK(keeping.finished);
  for (const Fetch* each : all) {
    CHECK(each->log == "failed: closed");
    CHECK(each->error.retry == base::Retry::if_reused);
  }
}

TEST_CASE("HTTP/2: a connection that was asked and whose request went away is asked for all that") {
  Scene scene;
  rest(scene, seconds(11));
  SECTION("and does not answer") {
    scene.origin.reads = false;
    Fetch& gone = scene.fetch();
    gone.stream->cancel(base::ErrorKind::cancelled, "the client went away");
    scene.pass(seconds(1));
    Fetch& next = scene.fetch();
    scene.pass(milliseconds(1400));
    CHECK(next.log == "failed: closed");
    CHECK(scene.client->finished());
  }
  SECTION("and answers") {
    Fetch& gone = scene.fetch();
    gone.stream->cancel(base::ErrorKind::cancelled, "the client went away");
    scene.settle();
    CHECK(scene.origin.pings == 1);
    scene.pass(seconds(200));
    CHECK(scene.client->available());
  }
}

TEST_CASE("HTTP/2: an idle connection is given up after its time, and says so") {
  Scene scene;
  Keeping keeping;
  rest(scene, seconds(1));
  scene.client->keep(&keeping);
  scene.pass(seconds(298));
  CHECK(scene.client->available());
  scene.pass(seconds(2));
  CHECK(keeping.told > 0);
  CHECK_FALSE(keeping.available);
  CHECK(scene.origin.goaway_code == 0U);
  CHECK(scene.client->finished());
}

TEST_CASE("HTTP/2: an idle connection that the origin closes is lost at once") {
  Scene scene;
  Keeping keeping;
  rest(scene, seconds(1));
  scene.client->keep(&keeping);
  scene.pair.close_theirs();
  scene.settle();
  CHECK(keeping.finished);
  CHECK(scene.client->begin(settings()) == nullptr);
}

// --- how many at a time

TEST_CASE("HTTP/2: no more requests than the origin takes at a time, and no more than our limit") {
  auto few = origin_settings();
  few.streams_max = GENERATE(1, 3, 1000);
  Scene scene(few);
  Keeping keeping;
  scene.client->keep(&keeping);
  scene.fetch();
  CHECK(scene.client->available());  // until the origin has said
  scene.settle();
  CHECK(keeping.told > 0);
  const uint32_t most = std::min(*few.streams_max, Http2Client::streams_max);
  for (uint32_t i = 1; i < most; ++i) {
    REQUIRE(scene.client->available());
    scene.fetch();
  }
  CHECK_FALSE(scene.client->available());
  CHECK_FALSE(scene.client->finished());
  CHECK(scene.client->begin(settings()) == nullptr);
  scene.settle();
  CHECK(scene.origin.opened.size() == most);
  scene.origin.respond(1, ok);
  scene.settle();
  CHECK(scene.client->available());
}

TEST_CASE("HTTP/2: an origin that takes none has no room, and is not finished while it is used") {
  Scene scene;
  Fetch& fetch = scene.fetch();
  scene.settle();
  scene.origin.limit_streams(0);
  scene.settle();
  CHECK_FALSE(scene.client->available());
  CHECK_FALSE(scene.client->finished());
  scene.origin.respond(scene.id(), ok);
  scene.settle();
  CHECK(fetch.log == "200 body=");
  CHECK(scene.client->finished());
}

TEST_CASE("HTTP/2: an origin that says GOAWAY first takes no request") {
  Scene scene;
  scene.origin.goaway(0);
  scene.origin.pump();
  scene.pair.close_theirs();
  scene.settle();
  CHECK(scene.greeted == std::string_view("well"));
  CHECK(scene.client->begin(settings()) == nullptr);
  CHECK(scene.client->finished());
}

TEST_CASE("HTTP/2: the greeting is over when the origin has said its limits") {
  auto few = origin_settings();
  few.streams_max = 2;
  Scene scene(few);
  CHECK(scene.greeted == nullptr);
  scene.settle();
  CHECK(scene.greeted == std::string_view("well"));
  CHECK(scene.origin.opened.empty());
  scene.begin();
  scene.begin();
  CHECK_FALSE(scene.client->available());
}

TEST_CASE("HTTP/2: no greeting comes of an origin that speaks another language, or goes away") {
  const std::string_view said = GENERATE("", "HTTP/1.1 400 Bad Request\r\n\r\n");
  Scene scene;
  scene.pair.send(said);
  scene.pair.close_theirs();
  scene.stage.settle();
  CHECK(scene.greeted == std::string_view("not"));
  CHECK(scene.client->begin(settings()) == nullptr);
}

TEST_CASE("HTTP/2: on a new connection one request waits for an origin that allows none yet") {
  auto none = origin_settings();
  none.streams_max = 0;
  Scene scene(none);
  scene.settle();
  REQUIRE(scene.client->available());
  Fetch& fetch = scene.fetch();
  CHECK_FALSE(scene.client->available());
  scene.settle();
  CHECK(scene.origin.opened.empty());
  scene.origin.limit_streams(1);
  scene.settle();
  REQUIRE(scene.origin.opened.size() == 1);
  scene.origin.respond(scene.id(), ok);
  scene.settle();
  CHECK(fetch.log == "200 body=");
}

}  // namespace gatehouse::http
