// The two interfaces that everything above HTTP versions sees: one request from a client, one
// request to an origin. Pull to read, push to write; backpressure is the pull itself.
//
// Not a connection and not a policy. An HTTP version implements the poll functions; the awaiters
// here do the waiting. All on one worker's thread.
//
// Writing never waits: everything given is taken over at once, and `drained()` says when the peer
// has caught up. Bytes that reading returns are valid until the reader's next suspension.
#pragma once

#include <cstdint>

#include "base/error.hpp"
#include "base/task.hpp"
#include "http/message.hpp"

namespace gatehouse::http {

enum class Poll : uint8_t { pending, ready, failed };

namespace stream_detail {

/// Polls once; if the operation is not complete, parks until it is.
template <class S, Poll (S::*operation)(), void (S::*park)(base::Parked&)>
struct Await final : base::Parked {
  explicit Await(S& s) noexcept
      : Parked([](Parked& self) { return static_cast<Await&>(self).poll_again(); }), stream(s) {}
  bool poll_again() { return (state = (stream.*operation)()) != Poll::pending; }
  bool await_ready() { return poll_again(); }
  void await_suspend(std::coroutine_handle<> handle) {
    waiting = handle;
    (stream.*park)(*this);
  }
  bool await_resume() const noexcept { return state == Poll::ready; }
  S& stream;
  Poll state = Poll::pending;
};

}  // namespace stream_detail

/// One request, seen from the server's side: the client is at the other end.
///
/// A request whose head names a `protocol` asks for a tunnel (RFC 9110 section 7.8, RFC 8441). It
/// has no body: request_complete() holds, and bytes that come early wait in the stream. A head with
/// status 101 grants it: from there on both bodies are the tunnel's bytes, for as long as they
/// come, and the last piece of one half-closes.
class ServerStream {
 public:
  virtual ~ServerStream() = default;

  /// The request's head, for as long as the exchange lasts; its fields may be changed.
  virtual RequestHead& request() = 0;

  /// Reads the next piece of the request's body into `chunk()`. After the last piece the stream
  /// is `request_complete()` and must not be read again. A client that is too slow fails it, but
  /// only until the final head is written: from then on the two may talk as they like.
  virtual Poll poll_body() = 0;
  virtual void park_body(base::Parked& operation) = 0;
  const BodyChunk& chunk() const { return chunk_; }
  bool request_complete() const { return request_complete_; }
  auto read_body() {
    return stream_detail::Await<ServerStream, &ServerStream::poll_body, &ServerStream::park_body>(
        *this);
  }

  /// Gives the rest of the request's body up: a waiting read_body() is resumed with a failure, and
  /// the connection serves no further request.
  virtual void stop_reading() = 0;

  /// An interim response (1xx, RFC 9110 section 15.2).
  virtual void write_interim(const ResponseHead& head) = 0;
  /// The final head, with the beginning of the body. Status 101: the tunnel's first bytes. The
  /// request is not complete any more then, and no time limit applies to reading it.
  virtual void write_head(const ResponseHead& head, const BodyChunk& first) = 0;
  virtual void write_body(const BodyChunk& chunk) = 0;
  /// Waits until what was written has left; false: the client is gone or too slow.
  virtual Poll poll_drained() = 0;
  virtual void park_drained(base::Parked& operation) = 0;
  auto drained() {
    return stream_detail::Await<ServerStream, &ServerStream::poll_drained,
                                &ServerStream::park_drained>(*this);
  }

  /// Ends the exchange so that the client sees that something is missing; whatever waits on this
  /// stream is resumed with a failure.
  virtual void abort() = 0;

  /// Told once if the client goes away while nothing reads from it or writes to it.
  class Watcher {
   public:
    virtual void on_client_gone() = 0;

   protected:
    ~Watcher() = default;
  };
  virtual void watch(Watcher* watcher) = 0;

  /// Why the last read or write failed.
  virtual base::Error error() const = 0;

 protected:
  BodyChunk chunk_;
  bool request_complete_ = false;
};

/// One request, seen from the client's side: the origin is at the other end.
class ClientStream {
 public:
  virtual ~ClientStream() = default;

  /// The head, with the beginning of the body. `host` is the Host (or :authority) to be sent. A
  /// head with a `protocol` asks for a tunnel: read_head() gives status 101 when the origin has
  /// granted it by what its version of HTTP demands, and both bodies are the tunnel's bytes then.
  virtual void write_head(const RequestHead& head, std::string_view host,
                          const BodyChunk& first) = 0;
  virtual void write_body(const BodyChunk& chunk) = 0;
  virtual Poll poll_drained() = 0;
  virtual void park_drained(base::Parked& operation) = 0;
  auto drained() {
    return stream_detail::Await<ClientStream, &ClientStream::poll_drained,
                                &ClientStream::park_drained>(*this);
  }

  /// Reads the next head, interim or final, into `response()`. Its views are valid like a chunk's.
  virtual Poll poll_head() = 0;
  virtual void park_head(base::Parked& operation) = 0;
  virtual ResponseHead& response() = 0;
  auto read_head() {
    return stream_detail::Await<ClientStream, &ClientStream::poll_head, &ClientStream::park_head>(
        *this);
  }

  virtual Poll poll_body() = 0;
  virtual void park_body(base::Parked& operation) = 0;
  const BodyChunk& chunk() const { return chunk_; }
  bool response_complete() const { return response_complete_; }
  auto read_body() {
    return stream_detail::Await<ClientStream, &ClientStream::poll_body, &ClientStream::park_body>(
        *this);
  }

  /// Gives the request up: whatever waits on this stream is resumed with a failure. The origin sees
  /// that a tunnel was cut.
  virtual void cancel(base::ErrorKind kind, const char* text) = 0;
  /// Whether any byte of a response has come (then nothing may be retried).
  virtual bool response_begun() const = 0;
  /// The connection had served another request before this one.
  virtual bool reused() const = 0;

  virtual base::Error error() const = 0;

 protected:
  BodyChunk chunk_;
  bool response_complete_ = false;
};

}  // namespace gatehouse::http
