// HTTP/2 towards an origin (RFC 9113): one connection, many requests at a time.
//
// Chooses no endpoint and keeps no pool: connect() makes one, proxy::Pool keeps it. Lives on one
// worker's thread.
#pragma once

#include <vector>

#include "base/buffer.hpp"
#include "http/client_connection.hpp"
#include "http/http2_session.hpp"
#include "http/http2_stream.hpp"

namespace gatehouse::http {

class Http2Client;

class Http2ClientStream final : public ClientStream, public Http2Stream {
 public:
  explicit Http2ClientStream(Http2Client& client, bool reused);
  ~Http2ClientStream() override;

  void write_head(const RequestHead& head, std::string_view host, const BodyChunk& first) override;
  void write_body(const BodyChunk& chunk) override;
  Poll poll_drained() override;
  void park_drained(base::Parked& operation) override { sending_.park(operation); }
  Poll poll_head() override;
  void park_head(base::Parked& operation) override;
  ResponseHead& response() override { return *response_.head; }
  Poll poll_body() override;
  void park_body(base::Parked& operation) override;
  void cancel(base::ErrorKind kind, const char* text) override;
  bool response_begun() const override { return begun_; }
  bool reused() const override { return reused_; }
  base::Error error() const override;

 private:
  friend class Http2Client;
  struct DeadlineTimer final : base::Timer {
    explicit DeadlineTimer(Http2ClientStream& s);
    Http2ClientStream& stream;
  };
  struct Head {
    base::Recycled<ResponseHead> head;
    base::Block bytes;
  };

  void on_section(FieldSection& section, bool last) override;
  void on_retired() override { timer_.disarm(); }
  void take_head(FieldSection& section);
  void broken(base::ErrorKind kind, const char* text);
  void on_deadline();
  void watch_answer();

  Http2Client& client_;
  DeadlineTimer timer_;
  Head response_;
  std::vector<Head> heads_;  // that have come and were not read yet
  uint32_t interim_responses_ = 0;
  Method method_ = Method::get;
  bool reused_;
  bool begun_ = false;
  bool final_head_come_ = false;
  bool expects_ = false;  // a 100 before the body
  bool head_awaited_ = false;
};

class Http2Client final : public ClientConnection, private Http2Session {
 public:
  using Settings = ClientConnection::Settings;
  /// Streams at a time, if the origin does not say less.
  static constexpr uint32_t streams_max = 100;
  /// After so long without a request a PING goes ahead of the next, and that one waits for its
  /// answer: the connection may be gone without a word.
  static constexpr std::chrono::seconds ping_after{10};
  static constexpr std::chrono::milliseconds ping_timeout{2000};

  Http2Client(base::Reactor& reactor, base::MetricShard& metrics, const Settings& settings);
  ~Http2Client() override;

  /// Sends the preface and waits for the origin's SETTINGS (RFC 9113 section 3.4): requests that
  /// do not know its limits may all be refused.
  base::Task<bool> greet() override;
  ClientStream* begin(const Settings& settings) override;
  void end(ClientStream& stream) override;
  bool available() const override;
  bool idle() const override { return streams() == 0; }

 private:
  friend class Http2ClientStream;
  struct IdleTimer final : base::Timer {
    explicit IdleTimer(Http2Client& c);
    Http2Client& client;
  };
  /// Tells whoever greets, outside of nghttp2's callbacks.
  struct Greeting final : base::Deferred {
    void on_deferred() override {
      if (!over.happened()) over.set();
    }
    base::Event over;
  };
  static Http2Session::Settings session_settings(const Settings& settings);

  Http2Stream* on_open(int32_t) override { return nullptr; }
  void on_ended() override;
  void on_idle() override;
  void on_pong() override;
  void on_goaway() override;
  void on_settings() override;
  void on_deadline();

  IdleTimer idle_timer_;
  Greeting greeting_;
  base::Monotonic::time_point idle_since_;
  bool heard_settings_ = false;
  bool used_ = false;
  bool resumed_ = false;  // after having been idle
  bool going_away_ = false;
  bool unanswered_ = false;  // a ping
};

}  // namespace gatehouse::http
