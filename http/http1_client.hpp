// HTTP/1.1 towards an origin (RFC 9112): one connection, one request at a time, at last perhaps a
// tunnel.
//
// Chooses no endpoint and keeps no pool: connect() makes one, proxy::Pool keeps it while idle.
// Connection and stream are one object here. Lives on one worker's thread.
#pragma once

#include <string>

#include "base/buffer.hpp"
#include "http/client_connection.hpp"
#include "http/http1_writer.hpp"

namespace gatehouse::http {

class Http1Client final : public ClientConnection,
                          public ClientStream,
                          private tls::Stream::Observer {
 public:
  Http1Client(base::Reactor& reactor, const Settings& settings);
  ~Http1Client() override;

  base::Task<bool> greet() override { co_return true; }
  ClientStream* begin(const Settings& settings) override;
  void end(ClientStream& stream) override;
  bool available() const override { return state_ == State::resting; }
  bool idle() const override { return state_ != State::busy; }

  void write_head(const RequestHead& head, std::string_view host, const BodyChunk& first) override;
  void write_body(const BodyChunk& chunk) override;
  Poll poll_drained() override;
  void park_drained(base::Parked& operation) override;
  Poll poll_head() override;
  void park_head(base::Parked& operation) override;
  ResponseHead& response() override { return *response_; }
  Poll poll_body() override;
  void park_body(base::Parked& operation) override;
  void cancel(base::ErrorKind kind, const char* text) override;
  bool response_begun() const override { return response_begun_; }
  bool reused() const override { return reused_; }
  base::Error error() const override;

 private:
  enum class State : uint8_t { resting, busy, ended };
  struct DeadlineTimer : base::Timer {
    explicit DeadlineTimer(Http1Client& c);
    Http1Client& client;
  };

  void on_hang_up() override;
  void on_deadline();
  void end_rest();
  bool reusable() const;
  void write_upgrade(const RequestHead& head, std::string_view host, HeadBuffer& out);
  Poll tunnel_drained(tls::Io flushed);
  void watch_answer();
  Poll take_head(size_t length);
  void keep_head();
  Poll begin_response(size_t length);
  Poll begin_tunnel();
  Poll take_body(std::span<char> bytes);
  Poll take_chunked(std::span<char> bytes);
  Poll broken(base::ErrorKind kind, const char* text);
  void complete(bool last_byte_known);
  void write_pieces(std::string_view head, const BodyChunk& chunk);

  DeadlineTimer timer_;

  HeadScanner scanner_;
  base::Recycled<ResponseHead> response_;
  std::string_view head_view_;  // where the head lies in the stream's bytes; empty: not any more
  base::Block head_bytes_;
  base::Recycled<ChunkDecoder> chunks_;
  uint64_t body_remaining_ = 0;
  config::Duration idle_limit_;
  const char* failure_ = nullptr;
  base::ErrorKind failure_kind_ = base::ErrorKind::io;
  uint64_t sent_in_batch_ = 0;
  std::string accept_;  // what grants the tunnel that was asked for
  uint64_t sent_mark_ = 0;
  uint32_t interim_responses_ = 0;
  State state_ = State::resting;
  Method method_ = Method::get;
  Framing request_framing_ = Framing::none;
  bool request_ended_ = true;
  bool expects_ = false;  // a 100 before the body
  bool head_awaited_ = false;
  bool response_begun_ = false;
  bool used_ = false;    // it has served a request, or serves its first
  bool reused_ = false;  // that was not its first
  bool keep_alive_ = true;
  bool upgrade_asked_ = false;
  bool tunnel_ = false;
};

}  // namespace gatehouse::http
