#include "http/http2_session.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <nghttp2/nghttp2.h>

#include "http/http2_memory.hpp"
#include "http/http2_stream.hpp"

namespace gatehouse::http {

using base::ErrorKind;
using base::Metric;
using tls::Io;

namespace {

/// What goes out in one write: four TLS records. Empty between flushes; the thread's.
struct Outgoing {
  std::array<char, 64 * 1024> bytes;
  size_t size = 0;
};

Outgoing& outgoing() {
  thread_local const std::unique_ptr<Outgoing> memory(new Outgoing);
  return *memory;
}

std::string_view view(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace

// --- beginning and end

Http2Session::Reading::Reading(Http2Session& s)
    : Parked([](Parked& self) {
        static_cast<Reading&>(self).session.read();
        return false;
      }),
      session(s) {}

Http2Session::Writing::Writing(Http2Session& s)
    : Parked([](Parked& self) {
        static_cast<Writing&>(self).session.on_deferred();
        return false;
      }),
      session(s) {}

Http2Session::StallTimer::StallTimer(Http2Session& s)
    : Timer([](Timer& self) { static_cast<StallTimer&>(self).session.on_stall(); }), session(s) {}

Http2Session::SectionTimer::SectionTimer(Http2Session& s)
    : Timer([](Timer& self) {
        auto& slow = static_cast<SectionTimer&>(self).session;
        slow.metrics_.add(Metric::http2_header_floods);
        slow.terminate(Http2Error::enhance_your_calm);
      }),
      session(s) {}

Http2Session::Http2Session(Role role, tls::Stream& stream, base::Reactor& reactor,
                           base::MetricShard& metrics, const Settings& settings)
    : stream_(stream),
      reactor_(reactor),
      metrics_(metrics),
      settings_(settings),
      role_(role),
      reading_(*this),
      writing_(*this),
      more_(*this),
      stall_timer_(*this),
      section_timer_(*this),
      control_{control_frames_max, reactor.now()},
      resets_{resets_max, reactor.now()} {
  make_session();
}

Http2Session::~Http2Session() {
  ASSERT(first_ == nullptr);
  reactor_.forget(*this);
  reactor_.forget(more_);
  nghttp2_session_del(session_);
}

void Http2Session::start() {
  const uint32_t header_bytes = static_cast<uint32_t>(settings_.head.bytes_max);
  const std::array<nghttp2_settings_entry, 5> server = {
      {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, settings_.streams_max},
       {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, stream_window_bytes},
       {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, header_bytes},
       {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
       {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1}}};
  const std::array<nghttp2_settings_entry, 4> client = {
      {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
       {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, stream_window_bytes},
       {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, header_bytes},
       {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1}}};
  const std::span<const nghttp2_settings_entry> entries =
      role_ == Role::server ? std::span<const nghttp2_settings_entry>(server) : client;
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, entries.data(), entries.size());
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, window_bytes);
  stream_.reading.park(reading_);
  flush_later();
  read();
}

void Http2Session::terminate(Http2Error code) {
  if (std::exchange(terminated_, true)) return;
  nghttp2_session_terminate_session(session_, static_cast<uint32_t>(code));
  flush_later();
}

void Http2Session::lose(ErrorKind kind, const char* text) {
  if (ended_) return;
  if (role_ == Role::client && terminated_) {
    kind = ErrorKind::protocol;
    text = "the origin broke the rules of HTTP/2";
  }
  for (Http2Stream* each = first_; each != nullptr; each = each->next_) {
    // An answer that has come whole stays so, and so does a refusal.
    const bool decided = each->closed_ || (role_ == Role::client && each->in_ended_);
    each->closed_ = true;
    decided ? touch(*each) : each->fail(kind, text);
  }
  end();
}

void Http2Session::end() {
  if (std::exchange(ended_, true)) return;
  stall_timer_.disarm();
  section_timer_.disarm();
  stream_.reading.clear();
  stream_.writing.clear();
  deliver();
  on_ended();
}

/// When GOAWAY has said all, and the streams it left are over.
void Http2Session::end_if_done() {
  if (ended_ || held_ || stream_.pending()) return;
  if (nghttp2_session_want_read(session_) != 0 || nghttp2_session_want_write(session_) != 0) return;
  lose(ErrorKind::closed, "the HTTP/2 connection was ended");
}

// --- streams

void Http2Session::add(Http2Stream& stream) {
  stream.next_ = first_;
  stream.previous_ = &first_;
  if (first_ != nullptr) first_->previous_ = &stream.next_;
  first_ = &stream;
  if (streams_++ == 0) on_idle();
}

void Http2Session::remove(Http2Stream& stream) {
  *stream.previous_ = stream.next_;
  if (stream.next_ != nullptr) stream.next_->previous_ = stream.previous_;
  if (stream.touched_) std::replace(touched_.begin(), touched_.end(), &stream, {});
  if (section_stream_ == &stream) section_stream_ = nullptr;
  if (stream.id_ > 0 && !stream.closed_) {
    nghttp2_session_set_stream_user_data(session_, stream.id_, nullptr);
  }
  if (!stream.in_.empty()) consumed(stream, stream.in_.size());
  if (--streams_ == 0) on_idle();
}

void Http2Session::touch(Http2Stream& stream) {
  if (std::exchange(stream.touched_, true)) return;
  touched_.push_back(&stream);
  if (!busy_) flush_later();
}

void Http2Session::deliver() {
  if (std::exchange(delivering_, true)) return;
  for (size_t i = 0; i < touched_.size(); ++i) {
    Http2Stream* const stream = touched_[i];
    if (stream == nullptr) continue;
    stream->touched_ = false;
    stream->on_progress();
  }
  touched_.clear();
  delivering_ = false;
}

void Http2Session::open_section(int32_t id, Http2Stream* stream) {
  section_ = base::Recycled<FieldSection>::take();
  section_id_ = id;
  section_stream_ = stream;
}

void Http2Session::close_section() {
  section_.reset();
  section_id_ = 0;
  section_stream_ = nullptr;
  section_timer_.disarm();
}

// --- reading

/// One read a turn: a peer that always has more must not hold the worker.
void Http2Session::read() {
  if (stream_.unread_size() == 0 && (!terminated_ || stream_.failed())) {
    const Io got = stream_.fill();
    if (got == Io::eof || got == Io::failed) {
      const bool orderly = got == Io::eof;
      return lose(orderly ? ErrorKind::closed : stream_.error_kind(),
                  orderly ? "the HTTP/2 connection was closed" : stream_.error_text());
    }
  }
  if (stream_.unread_size() > 0) take(stream_.unread());
  deliver();
  if (ended_) return;
  flush_later();
  if (stream_.readable && !terminated_) more_later();
}

bool Http2Session::take(std::span<char> bytes) {
  heard_ = true;
  busy_ = true;
  const ssize_t taken = nghttp2_session_mem_recv(
      session_, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  busy_ = false;
  receiving_reset_ = false;
  stream_.consume(bytes.size());
  watch_section();
  if (taken >= 0) return true;
  switch (taken) {
    case NGHTTP2_ERR_FLOODED:
      metrics_.add(Metric::http2_control_floods);
      terminate(Http2Error::enhance_your_calm);
      break;
    case NGHTTP2_ERR_TOO_MANY_CONTINUATIONS:
      metrics_.add(Metric::http2_header_floods);
      terminate(Http2Error::enhance_your_calm);
      break;
    case NGHTTP2_ERR_BAD_CLIENT_MAGIC:
      terminate(Http2Error::protocol_error);
      break;
    default:
      terminate(Http2Error::internal_error);
      break;
  }
  return false;
}

/// A field section that has begun must end soon, however its pieces trickle in.
void Http2Session::watch_section() {
  const bool open = static_cast<bool>(section_);
  if (open == section_timer_.armed()) return;
  if (open) {
    reactor_.arm(section_timer_, settings_.header_timeout);
  } else {
    section_timer_.disarm();
  }
}

bool Http2Session::Allowance::spend(int64_t cost, int64_t max, int64_t a_second,
                                    base::Monotonic::time_point now) {
  const auto elapsed = std::chrono::duration_cast<std::chrono::milliseconds>(now - since).count();
  if (const int64_t earned = elapsed * a_second / 1000; earned > 0) {
    left += earned;
    since = now;
  }
  left = std::min(left, max) - cost;
  return left >= 0;
}

bool Http2Session::spend_control(int64_t cost) {
  if (control_.spend(cost, control_frames_max, control_frames_a_second, reactor_.now())) {
    return true;
  }
  if (!terminated_) metrics_.add(Metric::http2_control_floods);
  terminate(Http2Error::enhance_your_calm);
  return false;
}

bool Http2Session::spend_reset() {
  if (resets_.spend(1, resets_max, resets_a_second, reactor_.now())) return true;
  if (!terminated_) metrics_.add(Metric::http2_reset_floods);
  terminate(Http2Error::enhance_your_calm);
  return false;
}

// --- writing

void Http2Session::on_deferred() {
  if (ended_) return deliver();
  if (stream_.pending() && stream_.flush() != Io::again) watch_stall();
  flush();
  deliver();
  if (!ended_) end_if_done();
}

void Http2Session::flush() {
  if (busy_ || ended_ || stream_.pending()) return;
  send();
  watch_stall();
}

void Http2Session::send() {
  while (!held_) {
    const uint8_t* bytes = nullptr;
    busy_ = true;
    const ssize_t size = nghttp2_session_mem_send(session_, &bytes);
    busy_ = false;
    if (size < 0) {
      outgoing().size = 0;
      return lose(ErrorKind::io, "nghttp2 cannot go on");
    }
    if (size == 0) break;
    append(view(bytes, static_cast<size_t>(size)));
    if (stream_.pending()) break;
  }
  write_out();
}

void Http2Session::append(std::string_view bytes) {
  Outgoing& out = outgoing();
  while (!bytes.empty()) {
    const size_t count = std::min(bytes.size(), out.bytes.size() - out.size);
    std::memcpy(out.bytes.data() + out.size, bytes.data(), count);
    out.size += count;
    bytes.remove_prefix(count);
    if (out.size == out.bytes.size()) write_out();
  }
}

void Http2Session::write_out() {
  Outgoing& out = outgoing();
  const std::string_view bytes(out.bytes.data(), std::exchange(out.size, 0));
  if (!bytes.empty()) stream_.write({&bytes, 1});
}

/// While the socket takes no more: waits for it, but not for a peer that takes nothing.
void Http2Session::watch_stall() {
  const bool waiting = stream_.writing.occupied();
  if (stream_.pending() == waiting) return;
  if (waiting) {
    stream_.writing.clear();
    stall_timer_.disarm();
  } else {
    stream_.writing.park(writing_);
    sent_mark_ = stream_.bytes_sent();
    reactor_.arm(stall_timer_, settings_.stall_timeout);
  }
}

void Http2Session::on_stall() {
  if (stream_.bytes_sent() - sent_mark_ < write_progress_bytes_min) {
    metrics_.add(Metric::http2_stalls);
    stream_.fail(ErrorKind::timeout, "the peer reads too slowly");
    return;
  }
  sent_mark_ = stream_.bytes_sent();
  reactor_.arm(stall_timer_, settings_.stall_timeout);
}

void Http2Session::rest() {
  touched_.shrink_to_fit();
  // Without streams and without a frame to send, nothing in there will be looked at again.
  const bool quiet = streams_ == 0 && nghttp2_session_want_write(session_) == 0;
  if (quiet && pages_ != nullptr) http2_forget(pages_);
}

void Http2Session::ping() {
  nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr);
  flush_later();
}

void Http2Session::release() {
  held_ = false;
  flush_later();
}

void Http2Session::shutdown_notice() {
  nghttp2_submit_shutdown_notice(session_);
  flush_later();
}

void Http2Session::goaway() {
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE,
                        nghttp2_session_get_last_proc_stream_id(session_), NGHTTP2_NO_ERROR,
                        nullptr, 0);
  flush_later();
}

uint32_t Http2Session::peer_streams_max() const {
  return nghttp2_session_get_remote_settings(session_, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

}  // namespace gatehouse::http
