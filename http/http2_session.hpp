// One HTTP/2 connection, either side (RFC 9113): frames in, frames out in one flush a batch, and
// what keeps a hostile peer from costing more than it pays.
//
// Knows no requests: http2_server and http2_client make them of streams (http2_stream). nghttp2
// does frames, HPACK and the states of streams. Lives on one worker's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/metrics.hpp"
#include "base/reactor.hpp"
#include "base/task.hpp"
#include "config/snapshot.hpp"
#include "http/http1_parser.hpp"
#include "http/http2_fields.hpp"
#include "http/message.hpp"
#include "tls/stream.hpp"

struct nghttp2_session;

namespace gatehouse::http {

class Http2Stream;

/// RFC 9113 section 7.
enum class Http2Error : uint32_t {
  no_error = 0,
  protocol_error = 1,
  internal_error = 2,
  flow_control_error = 3,
  frame_size_error = 6,
  refused_stream = 7,
  cancel = 8,
  enhance_your_calm = 11,
};

class Http2Session : private base::Deferred {
 public:
  enum class Role : uint8_t { server, client };
  struct Settings {
    HeadLimits head;
    uint32_t streams_max = 128;  // that the peer may have open
    config::Duration header_timeout, stall_timeout;
  };

  /// What a peer may send before we say that we have read it: of one body, and of all together.
  static constexpr int32_t stream_window_bytes = 64 * 1024;
  static constexpr int32_t window_bytes = 1024 * 1024;
  static constexpr size_t frame_bytes_max = 16 * 1024;  // RFC 9113 section 4.2: what we announce
  /// A peer that takes less than this in a stall_timeout, while bytes wait, is too slow.
  static constexpr uint64_t write_progress_bytes_min = 4096;
  /// What a field section may grow to, as a multiple of its limit, before decoding it ends.
  static constexpr uint64_t section_excess_max = 4;
  // Frames that bring no work forward, such as PING, SETTINGS, PRIORITY, empty DATA: so many at
  // once, and so many more a second. What does bring it forward earns some.
  static constexpr int64_t control_frames_max = 1000;
  static constexpr int64_t control_frames_a_second = 100;
  static constexpr int64_t control_frames_a_request = 10;
  static constexpr int64_t control_frames_a_large_section = 50;  // what one past its limit costs
  // Streams that are reset, by the peer or because of what it sent.
  static constexpr int64_t resets_max = 200;
  static constexpr int64_t resets_a_second = 20;

  Http2Session(Role role, tls::Stream& stream, base::Reactor& reactor, base::MetricShard& metrics,
               const Settings& settings);
  ~Http2Session() override;
  Http2Session(const Http2Session&) = delete;
  Http2Session& operator=(const Http2Session&) = delete;

  /// Sends the preface and takes what has been read already.
  void start();
  /// The connection takes and gives no more frames; streams may still be in use.
  bool ended() const { return ended_; }

  // --- for streams
  /// Puts the stream into the session's list. Its id is not known yet on the client's side.
  void add(Http2Stream& stream);
  void remove(Http2Stream& stream);
  void respond(Http2Stream& stream, const FieldList& fields, bool body);
  void inform(Http2Stream& stream, const FieldList& fields);
  /// False: the session is ended, or its identifiers are used up.
  bool request(Http2Stream& stream, const FieldList& fields, bool body);
  void resume(Http2Stream& stream);
  void reset(Http2Stream& stream, Http2Error code);
  /// The peer may send so much more.
  void consumed(Http2Stream& stream, size_t count);
  /// Tells the stream soon, outside of any callback, that something has happened to it.
  void touch(Http2Stream& stream);
  /// A stream is reset because of what the peer has sent. False: there were too many.
  bool spend_reset();
  /// At the end of the batch.
  void flush_later() { reactor_.at_batch_end(*this); }
  /// What is written now may leave now.
  bool may_flush() const { return !busy_ && !ended_ && !stream_.pending() && !held_; }
  void flush();
  base::Reactor& reactor() { return reactor_; }
  const Settings& settings() const { return settings_; }
  base::MetricShard& metrics() { return metrics_; }

