// HTTP/1.1 towards the client (RFC 9112): one connection's requests, one after the other, the last
// perhaps a tunnel.
//
// Routes and answers nothing by itself: the connection asks for the next request, an exchange
// answers it through ServerStream. Lives on one worker's thread.
#pragma once

#include "base/buffer.hpp"
#include "base/reactor.hpp"
#include "config/snapshot.hpp"
#include "http/body_pace.hpp"
#include "http/http1_parser.hpp"
#include "http/http1_writer.hpp"
#include "http/stream.hpp"
#include "tls/stream.hpp"

namespace gatehouse::http {

class Http1Server final : public ServerStream, public tls::Stream::Observer {
 public:
  struct Settings {
    HeadLimits head;
    uint64_t body_bytes_max = 0;       // 0: no limit
    uint64_t body_bytes_a_second = 0;  // at least; 0: any
    config::Duration header_timeout, idle_timeout, body_timeout;
  };
  /// A client that takes less than this in a body_timeout is too slow.
  static constexpr uint64_t write_progress_bytes_min = 4096;

  Http1Server(tls::Stream& stream, base::Reactor& reactor, const Settings& settings);
  ~Http1Server() override;

  /// Waits for the next request. False: there is none; see refusal().
  Poll poll_request();
  void park_request(base::Parked& operation);
  auto read_request() {
    return stream_detail::Await<Http1Server, &Http1Server::poll_request,
                                &Http1Server::park_request>(*this);
  }
  /// Why read_request() failed, if the client is owed an answer.
  const std::optional<Refusal>& refusal() const { return refusal_; }
  /// Ends the exchange with the request; true: the next one may be read.
  bool finish_request();
  /// Waiting for a request of which no byte has come.
  bool idle() const { return waiting_ == Waiting::request && !head_begun_; }
  /// This response is the last one of the connection.
  void close_after_response() { closing_ = true; }
  const Settings& settings() const { return settings_; }
  /// From the next request on.
  void change(const Settings& settings) { settings_ = settings; }

  RequestHead& request() override { return *request_; }
  Poll poll_body() override;
  void park_body(base::Parked& operation) override;
  void stop_reading() override;
  void write_interim(const ResponseHead& head) override;
  void write_head(const ResponseHead& head, const BodyChunk& first) override;
  void write_body(const BodyChunk& chunk) override;
  Poll poll_drained() override;
  void park_drained(base::Parked& operation) override;
  void abort() override;
  void watch(Watcher* watcher) override { watcher_ = watcher; }
  base::Error error() const override;
  /// Tells the exchange that its client is gone, whatever it is waiting for.
  void give_up();

 private:
  enum class Waiting : uint8_t { nothing, request, body };
  struct ReadTimer : base::Timer {
    explicit ReadTimer(Http1Server& s);
    Http1Server& server;
  };
  struct WriteTimer : base::Timer {
    explicit WriteTimer(Http1Server& s);
    Http1Server& server;
  };

  void on_hang_up() override;
  void on_read_timeout();
  std::string_view keep_head(size_t length);
  Poll take_parsed(size_t length);
  Poll take_head(size_t length);
  Poll begin_exchange();
  Poll take_body(std::span<char> bytes);
  Poll take_chunked(std::span<char> bytes);
  Poll refuse(Refusal refusal);
  Poll end_of_tunnel();
  Poll body_failed(base::ErrorKind kind, const char* text);
  Poll body_late();
  void begin_tunnel(const ResponseHead& head, const BodyChunk& first);
  void write_pieces(std::string_view head, const BodyChunk& chunk);

  tls::Stream& stream_;
  base::Reactor& reactor_;
  Settings settings_;
  ReadTimer read_timer_;
  WriteTimer write_timer_;
  Watcher* watcher_ = nullptr;

  HeadScanner scanner_;
  base::Block head_bytes_;
  base::Recycled<RequestHead> request_;
  base::Recycled<ChunkDecoder> chunks_;
  std::optional<Refusal> refusal_;
  uint64_t body_remaining_ = 0;
  uint64_t body_bytes_ = 0;
  BodyPace pace_;
  uint64_t sent_mark_ = 0;
  const char* body_failure_ = nullptr;
  base::ErrorKind body_failure_kind_ = base::ErrorKind::io;
  Waiting waiting_ = Waiting::nothing;
  Framing response_framing_ = Framing::none;
  bool head_begun_ = false;
  bool first_request_ = true;
  bool fin_with_request_ = false;
  bool answered_ = false;  // the final head was written
  bool response_ended_ = false;
  bool keep_alive_ = true;
  bool closing_ = false;
  bool tunnel_ = false;
};

}  // namespace gatehouse::http
