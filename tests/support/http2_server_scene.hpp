// One HTTP/2 connection of a client's: our server at one end, an nghttp2 session at the other, and
// time that passes when it is told to.
//
// Answers what the test tells it to. One thread.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "http/http2_server.hpp"
#include "tests/support/http2_peer.hpp"
#include "tests/support/manual_clock.hpp"
#include "tests/support/stage.hpp"

namespace gatehouse::test {

using std::chrono::milliseconds;
using std::chrono::seconds;

inline http::BodyChunk piece(std::string_view bytes, bool last = false) {
  http::BodyChunk chunk;
  chunk.bytes = bytes;
  chunk.last = last;
  return chunk;
}

inline http::ResponseHead response(uint16_t status) {
  http::ResponseHead head;
  head.status = status;
  return head;
}

struct Http2ServerScene final : http::Http2Server::Handler {
  static http::Http2Server::Settings settings() {
    http::Http2Server::Settings s;
    s.session.header_timeout = s.session.stall_timeout = seconds(20);
    s.idle_timeout = seconds(60);
    s.body_timeout = seconds(30);
    return s;
  }

  explicit Http2ServerScene(http::Http2Server::Settings s = settings(),
                            const Http2Peer::Settings& peer = {})
      : client(pair, peer) {
    REQUIRE(stream.open(pair.ours));
    server = std::make_unique<http::Http2Server>(stream, stage.reactor, metrics, s, *this);
    server->start();
  }
  ~Http2ServerScene() {
    server->break_off();
    while (!given.empty()) finish(*given.back());
    stage.settle();
  }

  void on_request(http::Http2ServerStream& request) override {
    given.push_back(&request);
    if (request.refusal()) refused.push_back(request.refusal()->status);
    if (serve) serve(*this, request);
  }
  bool serves(std::string_view host) override { return host != "other.example"; }
  void on_session_ended() override { ended = true; }

  void settle() { client.settle(stage); }
  void pass(milliseconds time) {
    stage.pass(clock, time);
    settle();
  }
  void request(const FieldTexts& fields = get(), bool ends = true) {
    id = client.request(fields, ends);
    settle();
  }
  /// The client's request has come; its stream.
  http::Http2ServerStream& ask(const FieldTexts& fields = get(), bool ends = true) {
    request(fields, ends);
    REQUIRE_FALSE(given.empty());
    return *given.back();
  }
  void finish(http::Http2ServerStream& request) {
    std::erase(given, &request);
    server->finish(request);
  }
  int64_t count(base::Metric metric) const { return metrics.value(metric); }
  /// What the client has seen on the stream of its newest request.
  std::string seen() { return client[id].text(); }

  ManualClock clock;
  Stage stage{clock};
  SocketPair pair;
  tls::Stream stream{stage.reactor, base::Side::downstream};
  base::MetricShard metrics;
  Http2Peer client;
  std::unique_ptr<http::Http2Server> server;
  std::vector<http::Http2ServerStream*> given;  // and not finished
  std::vector<int> refused;
  void (*serve)(Http2ServerScene&, http::Http2ServerStream&) = nullptr;
  std::string log;
  int32_t id = 0;
  bool ended = false;
};

/// Reads a body to its end into `log`.
inline base::Task<void> read_body(http::Http2ServerStream& request, std::string& log) {
  std::string body;
  while (!request.request_complete()) {
    auto reading = request.read_body();
    const bool read = co_await reading;
    if (!read) {
      log += " body failed: " + request.error().context;
      co_return;
    }
    body += request.chunk().bytes;
    if (request.chunk().trailers == nullptr) continue;
    for (const auto& [name, value] : *request.chunk().trailers) body += " " + name + "=" + value;
  }
  log += " body=" + body;
}

inline base::Task<void> read_body(Http2ServerScene& scene, http::Http2ServerStream& request) {
  return read_body(request, scene.log);
}

inline base::Task<void> drain(Http2ServerScene& scene, http::Http2ServerStream& request) {
  auto drained = request.drained();
  const bool taken = co_await drained;
  scene.log += taken ? " drained" : " not drained: " + request.error().context;
}

/// Reads the request, answers "ok" with a trailer, and gives the stream back.
inline base::Task<void> answer(Http2ServerScene& scene, http::Http2ServerStream& request) {
  std::string log = std::string(request.request().method_text) + " ";
  log += request.request().target;
  auto reading = read_body(request, log);
  co_await reading;
  scene.log += log + "\n";
  auto head = response(200);
  head.add_view("x", "y");
  const http::Trailers trailers = {{"x-sum", "1"}};
  http::BodyChunk body = piece("ok", true);
  body.trailers = &trailers;
  request.write_head(head, body);
  auto drained = request.drained();
  co_await drained;
  scene.finish(request);
}

inline void answer_all(Http2ServerScene& scene, http::Http2ServerStream& request) {
  base::spawn(answer(scene, request));
}

}  // namespace gatehouse::test