 protected:
  /// The peer has opened a stream; null: it is refused.
  virtual Http2Stream* on_open(int32_t id) = 0;
  /// Nothing more comes and nothing more goes; every stream has been told.
  virtual void on_ended() = 0;
  /// The last stream is gone, or the first has come.
  virtual void on_idle() {}
  virtual void on_pong() {}
  /// The peer takes no further streams.
  virtual void on_goaway() {}
  virtual void on_settings() {}

  /// GOAWAY and no further reading; the connection ends when that has left.
  void terminate(Http2Error code);
  /// Ends the session at once: what waits on its streams fails.
  void lose(base::ErrorKind kind, const char* text);
  void ping();
  /// Holds everything but what was submitted before back, until released.
  void hold() { held_ = true; }
  void release();
  void shutdown_notice();
  void goaway();
  uint32_t peer_streams_max() const;
  /// Gives back what a session needs only while it is busy.
  void rest();
  size_t streams() const { return streams_; }
  void change(const Settings& settings) { settings_ = settings; }

  tls::Stream& stream_;
  base::Reactor& reactor_;
  bool heard_ = false;  // something has come, since a subclass last made this false

 private:
  friend struct Http2Callbacks;
  struct Reading final : base::Parked {
    explicit Reading(Http2Session& s);
    Http2Session& session;
  };
  struct Writing final : base::Parked {
    explicit Writing(Http2Session& s);
    Http2Session& session;
  };
  struct More final : base::Deferred {
    explicit More(Http2Session& s) : session(s) {}
    void on_deferred() override {
      if (!session.ended_) session.read();
    }
    Http2Session& session;
  };
  struct StallTimer final : base::Timer {
    explicit StallTimer(Http2Session& s);
    Http2Session& session;
  };
  struct SectionTimer final : base::Timer {
    explicit SectionTimer(Http2Session& s);
    Http2Session& session;
  };
  /// A bucket that empties by what the peer does and fills with time.
  struct Allowance {
    int64_t left;
    base::Monotonic::time_point since;
    bool spend(int64_t cost, int64_t max, int64_t a_second, base::Monotonic::time_point now);
  };

  void make_session();
  void on_deferred() override;
  void read();
  void more_later() { reactor_.defer(more_); }
  bool take(std::span<char> bytes);
  void send();
  void append(std::string_view bytes);
  void write_out();
  void watch_stall();
  void on_stall();
  void watch_section();
  void deliver();
  void end_if_done();
  void end();
  bool spend_control(int64_t cost);
  void earn_control(int64_t gain) { control_.left += gain; }
  void open_section(int32_t id, Http2Stream* stream);
  void close_section();

  base::MetricShard& metrics_;
  Settings settings_;
  Role role_;
  nghttp2_session* session_ = nullptr;
  Reading reading_;
  Writing writing_;
  More more_;  // reading, when others have had their turn
  StallTimer stall_timer_;
  SectionTimer section_timer_;
  Http2Stream* first_ = nullptr;
  size_t streams_ = 0;
  std::vector<Http2Stream*> touched_;
  base::Recycled<FieldSection> section_;  // while a field section is being received
  int32_t section_id_ = 0;
  Http2Stream* section_stream_ = nullptr;
  Allowance control_, resets_;
  uint64_t sent_mark_ = 0;
  void* pages_ = nullptr;               // where nghttp2 puts a frame together
  int64_t peer_window_bytes_ = 65'535;  // what a new stream of ours begins with
  int64_t largest_window_ = 0;          // of our streams, before the SETTINGS being received
  bool receiving_reset_ = false;
  bool busy_ = false;  // in a call of nghttp2's
  bool delivering_ = false;
  bool held_ = false;
  bool terminated_ = false;
  bool ended_ = false;
};

}  // namespace gatehouse::http
