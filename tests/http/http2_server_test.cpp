#include "http/http2_server.hpp"

#include <catch2/catch.hpp>

#include "tests/support/http2_server_scene.hpp"

namespace gatehouse::http {

namespace {

using base::Metric;
using test::answer_all;
using test::drain;
using test::FieldTexts;
using test::FrameType;
using test::get;
using test::Http2Peer;
using test::milliseconds;
using test::number;
using test::piece;
using test::post;
using test::read_body;
using test::response;
using test::seconds;
using test::with;
using Scene = test::Http2ServerScene;

constexpr auto refused_stream = static_cast<uint32_t>(Http2Error::refused_stream);
constexpr auto enhance_your_calm = static_cast<uint32_t>(Http2Error::enhance_your_calm);
const std::string answered = ":status=200 x=y | x-sum=1 body=ok ended";

}  // namespace

// --- requests and responses

TEST_CASE("HTTP/2: requests are understood the same, whole and split at every byte") {
  const bool split = GENERATE(false, true);
  Scene scene;
  scene.serve = answer_all;
  const int32_t bare = scene.client.request(get("/a"));
  const int32_t whole = scene.client.request(post("/b"), false);
  const int32_t with_trailers = scene.client.request(post("/c"), false);
  scene.client.send(whole, "hello", true);
  scene.client.send(with_trailers, "hello", true, {{"x-sum", "7"}, {"date", "x"}});
  split ? scene.client.settle_split(scene.stage) : scene.settle();
  CHECK(scene.log == "GET /a body=\nPOST /b body=hello\nPOST /c body=hello x-sum=7\n");
  for (const int32_t id : {bare, whole, with_trailers}) CHECK(scene.client[id].text() == answered);
  CHECK_FALSE(scene.client.broken);
  CHECK(scene.server->unused());
}

TEST_CASE("HTTP/2: interim responses go ahead of the final one") {
  Scene scene;
  auto& request = scene.ask();
  auto hints = response(103);
  hints.add_view("link", "x");
  request.write_interim(response(100));
  request.write_interim(hints);
  request.write_head(response(200), piece("ok", true));
  scene.settle();
  CHECK(scene.seen() == ":status=100 | :status=103 link=x | :status=200 body=ok ended");
}

TEST_CASE("HTTP/2: responses without a body end with their head") {
  for (const uint16_t status : {204, 304, 200}) {
    Scene scene;
    auto& request = scene.ask();
    base::spawn([](Scene& s, Http2ServerStream& r, uint16_t code) -> base::Task<void> {
      r.write_head(response(code), piece("", true));
      auto drained = r.drained();
      const bool taken = co_await drained;
      s.log += taken ? "drained" : "not drained";
      s.finish(r);
    }(scene, request, status));
    scene.settle();
    CHECK(scene.seen() == ":status=" + std::to_string(status) + " ended");
    CHECK(scene.log == "drained");
    CHECK(scene.server->unused());
  }
}

TEST_CASE("HTTP/2: a response ahead of the request's end is followed by RST_STREAM NO_ERROR") {
  const bool body = GENERATE(false, true);
  Scene scene;
  auto& request = scene.ask(post(), false);
  scene.client.send(scene.id, "some");
  scene.settle();
  base::spawn(read_body(scene, request));
  request.stop_reading();
  base::spawn([](Scene& s, Http2ServerStream& r, bool has_body) -> base::Task<void> {
    r.write_head(response(413), piece(has_body ? "no" : "", true));
    auto drained = r.drained();
    co_await drained;
    s.finish(r);
  }(scene, request, body));
  scene.settle();
  CHECK(scene.seen() == std::string(":status=413") + (body ? " body=no" : "") + " ended reset=0");
  CHECK(scene.server->unused());
}

TEST_CASE("HTTP/2: stop_reading resumes whoever reads, and what comes later opens the window") {
  Scene scene;
  auto& request = scene.ask(post(), false);
  base::spawn(read_body(scene, request));
  request.stop_reading();
  CHECK(scene.log == " body failed: the rest of the body is not wanted");
  scene.client.send(scene.id, std::string(500'000, 'x'), true);
  scene.settle();
  request.write_head(response(200), piece("ok", true));
  scene.settle();
  scene.finish(request);
  scene.settle();
  CHECK(scene.seen() == ":status=200 body=ok ended");
}

TEST_CASE("HTTP/2: an aborted exchange is RST_STREAM INTERNAL_ERROR, and whoever waits goes on") {
  Scene scene;
  auto& request = scene.ask(post(), false);
  const std::string much(100'000, 'x');
  request.write_head(response(200), piece(much));
  scene.settle();
  base::spawn(read_body(scene, request));
  base::spawn(drain(scene, request));
  request.write_body(piece(much));
  request.abort();
  CHECK(scene.log.find("body failed: the stream was reset") != std::string::npos);
  scene.finish(request);
  scene.settle();
  CHECK(scene.client[scene.id].reset == static_cast<uint32_t>(Http2Error::internal_error));
  CHECK(scene.server->unused());
  // The connection goes on.
  scene.serve = answer_all;
  scene.request();
  CHECK(scene.seen() == answered);
}

TEST_CASE("HTTP/2: an exchange that is given back unanswered is RST_STREAM INTERNAL_ERROR") {
  Scene scene;
  auto& request = scene.ask();
  scene.finish(request);
  scene.settle();
  CHECK(scene.seen() == " reset=2");
}

// --- flow control

TEST_CASE("HTTP/2: whoever does not read is given at most a window, and no more is kept") {
  Scene scene;
  auto& request = scene.ask(post(), false);
  const std::string body(300'000, 'b');
  scene.client.send(scene.id, body, true);
  scene.settle();
  size_t come = 0;
  while (request.poll_body() == Poll::ready) {
    CHECK(request.chunk().bytes.size() <= Http2Session::stream_window_bytes);
    come += request.chunk().bytes.size();
    if (request.request_complete()) break;
    scene.settle();
  }
  CHECK(come == body.size());
}

TEST_CASE("HTTP/2: streams that nobody reads do not take the connection's window for ever") {
  Scene scene;
  std::vector<Http2ServerStream*> unread;
  for (int i = 0; i < 20; ++i) {  // more than window_bytes in all
    unread.push_back(&scene.ask(post(), false));
    scene.client.send(scene.id, std::string(65'535, 'u'));
  }
  scene.settle();
  for (auto* each : unread) {
    each->write_head(response(200), piece("", true));
    scene.settle();
    scene.finish(*each);
    scene.settle();
  }
  scene.serve = answer_all;
  scene.request(post(), false);
  scene.client.send(scene.id, std::string(200'000, 'x'), true);
  scene.settle();
  CHECK(scene.seen() == answered);
}

TEST_CASE("HTTP/2: a client whose window is closed stops the writer, and opens it again") {
  Http2Peer::Settings narrow;
  narrow.window_bytes = 0;
  narrow.opens_windows = false;
  const size_t size = GENERATE(10, 9000, 100'000);
  Scene scene(Scene::settings(), narrow);
  auto& request = scene.ask();
  const std::string body(size, 'x');
  request.write_head(response(200), piece(body, true));
  base::spawn(drain(scene, request));
  scene.settle();
  CHECK(scene.seen() == ":status=200");
  CHECK(scene.log.empty());
  scene.client.open_window(scene.id, static_cast<int32_t>(size) - 1);
  scene.settle();
  CHECK(scene.log.empty());
  CHECK(scene.client[scene.id].body.size() == size - 1);
  scene.client.open_window(scene.id, 1);
  scene.settle();
  CHECK(scene.log == " drained");
  CHECK(scene.client[scene.id].body == body);
  CHECK(scene.client[scene.id].ended);
}

TEST_CASE("HTTP/2: a client that takes nothing in time is too slow, one that takes enough is not") {
  Http2Peer::Settings narrow;
  narrow.window_bytes = 0;
  narrow.opens_windows = false;
  Scene scene(Scene::settings(), narrow);
  auto& request = scene.ask();
  const std::string body(100'000, 'x');
  request.write_head(response(200), piece(body, true));
  base::spawn(drain(scene, request));
  scene.settle();
  const auto enough = static_cast<int32_t>(Http2Session::write_progress_bytes_min);
  for (int i = 0; i < 5; ++i) {
    scene.pass(seconds(25));
    CHECK(scene.log.empty());
    scene.client.open_window(scene.id, enough);
    scene.settle();
    CHECK(scene.log.empty());
  }
  scene.client.open_window(scene.id, enough - 1);
  scene.settle();
  scene.pass(seconds(61));
  scene.pass(seconds(61));
  CHECK(scene.log == " not drained: the client reads too slowly");
  CHECK(scene.count(Metric::http2_stalls) == 1);
}

TEST_CASE("HTTP/2: a client that reads nothing at all stalls the connection, which then ends") {
  Scene scene;
  auto& request = scene.ask();
  scene.client.reads = false;
  const std::string block(200'000, 'x');
  scene.client.open_window(scene.id, 1 << 30);
  scene.settle();
  request.write_head(response(200), piece(block));
  for (int i = 0; i < 10; ++i) request.write_body(piece(block));
  base::spawn(drain(scene, request));
  scene.settle();
  CHECK(scene.stream.pending());
  scene.pass(seconds(10));
  CHECK_FALSE(scene.ended);
  scene.pass(seconds(11));
  CHECK(scene.ended);
  CHECK(scene.log == " not drained: the peer reads too slowly");
  CHECK(scene.count(Metric::http2_stalls) == 1);
}

TEST_CASE("HTTP/2: a connection that was told to go and takes nothing more ends all the same") {
  Scene scene;
  auto& request = scene.ask();
  scene.client.reads = false;
  scene.client.open_window(scene.id, 1 << 30);
  scene.settle();
  const std::string block(1'000'000, 'x');
  request.write_head(response(200), piece(block));
  scene.settle();
  REQUIRE(scene.stream.pending());
  const std::string flood = test::frame(FrameType::ping, 0, 0, "12345678");
  for (int64_t i = 0; i < Http2Session::control_frames_max + 100; ++i) scene.client.send_raw(flood);
  scene.settle();
  CHECK(scene.count(Metric::http2_control_floods) == 1);
  CHECK_FALSE(scene.ended);
  scene.pass(seconds(21));
  CHECK(scene.ended);
}

TEST_CASE("HTTP/2: big pieces and small ones of several streams keep their order") {
  Scene scene;
  scene.client.reads = false;
  std::vector<Http2ServerStream*> streams;
  std::vector<int32_t> ids;
  std::vector<std::string> sent(3);
  for (int i = 0; i < 3; ++i) {
    streams.push_back(&scene.ask());
    ids.push_back(scene.id);
  }
  scene.client.reads = true;
  for (auto* each : streams) each->write_head(response(200), piece(""));
  uint32_t seed = 1;
  for (int round = 0; round < 60; ++round) {
    for (size_t i = 0; i < 3; ++i) {
      seed = seed * 1664525 + 1013904223;
      const size_t size = seed % 3 == 0 ? seed % 100 : seed % 60'000;
      const std::string block(size, static_cast<char>('a' + round % 26));
      sent[i] += block;
      streams[i]->write_body(piece(block, round == 59));
    }
    if (round % 7 == 0) scene.settle();
  }
  scene.settle();
  for (size_t i = 0; i < 3; ++i) {
    CHECK(streams[i]->poll_drained() == Poll::ready);
    CHECK(scene.client[ids[i]].body == sent[i]);
    CHECK(scene.client[ids[i]].ended);
  }
  CHECK_FALSE(scene.client.broken);
}

// --- clients that go

namespace {

struct Watching final : ServerStream::Watcher {
  explicit Watching(Scene& s) : scene(s) {}
  void on_client_gone() override {
    ++told;
    if (finishes) {
      while (!scene.given.empty()) scene.finish(*scene.given.back());
    }
  }
  Scene& scene;
  int told = 0;
  bool finishes = false;
};

}  // namespace

TEST_CASE("HTTP/2: a client that resets a stream is told of once, and what waits goes on") {
  Scene scene;
  Watching watching(scene);
  auto& request = scene.ask(post(), false);
  request.watch(&watching);
  SECTION("while reading") {
    base::spawn(read_body(scene, request));
    scene.client.reset(scene.id, 8);
    scene.settle();
    CHECK(scene.log == " body failed: the client reset the stream");
  }
  SECTION("while writing") {
    scene.client.reads = false;
    request.write_head(response(200), piece(std::string(100'000, 'x')));
    base::spawn(drain(scene, request));
    scene.client.reset(scene.id, 8);
    scene.settle();
    CHECK(scene.log == " not drained: the client reset the stream");
  }
  SECTION("while nothing waits, and what is written then goes nowhere") {
    request.write_head(response(200), piece("begin"));
    scene.settle();
    scene.client.reset(scene.id, 8);
    scene.settle();
    request.write_body(piece("more"));
    base::spawn(drain(scene, request));
    CHECK(scene.log == " not drained: the client reset the stream");
  }
  SECTION("and the watcher ends the exchange") {
    watching.finishes = true;
    scene.client.reset(scene.id, 8);
    scene.settle();
    CHECK(scene.server->unused());
  }
  SECTION("and the connection is lost afterwards") {
    scene.client.reset(scene.id, 8);
    scene.settle();
    scene.pair.close_theirs();
    scene.settle();
    CHECK(scene.ended);
  }
  CHECK(watching.told == 1);
}

TEST_CASE("HTTP/2: a watcher hears nothing of a stream that ended well") {
  Scene scene;
  Watching watching(scene);
  auto& request = scene.ask();
  request.watch(&watching);
  request.write_head(response(200), piece("ok", true));
  scene.settle();
  scene.pair.close_theirs();
  scene.settle();
  CHECK(scene.ended);
  CHECK(watching.told == 0);
}

TEST_CASE("HTTP/2: whoever goes on may end the exchange while something else could go on too") {
  Scene scene;
  auto& request = scene.ask(post(), false);
  request.write_head(response(200), piece(std::string(100'000, 'x'), true));
  base::spawn([](Scene& s, Http2ServerStream& r) -> base::Task<void> {
    auto drained = r.drained();
    co_await drained;
    s.finish(r);
  }(scene, request));
  SECTION("by the client's reading") {
    scene.client.open_window(scene.id, 100'000);
    scene.settle();
  }
  SECTION("by its going") {
    scene.pair.close_theirs();
    scene.settle();
    CHECK(scene.ended);
  }
  CHECK(scene.server->unused());
}

TEST_CASE("HTTP/2: a connection that is lost fails what waits, in every state") {
  const bool by_us = GENERATE(false, true);
  Scene scene;
  Watching watching(scene);
  scene.client.reads = false;
  auto& reading = scene.ask(post("/reading"), false);
  base::spawn(read_body(scene, reading));
  auto& writing = scene.ask(get("/writing"));
  writing.write_head(response(200), piece(std::string(100'000, 'x')));
  base::spawn(drain(scene, writing));
  auto& idle = scene.ask(get("/idle"));
  idle.watch(&watching);
  auto& answered_already = scene.ask(get("/answered"));
  answered_already.write_head(response(200), piece("", true));
  scene.settle();
  by_us ? scene.server->break_off() : scene.pair.close_theirs();
  scene.settle();
  CHECK(scene.ended);
  CHECK(scene.log.find(" body failed: ") != std::string::npos);
  CHECK(scene.log.find(" not drained: ") != std::string::npos);
  CHECK(watching.told == 1);
  CHECK_FALSE(scene.server->unused());
  // What is still asked of the streams does no harm.
  for (auto* each : scene.given) {
    each->write_body(piece("late", true));
    each->write_interim(response(103));
    each->stop_reading();
    each->abort();
    CHECK(each->poll_drained() != Poll::pending);
  }
  while (!scene.given.empty()) scene.finish(*scene.given.back());
  CHECK(scene.server->unused());
}

// --- refused and malformed

TEST_CASE("HTTP/2: a request that is not to be forwarded is owed an answer") {
  auto small = Scene::settings();
  small.session.head.bytes_max = 1000;
  const struct {
    FieldTexts fields;
    int status;
  } cases[] = {
      {with(get(), {{"x", std::string(1000, 'x')}}), 431},
      {{{":method", "GET"}, {":scheme", "https"}, {":authority", "other.example"}, {":path", "/"}},
       421},
      {{{":method", "TRACE"}, {":scheme", "https"}, {":authority", "a.example"}, {":path", "/"}},
       405},
      {{{":method", "CONNECT"}, {":authority", "a.example:443"}}, 405},
      {{{":method", "CONNECT"},
        {":protocol", "connect-udp"},
        {":scheme", "https"},
        {":authority", "a.example"},
        {":path", "/"}},
       501},
      {with(get(), {{"expect", "a miracle"}}), 417},
  };
  for (const auto& each : cases) {
    Scene scene(small);
    auto& request = scene.ask(each.fields);
    REQUIRE(request.refusal());
    CHECK(request.refusal()->status == each.status);
    request.write_head(response(static_cast<uint16_t>(each.status)), piece("no", true));
    scene.settle();
    scene.finish(request);
    CHECK(scene.seen() == ":status=" + std::to_string(each.status) + " body=no ended");
  }
}

TEST_CASE("HTTP/2: a malformed request is RST_STREAM PROTOCOL_ERROR, and the connection goes on") {
  FieldTexts no_path = get();
  no_path.pop_back();
  const FieldTexts cases[] = {
      with(get(), {{"connection", "close"}}),
      with(get(), {{"transfer-encoding", "chunked"}}),
      with(get(), {{"te", "gzip"}}),
      with(get(), {{"host", "b.example"}}),
      with(get(), {{"Upper", "case"}}),
      with(get(), {{"bad name", "x"}}),
      with(get(), {{"", "x"}}),
      with(get(), {{"x", "a\r\nb: c"}}),
      with(get(), {{"x", std::string("a\0b", 3)}}),
      with(get(), {{"x", " a"}}),
      with(get(), {{"content-length", "5"}}),  // and no body
      with(get(), {{"content-length", "x"}}),
      with(get(), {{":path", "/again"}}),
      with(get(), {{":unknown", "x"}}),
      with(get(), {{":status", "200"}}),
      with({{":protocol", "websocket"}}, get()),
      with({{"x", "ahead"}}, get()),
      no_path,
  };
  for (const auto& fields : cases) {
    INFO(fields.back().first << ": " << fields.back().second);
    Scene scene;
    scene.serve = answer_all;
    scene.request();
    scene.log.clear();
    scene.client.by_hand = true;
    scene.client.send_raw(test::frame(FrameType::headers, test::end_headers | test::end_stream, 3,
                                      test::literals(fields)));
    scene.settle();
    CHECK(scene.client[3].reset == static_cast<uint32_t>(Http2Error::protocol_error));
    CHECK(scene.log.empty());
    CHECK(scene.server->unused());
    // Nothing of it is left that would end the connection later.
    scene.pass(seconds(40));
    CHECK_FALSE(scene.ended);
    CHECK(scene.client.goaways == 0);
    CHECK(scene.count(Metric::http2_header_floods) == 0);
  }
}

TEST_CASE("HTTP/2: a body that contradicts its length is RST_STREAM PROTOCOL_ERROR") {
  const std::string body = GENERATE("hell", "hello!");
  Scene scene;
  auto& request = scene.ask(with(post(), {{"content-length", "5"}}), false);
  base::spawn(read_body(scene, request));
  scene.client.send(scene.id, body, true);
  scene.settle();
  CHECK(scene.seen() == " reset=1");
  CHECK(scene.log.starts_with(" body failed"));
}

TEST_CASE("HTTP/2: a body over the limit fails, one at the limit passes") {
  auto limited = Scene::settings();
  limited.body_bytes_max = 4;
  for (const std::string body : {"abcd", "abcde"}) {
    Scene scene(limited);
    auto& request = scene.ask(post(), false);
    base::spawn(read_body(scene, request));
    scene.client.send(scene.id, body, true);
    scene.settle();
    CHECK((scene.log.find("limits.request_body") != std::string::npos) == (body.size() > 4));
  }
}

TEST_CASE("HTTP/2: trailers over the limit of a head are no trailers") {
  auto small = Scene::settings();
  small.session.head.bytes_max = 1000;
  Scene scene(small);
  auto& request = scene.ask(post(), false);
  base::spawn(read_body(scene, request));
  scene.client.send(scene.id, "x", true, {{"a", "b"}, {"x-sum", std::string(1000, 'x')}});
  scene.settle();
  CHECK(scene.log == " body failed: the trailers are too large");
}

TEST_CASE("HTTP/2: bytes that are no HTTP/2 end the connection with an error") {
  const std::string wrong[] = {
      "GET / HTTP/1.1\r\n\r\n........",
      std::string(test::http2_preface) + test::frame(FrameType::data, 0, 0, "x"),
      std::string(test::http2_preface) + test::frame(FrameType::headers, 4, 1, "\xff\xff\xff\xff"),
      std::string(test::http2_preface) + test::frame(FrameType::settings, 0, 0) +
          test::frame(FrameType::priority, 0, 0, number(1) + "x"),
      std::string(test::http2_preface) + test::frame(FrameType::settings, 0, 0) +
          test::frame(FrameType::window_update, 0, 0, number(0)),
  };
  for (const auto& bytes : wrong) {
    Scene scene;
    scene.client.take_output();
    scene.client.send_raw(bytes);
    scene.settle();
    CHECK(scene.ended);
    CHECK(scene.client.goaway_code.value_or(0) != 0);
  }
}

// --- limits

TEST_CASE("HTTP/2: a flood of frames that bring nothing forward ends the connection, once") {
  const std::string frames[] = {
      test::frame(FrameType::ping, 0, 0, "12345678"),
      test::frame(FrameType::ping, test::ack, 0, "12345678"),
      test::frame(FrameType::settings, 0, 0),
      test::frame(FrameType::priority, 0, 3, number(0) + "x"),
      test::frame(FrameType::window_update, 0, 0, number(1)),
      test::frame(FrameType::data, 0, 1),
  };
  for (const auto& each : frames) {
    INFO("type " << int{each[3]});
    Scene scene;
    scene.ask(post(), false);
    scene.client.by_hand = true;
    for (int i = 0; i < 500; ++i) scene.client.send_raw(each);
    scene.settle();
    CHECK_FALSE(scene.ended);
    for (int i = 0; i < 1000; ++i) scene.client.send_raw(each);
    scene.settle();
    CHECK(scene.ended);
    CHECK(scene.client.goaway_code == enhance_your_calm);
    CHECK(scene.count(Metric::http2_control_floods) == 1);
  }
}

TEST_CASE("HTTP/2: as many control frames as time allows pass for as long as they like") {
  Scene scene;
  scene.ask(post(), false);
  for (int second = 0; second < 60; ++second) {
    for (int64_t i = 0; i < Http2Session::control_frames_a_second * 9 / 10; ++i) {
      scene.client.ping();
    }
    scene.pass(seconds(1));
    REQUIRE_FALSE(scene.ended);
  }
  CHECK(scene.client.pongs == 60 * Http2Session::control_frames_a_second * 9 / 10);
}

TEST_CASE("HTTP/2: resets past the limit end the connection, whoever made them") {
  const bool by_client = GENERATE(true, false);
  Scene scene;
  scene.serve = answer_all;
  for (int i = 0; i < Http2Session::resets_max + 50 && !scene.ended; ++i) {
    const auto malformed = with(get(), {{"connection", "close"}});
    const int32_t id = scene.client.request(by_client ? post() : malformed, !by_client);
    scene.settle();
    if (by_client) scene.client.reset(id, 8);
    scene.settle();
  }
  CHECK(scene.ended);
  CHECK(scene.client.goaway_code == enhance_your_calm);
  CHECK(scene.count(Metric::http2_reset_floods) == 1);
  CHECK(scene.server->unused());
}

TEST_CASE("HTTP/2: requests against our own rules count as resets too") {
  Scene scene;
  for (int i = 0; i < Http2Session::resets_max + 50 && !scene.ended; ++i) {
    scene.client.request(with(get(), {{"host", "b.example"}}));
    scene.settle();
  }
  CHECK(scene.ended);
  CHECK(scene.count(Metric::http2_reset_floods) == 1);
}

TEST_CASE("HTTP/2: streams past the limit are refused, and those that were reset still count") {
  auto few = Scene::settings();
  few.session.streams_max = 2;
  Scene scene(few);
  Watching watching(scene);
  for (int i = 0; i < 2; ++i) scene.ask(post(), false);
  // The exchanges of these two have not ended when they are gone.
  scene.client.reset(1, 8);
  scene.client.reset(3, 8);
  scene.settle();
  const int32_t third = scene.client.request(get());
  scene.settle();
  CHECK(scene.client[third].reset == refused_stream);
  CHECK(scene.given.size() == 2);
  CHECK(scene.count(Metric::http2_streams_refused) == 1);
  while (!scene.given.empty()) scene.finish(*scene.given.back());
  scene.serve = answer_all;
  scene.request();
  CHECK(scene.seen() == answered);
}

TEST_CASE("HTTP/2: a head far over its limit ends the connection, and counts once") {
  auto small = Scene::settings();
  small.session.head.bytes_max = 1000;
  Scene scene(small);
  FieldTexts fields = get();
  for (int i = 0; i < 100; ++i) fields.emplace_back("x", std::string(100, 'x'));
  scene.client.request(fields);
  scene.settle();
  CHECK(scene.ended);
  CHECK(scene.client.goaway_code == enhance_your_calm);
  CHECK(scene.count(Metric::http2_header_floods) == 1);
  CHECK(scene.server->unused());
}

TEST_CASE("HTTP/2: a head that does not end in time ends the connection") {
  Scene scene;
  scene.settle();
  const std::string block = test::literals(get());
  scene.client.by_hand = true;
  scene.client.send_raw(test::frame(FrameType::headers, test::end_stream, 1, block));
  scene.settle();
  scene.pass(seconds(15));
  CHECK_FALSE(scene.ended);
  scene.client.send_raw(test::frame(FrameType::continuation, 0, 1, test::literals({{"x", "y"}})));
  scene.settle();
  scene.pass(seconds(6));
  CHECK(scene.ended);
  CHECK(scene.client.goaway_code == enhance_your_calm);
  CHECK(scene.count(Metric::http2_header_floods) == 1);
}

// --- time and the end

TEST_CASE("HTTP/2: a body that does not come in time fails, and an answer can still be written") {
  Scene scene;
  auto& request = scene.ask(post(), false);
  base::spawn(read_body(scene, request));
  scene.pass(seconds(29));
  CHECK(scene.log.empty());
  scene.pass(seconds(2));
  CHECK(scene.log == " body failed: the request's body did not come in time");
  CHECK(request.error().kind == base::ErrorKind::timeout);
  request.write_head(response(408), piece("late", true));
  scene.settle();
  scene.finish(request);
  scene.settle();
  CHECK(scene.seen() == ":status=408 body=late ended reset=0");
}

TEST_CASE("HTTP/2: a connection is closed when it was idle for too long, and not before") {
  Scene scene;
  SECTION("without any request: the time for a head") {
    scene.pass(seconds(19));
    CHECK(scene.client.goaways == 0);
    scene.pass(seconds(2));
  }
  SECTION("after a request") {
    scene.serve = answer_all;
    scene.request();
    scene.pass(seconds(59));
    CHECK(scene.client.goaways == 0);
    scene.pass(seconds(2));
  }
  CHECK(scene.client.goaways == 1);
  CHECK(scene.client.goaway_code == 0U);
  CHECK(scene.ended);
}

TEST_CASE("HTTP/2: an idle connection keeps the value that a field section stopped in") {
  Scene scene;
  scene.serve = answer_all;
  scene.request();
  CHECK(scene.seen() == answered);
  scene.request(post(), false);
  // :method in trailers resets the stream, but what follows must be decoded; a value of 15,000
  // bytes begins, and its end does not come.
  const std::string section = std::string("\x83\x00\x01y\x7f\x99\x74", 7) + "some";
  scene.client.send_raw(frame(FrameType::headers, 0, static_cast<uint32_t>(scene.id), section));
  scene.settle();
  CHECK(scene.client[scene.id].reset);
  CHECK(scene.server->unused());
  scene.pass(seconds(5));
  CHECK_FALSE(scene.ended);
  scene.client.send_raw(frame(FrameType::continuation, test::end_headers,
                              static_cast<uint32_t>(scene.id), std::string(14'996, 'x')));
  scene.settle();
  scene.request();
  CHECK(scene.seen() == answered);
}

TEST_CASE("HTTP/2: a connection with a request is never idle") {
  Scene scene;
  scene.ask();
  scene.pass(seconds(1000));
  CHECK_FALSE(scene.ended);
  CHECK(scene.client.goaways == 0);
}

TEST_CASE("HTTP/2: draining tells the client, lets requests on their way in, and ends") {
  Scene scene;
  auto& first = scene.ask(get("/under-way"));
  const int32_t first_id = scene.id;
  // On its way when the client hears of the end.
  const int32_t second_id = scene.client.request(get("/late"));
  scene.client.pump();
  scene.server->drain();
  scene.server->drain();
  scene.settle();
  CHECK(scene.client.goaways == 2);
  CHECK(scene.client.goaway_code == 0U);
  CHECK(scene.client.goaway_last == second_id);
  REQUIRE(scene.given.size() == 2);
  CHECK_FALSE(scene.ended);
  auto& second = *scene.given.back();
  for (auto* each : {&first, &second}) {
    each->write_head(response(200), piece("ok", true));
    scene.settle();
    scene.finish(*each);
  }
  scene.settle();
  CHECK(scene.client[first_id].text() == ":status=200 body=ok ended");
  CHECK(scene.client[second_id].text() == ":status=200 body=ok ended");
  scene.pass(seconds(2));
  CHECK(scene.ended);
}

TEST_CASE("HTTP/2: draining does not wait for a client that says nothing") {
  Scene scene;
  scene.settle();
  scene.client.reads = false;
  scene.server->drain();
  scene.settle();
  CHECK_FALSE(scene.ended);
  scene.pass(seconds(2));
  scene.pass(seconds(2));
  CHECK(scene.ended);
}

TEST_CASE("HTTP/2: an idle connection that drains ends as soon as the client has answered") {
  Scene scene;
  scene.settle();
  scene.server->drain();
  scene.settle();
  CHECK(scene.client.goaways == 2);
  CHECK(scene.ended);
}

// --- tunnels

namespace {

Http2ServerStream& open_tunnel(Scene& scene) {
  auto& request = scene.ask({{":method", "CONNECT"},
                             {":protocol", "websocket"},
                             {":scheme", "https"},
                             {":path", "/chat"},
                             {":authority", "a.example"},
                             {"sec-websocket-version", "13"}},
                            false);
  REQUIRE_FALSE(request.refusal());
  CHECK(request.request_complete());
  CHECK(request.request().protocol == "websocket");
  return request;
}

}  // namespace

TEST_CASE("HTTP/2: a granted tunnel is 200, carries bytes both ways, and each end of them") {
  const bool client_first = GENERATE(false, true);
  Scene scene;
  auto& request = open_tunnel(scene);
  scene.client.send(scene.id, "early ");
  scene.settle();
  auto head = response(101);
  head.add_view("sec-websocket-accept", "proof");
  head.add_view("sec-websocket-protocol", "chat");
  request.write_head(head, piece("hi"));
  CHECK_FALSE(request.request_complete());
  base::spawn(read_body(scene, request));
  scene.client.send(scene.id, "up", client_first);
  scene.settle();
  CHECK(scene.seen() == ":status=200 sec-websocket-protocol=chat body=hi");
  CHECK(scene.log == (client_first ? " body=early up" : ""));
  request.write_body(piece(", down", true));
  scene.settle();
  CHECK(scene.client[scene.id].ended);
  if (!client_first) {
    CHECK(scene.log.empty());
    scene.client.send(scene.id, " and more", true);
    scene.settle();
    CHECK(scene.log == " body=early up and more");
  }
  scene.finish(request);
  scene.settle();
  CHECK(scene.seen() == ":status=200 sec-websocket-protocol=chat body=hi, down ended");
}

TEST_CASE("HTTP/2: silence in a tunnel is no failure, and no length is its limit") {
  auto limited = Scene::settings();
  limited.body_bytes_max = 4;
  Scene scene(limited);
  auto& request = open_tunnel(scene);
  request.write_head(response(101), piece(""));
  base::spawn(read_body(scene, request));
  scene.pass(seconds(1000));
  CHECK(scene.log.empty());
  scene.client.send(scene.id, "longer than that", true);
  scene.settle();
  CHECK(scene.log == " body=longer than that");
}

TEST_CASE("HTTP/2: a tunnel that is refused is an ordinary response") {
  Scene scene;
  auto& request = open_tunnel(scene);
  request.write_head(response(403), piece("no", true));
  scene.settle();
  scene.finish(request);
  scene.settle();
  CHECK(scene.seen() == ":status=403 body=no ended reset=0");
}

}  // namespace gatehouse::http
