// One HTTP/2 stream's two bodies and its end: what a server's and a client's stream have in common.
//
// Knows no heads: http2_server and http2_client do. A body is pulled from its queue, and the peer's
// window opens as it is; what is written waits in the other queue until the session sends it. Lives
// on one worker's thread.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/buffer.hpp"
#include "base/error.hpp"
#include "base/task.hpp"
#include "http/http2_session.hpp"
#include "http/message.hpp"
#include "http/stream.hpp"

namespace gatehouse::http {

class Http2Stream : public base::Retirable {
 public:
  /// A piece of this size leaves at once, from where it lies, if nothing stands in its way.
  static constexpr size_t direct_bytes_min = 8 * 1024;

  static void* operator new(size_t size) { return base::allocate_frame(size); }
  static void operator delete(void* memory, size_t size) { base::free_frame(memory, size); }

  Http2Stream(Http2Session& session, int32_t id);
  ~Http2Stream() override;
  Http2Stream(const Http2Stream&) = delete;
  Http2Stream& operator=(const Http2Stream&) = delete;

  int32_t id() const { return id_; }
  /// Nothing goes or comes any more.
  bool closed() const { return closed_; }
  /// Takes the stream out of its session and frees it when that is safe: whoever resumed the last
  /// coroutine that used it may still be polling it.
  void retire();

 protected:
  // --- what the session tells, from within nghttp2: no coroutine may run
  /// A field section is whole: a head, or trailers.
  virtual void on_section(FieldSection& section, bool last) = 0;
  // --- and outside of it
  /// Something that was waited for may have happened.
  virtual void on_progress();
  /// No timer may come any more.
  virtual void on_retired() = 0;

  void take_trailers(const FieldSection& section);
  /// Takes a piece of the outgoing body over.
  void write(const BodyChunk& chunk);
  Poll poll_written();
  Poll poll_received(BodyChunk& chunk);
  /// What comes from now on is thrown away.
  void ignore_rest();
  /// Breaks the stream on this side: what waits is resumed with a failure.
  void fail(base::ErrorKind kind, const char* text);
  void reset(Http2Error code);
  bool failed() const { return failure_ != nullptr; }
  /// All that the peer had to say has come.
  bool received_all() const { return in_ended_; }
  bool drained_input() const { return in_ended_ && in_.empty(); }

  Http2Session& session_;
  int32_t id_;
  base::ParkingSlot receiving_, sending_;
  const char* failure_ = nullptr;
  base::ErrorKind failure_kind_ = base::ErrorKind::io;
  uint32_t close_code_ = 0;
  uint64_t bytes_sent_ = 0;  // of the body, handed to the connection
  bool out_ended_ = false;   // the last piece was taken over
  bool out_framed_ = false;  // and END_STREAM has left
  bool reset_by_us_ = false;

 private:
  friend class Http2Session;
  friend struct Http2Callbacks;
  size_t waiting_bytes() const { return out_.size() + direct_.size(); }
  std::string_view front(size_t size) const;
  void sent(size_t size);
  void end_left();
  void receive(std::string_view bytes);
  void receive_end();
  void close(uint32_t code);

  Http2Stream* next_ = nullptr;
  Http2Stream** previous_ = nullptr;
  base::ByteQueue out_;
  std::string_view direct_;  // lies with whoever is writing, until write() returns
  base::ByteQueue in_;
  Trailers out_trailers_, in_trailers_;
  bool deferred_ = false;  // nghttp2 waits to be told of more
  bool in_ended_ = false;
  bool ignoring_ = false;
  bool unsent_ = false;  // the peer has never heard of it
  bool closed_ = false;
  bool touched_ = false;
  bool retired_ = false;
};

}  // namespace gatehouse::http
