// HTTP/2 towards the client (RFC 9113): one connection's requests, many at a time.
//
// Routes and answers nothing by itself: each request is handed on, an exchange answers it through
// its ServerStream. Lives on one worker's thread.
#pragma once

#include <optional>

#include "base/buffer.hpp"
#include "http/body_pace.hpp"
#include "http/http2_session.hpp"
#include "http/http2_stream.hpp"
#include "http/rules.hpp"
#include "http/stream.hpp"

namespace gatehouse::http {

class Http2Server;

class Http2ServerStream final : public ServerStream, public Http2Stream {
 public:
  Http2ServerStream(Http2Server& server, int32_t id);
  ~Http2ServerStream() override;

  /// Why the request is not to be forwarded, if it is not: the client is owed an answer.
  const std::optional<Refusal>& refusal() const { return refusal_; }

  RequestHead& request() override { return *request_; }
  Poll poll_body() override;
  void park_body(base::Parked& operation) override;
  void stop_reading() override;
  void write_interim(const ResponseHead& head) override;
  void write_head(const ResponseHead& head, const BodyChunk& first) override;
  void write_body(const BodyChunk& chunk) override { write(chunk); }
  Poll poll_drained() override;
  void park_drained(base::Parked& operation) override;
  void abort() override;
  void watch(Watcher* watcher) override { watcher_ = watcher; }
  base::Error error() const override;

 private:
  friend class Http2Server;
  struct ReadTimer final : base::Timer {
    explicit ReadTimer(Http2ServerStream& s);
    Http2ServerStream& stream;
  };
  struct WriteTimer final : base::Timer {
    explicit WriteTimer(Http2ServerStream& s);
    Http2ServerStream& stream;
  };

  void on_section(FieldSection& section, bool last) override;
  void on_progress() override;
  void on_retired() override;
  void take_head(FieldSection& section, bool last);
  Poll body_failed(base::ErrorKind kind, const char* text);
  Poll body_late();
  void begin();
  void await_progress();
  void on_write_timeout();
  void begin_tunnel(const ResponseHead& head, const BodyChunk& first);

  Http2Server& server_;
  ReadTimer read_timer_;
  WriteTimer write_timer_;
  Watcher* watcher_ = nullptr;
  base::Recycled<RequestHead> request_;
  base::Block head_bytes_;
  std::optional<Refusal> refusal_;
  const char* body_failure_ = nullptr;  // an answer may still be written
  base::ErrorKind body_failure_kind_ = base::ErrorKind::io;
  uint64_t body_bytes_ = 0;
  BodyPace pace_;
  uint64_t sent_mark_ = 0;
  bool begun_ = false;
  bool answered_ = false;  // the final head was written
  bool tunnel_ = false;
  bool end_alone_ = false;  // what is still to come of the request is its end
};

class Http2Server final : public Http2Session {
 public:
  struct Settings {
    Http2Session::Settings session;
    uint64_t body_bytes_max = 0;       // 0: no limit
    uint64_t body_bytes_a_second = 0;  // at least; 0: any
    config::Duration idle_timeout, body_timeout;
  };
  /// How long a client that was told to go may still open streams that were on their way.
  static constexpr std::chrono::milliseconds goaway_delay{1000};
  /// After so long without a request a session gives back what it can.
  static constexpr std::chrono::milliseconds rest_delay{1000};

  class Handler {
   public:
    /// A request has come; the handler gives the stream back with finish().
    virtual void on_request(Http2ServerStream& stream) = 0;
    /// Whether this connection may be used for that host (RequestHead::host): a certificate's
    /// names are what a client chose the connection by (RFC 9110 section 7.4).
    virtual bool serves(std::string_view host) = 0;
    /// The session has ended; streams may still be to be given back.
    virtual void on_session_ended() = 0;

   protected:
    ~Handler() = default;
  };

  Http2Server(tls::Stream& stream, base::Reactor& reactor, base::MetricShard& metrics,
              const Settings& settings, Handler& handler);

  void finish(Http2ServerStream& stream);
  /// No stream is in use.
  bool unused() const { return streams() == 0; }
  /// Lets the requests under way end, and takes no others.
  void drain();
  /// Ends the session now.
  void break_off();
  /// From the next request on.
  void change(const Settings& settings);

  const Settings& settings() const { return settings_; }
  const Http2Session::Settings& session_settings() const { return Http2Session::settings(); }

 private:
  friend class Http2ServerStream;
  struct IdleTimer final : base::Timer {
    explicit IdleTimer(Http2Server& s);
    Http2Server& server;
  };

  Http2Stream* on_open(int32_t id) override;
  void on_ended() override;
  void on_idle() override;
  void on_pong() override;
  void on_idle_timeout();

  Handler& handler_;
  Settings settings_;
  IdleTimer idle_timer_;
  uint32_t working_ = 0;  // requests that were handed on and not given back
  bool served_ = false;
  bool resting_ = false;
  bool draining_ = false;
  bool goaway_sent_ = false;
};

}  // namespace gatehouse::http
