// A client and an origin in memory: each piece of a body, each end and each failure comes when the
// test says so, and writing blocks when it says so.
#pragma once

#include <deque>
#include <string>

#include "http/stream.hpp"

namespace gatehouse::test {

/// One direction of bytes that a script feeds.
struct Feed {
  std::deque<std::string> pieces;
  bool ended = false;
  bool failed = false;

  /// Moves the next piece into `chunk`; `complete` is set with the last one.
  http::Poll poll(http::BodyChunk& chunk, std::string& kept, bool& complete) {
    chunk = http::BodyChunk{};
    if (!pieces.empty()) {
      kept = std::move(pieces.front());
      pieces.pop_front();
      chunk.bytes = kept;
      chunk.last = complete = ended && pieces.empty();
      return http::Poll::ready;
    }
    if (failed) return http::Poll::failed;
    if (!ended) return http::Poll::pending;
    chunk.last = complete = true;
    return http::Poll::ready;
  }
};

/// Takes what is written; `blocked` holds the writer up, `broken` makes it fail.
struct Drain {
  std::string bytes;
  bool blocked = false;
  bool broken = false;
  bool ended = false;

  void take(const http::BodyChunk& chunk) {
    bytes += chunk.bytes;
    ended = chunk.last;
  }
  http::Poll poll() const {
    if (broken) return http::Poll::failed;
    return blocked ? http::Poll::pending : http::Poll::ready;
  }
};

class ScriptedClient final : public http::ServerStream {
 public:
  Feed feed;
  Drain drain;
  uint16_t status = 0;
  bool aborted = false;
  bool stopped = false;
  http::RequestHead head;

  /// After a change of the script: whoever waits looks again.
  void wake() {
    reading_.poll();
    writing_.poll();
  }

  http::RequestHead& request() override { return head; }
  http::Poll poll_body() override {
    if (stopped || aborted) return http::Poll::failed;
    return feed.poll(chunk_, kept_, request_complete_);
  }
  void park_body(base::Parked& operation) override { reading_.park(operation); }
  void stop_reading() override {
    stopped = true;
    reading_.poll();
  }
  void write_interim(const http::ResponseHead&) override {}
  void write_head(const http::ResponseHead& response, const http::BodyChunk& first) override {
    status = response.status;
    drain.take(first);
  }
  void write_body(const http::BodyChunk& chunk) override { drain.take(chunk); }
  http::Poll poll_drained() override { return aborted ? http::Poll::failed : drain.poll(); }
  void park_drained(base::Parked& operation) override { writing_.park(operation); }
  void abort() override {
    aborted = true;
    wake();
  }
  void watch(Watcher*) override {}
  base::Error error() const override {
    return base::Error(base::ErrorKind::closed, base::Side::downstream, base::Retry::never,
                       "the scripted client failed");
  }

 private:
  std::string kept_;
  base::ParkingSlot reading_, writing_;
};

class ScriptedOrigin final : public http::ClientStream {
 public:
  Feed feed;
  Drain drain;
  bool answered = false;  // the head has come
  bool failed = false;    // before the head
  bool cancelled = false;

  void wake() {
    reading_.poll();
    writing_.poll();
  }

  void write_head(const http::RequestHead&, std::string_view,
                  const http::BodyChunk& first) override {
    drain.take(first);
  }
  void write_body(const http::BodyChunk& chunk) override { drain.take(chunk); }
  http::Poll poll_drained() override { return cancelled ? http::Poll::failed : drain.poll(); }
  void park_drained(base::Parked& operation) override { writing_.park(operation); }
  http::Poll poll_head() override {
    if (cancelled || failed) return http::Poll::failed;
    if (!answered) return http::Poll::pending;
    head_.status = 200;
    return http::Poll::ready;
  }
  void park_head(base::Parked& operation) override { reading_.park(operation); }
  http::ResponseHead& response() override { return head_; }
  http::Poll poll_body() override {
    if (cancelled) return http::Poll::failed;
    return feed.poll(chunk_, kept_, response_complete_);
  }
  void park_body(base::Parked& operation) override { reading_.park(operation); }
  void cancel(base::ErrorKind, const char*) override {
    cancelled = true;
    wake();
  }
  bool response_begun() const override { return answered; }
  bool reused() const override { return false; }
  base::Error error() const override {
    return base::Error(base::ErrorKind::reset, base::Side::upstream, base::Retry::never,
                       "the scripted origin failed");
  }

 private:
  http::ResponseHead head_;
  std::string kept_;
  base::ParkingSlot reading_, writing_;
};

}  // namespace gatehouse::test
