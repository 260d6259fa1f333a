// HTTP/1.1 towards an origin (RFC 9112): one connection, one request at a time.
//
// Chooses no endpoint and keeps no pool: connect() makes one, proxy::Pool keeps it while idle.
// Lives on one worker's thread.
#pragma once

#include <memory>

#include "base/buffer.hpp"
#include "base/reactor.hpp"
#include "config/snapshot.hpp"
#include "http/http1_parser.hpp"
#include "http/stream.hpp"
#include "tls/stream.hpp"

namespace gatehouse::http {

class Http1Client final : public ClientStream,
                          public tls::Stream::Observer,
                          public base::Retirable {
 public:
  struct Settings {
    HeadLimits head{64 * 1024, 256};
    config::Duration response_timeout, body_timeout, idle_timeout;
  };
  static constexpr uint32_t interim_responses_max = 16;

  /// Told when an idle connection ended or stayed idle for too long; it may free the client.
  class Keeper {
   public:
    virtual void on_idle_lost(Http1Client& client) = 0;

   protected:
    ~Keeper() = default;
  };

  Http1Client(base::Reactor& reactor, const Settings& settings);
  ~Http1Client() override;

  tls::Stream& stream() { return stream_; }

  /// After an exchange: the connection may serve another request.
  bool reusable() const;
  /// Starts waiting in a pool: `keeper` hears of the end, at most after the idle timeout (or less,
  /// if the origin said so).
  void rest(Keeper& keeper);
  /// Ends the rest; false: the origin has closed or said something unasked, do not use it.
  bool wake(const Settings& settings);

  void write_head(const RequestHead& head, std::string_view host, const BodyChunk& first) override;
  void write_body(const BodyChunk& chunk) override;
  Poll poll_drained() override;
  void park_drained(base::Parked& operation) override { stream_.writing.park(operation); }
  Poll poll_head() override;
  void park_head(base::Parked& operation) override;
  ResponseHead& response() override { return *response_; }
  Poll poll_body() override;
  void park_body(base::Parked& operation) override;
  void cancel(base::ErrorKind kind, const char* text) override { stream_.fail(kind, text); }
  bool response_begun() const override { return response_begun_; }
  bool reused() const override { return reused_; }
  base::Error error() const override;

 private:
  struct DeadlineTimer : base::Timer {
    explicit DeadlineTimer(Http1Client& c);
    Http1Client& client;
  };

  void on_hang_up() override;
  void on_deadline();
  Poll take_head(size_t length);
  Poll begin_response(size_t length);
  Poll take_body(std::span<char> bytes);
  Poll take_chunked(std::span<char> bytes);
  Poll broken(base::ErrorKind kind, const char* text);
  void complete(bool last_byte_known);
  void write_pieces(std::string_view head, const BodyChunk& chunk);

  base::Reactor& reactor_;
  Settings settings_;
  tls::Stream stream_;
  DeadlineTimer timer_;
  Keeper* keeper_ = nullptr;

  HeadScanner scanner_;
  base::Recycled<ResponseHead> response_;
  base::Recycled<ChunkDecoder> chunks_;
  uint64_t body_remaining_ = 0;
  config::Duration idle_limit_;
  const char* failure_ = nullptr;
  base::ErrorKind failure_kind_ = base::ErrorKind::io;
  uint64_t sent_in_batch_ = 0;
  uint32_t interim_responses_ = 0;
  Method method_ = Method::get;
  Framing request_framing_ = Framing::none;
  bool request_ended_ = true;
  bool head_awaited_ = false;
  bool response_begun_ = false;
  bool reused_ = false;
  bool keep_alive_ = true;
};

}  // namespace gatehouse::http
