#include "proxy/relay.hpp"

#include <random>

#include <catch2/catch.hpp>

#include "tests/support/scripted_streams.hpp"

namespace gatehouse::proxy {

namespace {

using test::ScriptedClient;
using test::ScriptedOrigin;

/// One attempt, as the exchange runs it.
struct Attempt {
  Attempt() { client.head.framing = http::Framing::chunked; }
  ScriptedClient client;
  ScriptedOrigin origin;
  ReplayBody body{client};
  Relay relay{client, origin, body};
  bool head_came = false;
  bool over = false;
  std::optional<Relay::End> end;

  void wake() {
    client.wake();
    origin.wake();
  }
};

base::Task<void> run(Attempt& attempt) {
  attempt.relay.start("origin.test");
  auto reading = attempt.origin.read_head();
  attempt.head_came = co_await reading;
  if (attempt.head_came) {
    auto downloading = attempt.relay.download();
    attempt.end = co_await downloading;
  }
  auto finishing = attempt.relay.finish();
  co_await finishing;
  attempt.over = true;
}

}  // namespace

TEST_CASE("a small body leaves with the head, without an upload of its own") {
  Attempt attempt;
  attempt.client.feed.pieces = {"all of it"};
  attempt.client.feed.ended = true;
  base::spawn(run(attempt));
  CHECK(attempt.origin.drain.bytes == "all of it");
  CHECK(attempt.origin.drain.ended);
  CHECK_FALSE(attempt.relay.uploading());
  attempt.origin.answered = attempt.origin.feed.ended = true;
  attempt.wake();
  CHECK(attempt.over);
  CHECK(attempt.end == Relay::End::complete);
}

TEST_CASE("an early response passes while the upload is under way, which then stops") {
  Attempt attempt;
  base::spawn(run(attempt));
  attempt.client.feed.pieces = {"first"};
  attempt.wake();
  CHECK(attempt.origin.drain.bytes == "first");
  attempt.origin.answered = true;
  attempt.origin.feed.pieces = {"too large"};
  attempt.wake();
  CHECK(attempt.client.drain.bytes == "too large");
  // The upload still goes on while the response does.
  attempt.client.feed.pieces = {"second"};
  attempt.wake();
  CHECK(attempt.origin.drain.bytes == "firstsecond");
  CHECK_FALSE(attempt.over);
  attempt.origin.feed.ended = true;
  attempt.wake();
  CHECK(attempt.over);
  CHECK(attempt.end == Relay::End::complete);
  CHECK(attempt.client.stopped);
  CHECK_FALSE(attempt.relay.uploading());
}

TEST_CASE("an origin that stops listening is still heard") {
  Attempt attempt;
  base::spawn(run(attempt));
  attempt.origin.drain.broken = true;
  attempt.client.feed.pieces = {"nobody reads this"};
  attempt.wake();
  CHECK_FALSE(attempt.over);
  attempt.origin.answered = attempt.origin.feed.ended = true;
  attempt.origin.feed.pieces = {"413"};
  attempt.wake();
  CHECK(attempt.over);
  CHECK(attempt.end == Relay::End::complete);
  CHECK(attempt.client.drain.bytes == "413");
}

TEST_CASE("a client that fails in its body cancels the request, and is to blame") {
  Attempt attempt;
  base::spawn(run(attempt));
  attempt.client.feed.failed = true;
  attempt.wake();
  CHECK(attempt.over);
  CHECK_FALSE(attempt.head_came);
  CHECK(attempt.origin.cancelled);
  REQUIRE(attempt.relay.upload_error());
  CHECK(attempt.relay.upload_error()->side == base::Side::downstream);
}

TEST_CASE("a client that fails in its body after the response began still gets the response") {
  Attempt attempt;
  base::spawn(run(attempt));
  attempt.origin.answered = true;
  attempt.origin.feed.pieces = {"early"};
  attempt.wake();
  attempt.client.feed.failed = true;
  attempt.wake();
  CHECK_FALSE(attempt.over);
  CHECK_FALSE(attempt.origin.cancelled);
  attempt.origin.feed.pieces = {" and late"};
  attempt.origin.feed.ended = true;
  attempt.wake();
  CHECK(attempt.end == Relay::End::complete);
  CHECK(attempt.client.drain.bytes == "early and late");
}

TEST_CASE("a response that breaks off is cut short, one that never began is not begun") {
  Attempt cut;
  cut.client.feed.ended = true;
  base::spawn(run(cut));
  cut.origin.answered = true;
  cut.origin.feed.pieces = {"half"};
  cut.wake();
  cut.origin.feed.failed = true;
  cut.wake();
  CHECK(cut.end == Relay::End::cut_short);
  CHECK_FALSE(cut.client.drain.ended);
  Attempt bad;
  bad.client.feed.ended = true;
  base::spawn(run(bad));
  bad.origin.answered = bad.origin.feed.failed = true;
  bad.wake();
  CHECK(bad.end == Relay::End::not_begun);
  CHECK(bad.client.status == 0);
}

TEST_CASE("a client that does not read holds the origin's body up, and no further") {
  Attempt attempt;
  attempt.client.feed.ended = true;
  base::spawn(run(attempt));
  attempt.client.drain.blocked = true;
  attempt.origin.answered = true;
  attempt.origin.feed.pieces = {"one", "two", "three"};
  attempt.wake();
  CHECK(attempt.client.drain.bytes == "one");
  CHECK(attempt.origin.feed.pieces.size() == 2);
  attempt.client.drain.blocked = false;
  attempt.origin.feed.ended = true;
  attempt.wake();
  CHECK(attempt.end == Relay::End::complete);
  CHECK(attempt.client.drain.bytes == "onetwothree");
}

TEST_CASE("whatever happens in whatever order, the relay ends and loses or invents nothing") {
  for (unsigned seed = 0; seed < 20'000; ++seed) {
    std::mt19937 random(seed);
    Attempt attempt;
    std::string up, down;
    base::spawn(run(attempt));
    for (int step = 0; step < 40 && !attempt.over; ++step) {
      const std::string piece = std::to_string(step) + ",";
      auto& client = attempt.client;
      auto& origin = attempt.origin;
      switch (random() % 16) {
        case 0:
        case 1:
        case 2:
          if (client.feed.ended || client.feed.failed) break;
          up += piece;
          client.feed.pieces.push_back(piece);
          break;
        case 3:
          client.feed.ended = !client.feed.failed;
          break;
        case 4:
          client.feed.failed = random() % 4 == 0 && !client.feed.ended;
          break;
        case 5:
        case 6:
          client.drain.blocked = !client.drain.blocked;
          break;
        case 7:
          client.drain.broken = random() % 8 == 0;
          break;
        case 8:
          origin.answered = !origin.failed;
          break;
        case 9:
        case 10:
        case 11:
          if (!origin.answered || origin.feed.ended || origin.feed.failed) break;
          down += piece;
          origin.feed.pieces.push_back(piece);
          break;
        case 12:
          origin.feed.ended = origin.answered && !origin.feed.failed;
          break;
        case 13:
          origin.feed.failed = random() % 4 == 0 && origin.answered && !origin.feed.ended;
          break;
        case 14:
          origin.drain.blocked = !origin.drain.blocked;
          break;
        case 15:
          origin.failed = random() % 8 == 0 && !origin.answered;
          break;
      }
      random() % 2 == 0 ? client.wake() : origin.wake();
    }
    // Whatever is still open comes to its end.
    attempt.client.drain.blocked = attempt.origin.drain.blocked = false;
    if (!attempt.origin.answered) attempt.origin.failed = true;
    if (!attempt.origin.feed.ended) attempt.origin.feed.failed = true;
    for (int i = 0; i < 4; ++i) attempt.wake();
    INFO("seed " << seed);
    REQUIRE(attempt.over);
    REQUIRE_FALSE(attempt.relay.uploading());
    const auto& sent = attempt.origin.drain.bytes;
    const auto& got = attempt.client.drain.bytes;
    REQUIRE(sent == up.substr(0, sent.size()));
    REQUIRE(got == down.substr(0, got.size()));
    if (attempt.end == Relay::End::complete) REQUIRE(got == down);
    REQUIRE(attempt.client.drain.ended == (attempt.end == Relay::End::complete));
    if (attempt.origin.drain.ended) REQUIRE(sent == up);
  }
}

TEST_CASE("a small body is kept for another attempt, a large one is not") {
  ScriptedClient client;
  ReplayBody small(client);
  http::BodyChunk chunk;
  const std::string piece(ReplayBody::kept_bytes_max / 2, 'x');
  chunk.bytes = piece;
  small.keep(chunk);
  small.keep(chunk);
  CHECK(small.repeatable());
  CHECK(small.beginning().bytes.size() == ReplayBody::kept_bytes_max);
  chunk.bytes = "y";
  small.keep(chunk);
  CHECK_FALSE(small.repeatable());
}

}  // namespace gatehouse::proxy
