#include "http/http1_client.hpp"

#include <array>
#include <charconv>
#include <cstring>

#include "http/head_scratch.hpp"
#include "http/websocket.hpp"

namespace gatehouse::http {

using base::ErrorKind;
using tls::Io;

namespace {

/// "timeout=5, max=100" → 5 s; nothing if it is not said.
std::optional<config::Duration> keep_alive_timeout(std::string_view value) {
  const size_t at = value.find("timeout=");
  if (at == std::string_view::npos) return std::nullopt;
  uint32_t seconds = 0;
  const char* begin = value.data() + at + 8;
  const auto parsed = std::from_chars(begin, value.data() + value.size(), seconds);
  if (parsed.ec != std::errc{} || parsed.ptr == begin) return std::nullopt;
  return std::chrono::seconds(seconds);
}

}  // namespace

Http1Client::DeadlineTimer::DeadlineTimer(Http1Client& c)
    : Timer([](Timer& self) { static_cast<DeadlineTimer&>(self).client.on_deadline(); }),
      client(c) {}

Http1Client::Http1Client(base::Reactor& reactor, const Settings& settings)
    : ClientConnection(reactor, settings), timer_(*this), idle_limit_(settings.idle_timeout) {}

Http1Client::~Http1Client() = default;

// --- requests

void Http1Client::write_head(const RequestHead& head, std::string_view host,
                             const BodyChunk& first) {
  method_ = head.method;
  request_framing_ = head.framing;
  response_begun_ = false;
  response_complete_ = false;
  failure_ = nullptr;
  interim_responses_ = 0;
  keep_alive_ = true;
  sent_in_batch_ = reactor_.batch();
  scanner_.reset();
  HeadBuffer out = head_scratch();
  expects_ = head.expect_continue;
  upgrade_asked_ = !head.protocol.empty();
  upgrade_asked_ ? write_upgrade(head, host, out) : write_request_head(head, host, out);
  if (out.overflow) {
    stream_.fail(ErrorKind::limit, "the request's head grew too large");
    return;
  }
  write_pieces({out.data, out.size}, first);
}

void Http1Client::write_upgrade(const RequestHead& head, std::string_view host, HeadBuffer& out) {
  const std::string_view key = websocket_key(head);
  const std::string own = key.empty() ? make_websocket_key() : std::string();
  accept_ = websocket_accept(key.empty() ? own : key);
  write_upgrade_head(head, host, own, out);
}

void Http1Client::write_body(const BodyChunk& chunk) {
  expects_ = false;
  write_pieces({}, chunk);
  watch_answer();
}

/// The origin has time for its answer from the last piece it was given, or did not take; not while
/// the client is to send the next.
void Http1Client::watch_answer() {
  if (!head_awaited_) return;
  if (request_ended_ || expects_ || stream_.pending()) {
    reactor_.arm(timer_, settings_.response_timeout);
  } else {
    timer_.disarm();
  }
}

void Http1Client::write_pieces(std::string_view head, const BodyChunk& chunk) {
  request_ended_ = chunk.last;
  std::array<char, 20> size_line;
  std::array<char, 16 * 1024> last_chunk;
  std::array<std::string_view, 5> pieces;
  size_t count = 0;
  if (!head.empty()) pieces[count++] = head;
  if (request_framing_ == Framing::chunked) {
    if (!chunk.bytes.empty()) {
      pieces[count++] = {size_line.data(), write_chunk_size(chunk.bytes.size(), size_line.data())};
      pieces[count++] = chunk.bytes;
      pieces[count++] = "\r\n";
    }
    if (chunk.last) {
      HeadBuffer out{last_chunk.data(), 0, last_chunk.size()};
      write_last_chunk(chunk.trailers, out);
      pieces[count++] = {out.data, out.size};
    }
  } else if (!chunk.bytes.empty()) {
    pieces[count++] = chunk.bytes;
  }
  if (count > 0) stream_.write({pieces.data(), count});
  if (tunnel_ && chunk.last) stream_.shutdown_write();
}

Poll Http1Client::poll_drained() {
  const Io flushed = stream_.flush();
  if (tunnel_) return tunnel_drained(flushed);
  if (flushed == Io::again) return Poll::pending;
  if (flushed == Io::failed) return Poll::failed;
  watch_answer();
  return Poll::ready;
}

void Http1Client::park_drained(base::Parked& operation) {
  if (tunnel_) {
    sent_mark_ = stream_.bytes_sent();
    reactor_.arm(timer_, settings_.body_timeout);
  } else {
    watch_answer();
  }
  stream_.writing.park(operation);
}

// The timer is for writing here: in a tunnel an origin may be silent for as long as it likes, but
// not refuse what it is sent.
Poll Http1Client::tunnel_drained(Io flushed) {
  if (flushed == Io::again) {
    if (stream_.bytes_sent() == sent_mark_) return Poll::pending;
    sent_mark_ = stream_.bytes_sent();
    reactor_.arm(timer_, settings_.body_timeout);
    return Poll::pending;
  }
  timer_.disarm();
  return flushed == Io::ok ? Poll::ready : Poll::failed;
}

void Http1Client::cancel(ErrorKind kind, const char* text) {
  // What a tunnel carries has no end of its own: one that is cut must not look complete.
  if (tunnel_) stream_.abort();
  stream_.fail(kind, text);
}

// --- responses

Poll Http1Client::poll_head() {
  if (failure_ != nullptr) return Poll::failed;
  if (reused_ && !response_begun_ && stream_.readable && reactor_.batch() == sent_in_batch_) {
    // A FIN, or bytes that were there before the request: they answer another one, or none.
    return broken(ErrorKind::closed, "the idle connection had ended, or said something unasked");
  }
  for (;;) {
    const auto bytes = stream_.unread();
    if (!bytes.empty()) {
      response_begun_ = true;
      const std::string_view text(bytes.data(), bytes.size());
      if (!response_) response_ = base::Recycled<ResponseHead>::take();
      if (!scanner_.begun()) {
        const size_t length =
            parse_whole_response(text, settings_.head, method_, *response_, upgrade_asked_);
        if (length > 0) return begin_response(length);
      }
      const auto status = scanner_.scan(text, settings_.head);
      if (status == HeadScanner::Status::complete) return take_head(scanner_.length());
      if (status == HeadScanner::Status::refused) {
        return broken(ErrorKind::protocol, scanner_.refusal().reason);
      }
    }
    const Io got = stream_.fill();
    if (got == Io::ok) continue;
    if (got == Io::again) return Poll::pending;
    if (got == Io::eof) {
      return broken(ErrorKind::closed, "the origin closed the connection without a response");
    }
    return broken(stream_.error_kind(), stream_.error_text());
  }
}

void Http1Client::park_head(base::Parked& operation) {
  head_awaited_ = true;
  watch_answer();
  stream_.reading.park(operation);
}

Poll Http1Client::take_head(size_t length) {
  scanner_.reset();
  const std::string_view bytes(stream_.unread().data(), length);
  const auto refused = parse_response(bytes, settings_.head, method_, *response_, upgrade_asked_);
  return refused ? broken(ErrorKind::protocol, refused->reason) : begin_response(length);
}

Poll Http1Client::begin_response(size_t length) {
  timer_.disarm();
  head_awaited_ = false;
  head_view_ = {stream_.unread().data(), length};
  stream_.consume(length);
  if (response_->status < 200) {
    expects_ = false;
    if (response_->status == 101) return begin_tunnel();
    if (++interim_responses_ > interim_responses_max) {
      return broken(ErrorKind::limit, "the origin sent too many interim responses");
    }
    return Poll::ready;
  }
  keep_alive_ = response_->keep_alive;
  for (const Field& field : response_->fields) {
    if (field.id != FieldId::keep_alive) continue;
    // A second less than it says: its FIN must not cross the next request.
    const auto limit = keep_alive_timeout(field.value);
    if (limit) idle_limit_ = std::min(settings_.idle_timeout, *limit - std::chrono::seconds(1));
  }
  body_remaining_ = response_->content_length;
  switch (response_->framing) {
    case Framing::none:
      complete(true);
      break;
    case Framing::length:
      if (body_remaining_ == 0) complete(true);
      break;
    case Framing::chunked:
      chunks_ = base::Recycled<ChunkDecoder>::take();
      break;
    case Framing::until_close:
      keep_alive_ = false;
      break;
  }
  return Poll::ready;
}

// RFC 6455 section 4.1: the origin has understood what it was asked, or there is no tunnel.
Poll Http1Client::begin_tunnel() {
  if (const char* wrong = check_switch(*response_, accept_)) {
    return broken(ErrorKind::protocol, wrong);
  }
  tunnel_ = true;
  keep_alive_ = false;
  request_framing_ = Framing::none;
  response_->framing = Framing::until_close;
  return Poll::ready;
}

Poll Http1Client::poll_body() {
  if (failure_ != nullptr) return Poll::failed;
  chunk_ = BodyChunk{};
  if (response_complete_) {
    chunk_.last = true;
    return Poll::ready;
  }
  for (;;) {
    const auto bytes = stream_.unread();
    if (!bytes.empty()) {
      const Poll taken =
          response_->framing == Framing::chunked ? take_chunked(bytes) : take_body(bytes);
      if (taken != Poll::pending) {
        if (!tunnel_) timer_.disarm();
        return taken;
      }
    }
    keep_head();
    const Io got = stream_.fill();
    if (got == Io::ok) continue;
    if (got == Io::again) return Poll::pending;
    if (got == Io::eof && response_->framing == Framing::until_close) {
      if (!tunnel_) timer_.disarm();
      complete(false);
      chunk_.last = true;
      return Poll::ready;
    }
    if (got == Io::eof) {
      return broken(ErrorKind::closed, "the origin closed in the middle of the body");
    }
    return broken(stream_.error_kind(), stream_.error_text());
  }
}

// The body's first bytes are looked for before the head is passed on: reading them must not write
// over it.
void Http1Client::keep_head() {
  if (head_view_.empty() || !stream_.readable) return;
  head_bytes_ = base::Block::take(head_view_.size());
  std::memcpy(head_bytes_.data(), head_view_.data(), head_view_.size());
  response_->move(head_view_, head_bytes_.data());
  head_view_ = {};
}

void Http1Client::park_body(base::Parked& operation) {
  head_view_ = {};
  if (!tunnel_) reactor_.arm(timer_, settings_.body_timeout);
  stream_.reading.park(operation);
}

Poll Http1Client::take_body(std::span<char> bytes) {
  size_t count = bytes.size();
  if (response_->framing == Framing::length) {
    count = static_cast<size_t>(std::min<uint64_t>(count, body_remaining_));
    body_remaining_ -= count;
  }
  stream_.consume(count);
  chunk_.bytes = {bytes.data(), count};
  if (response_->framing == Framing::length && body_remaining_ == 0) complete(true);
  chunk_.last = response_complete_;
  return Poll::ready;
}

Poll Http1Client::take_chunked(std::span<char> bytes) {
  const auto step = chunks_->decode(bytes.data(), bytes.size());
  if (step.status == ChunkDecoder::Status::refused) {
    return broken(ErrorKind::protocol, chunks_->refusal().reason);
  }
  stream_.consume(step.consumed);
  chunk_.bytes = {bytes.data(), step.produced};
  if (step.status == ChunkDecoder::Status::complete) {
    complete(true);
    chunk_.last = true;
    if (!chunks_->trailers().empty()) chunk_.trailers = &chunks_->trailers();
  }
  return chunk_.last || step.produced > 0 ? Poll::ready : Poll::pending;
}

void Http1Client::complete(bool last_byte_known) {
  response_complete_ = true;
  // More than was announced: whatever it is, it answers no request of ours.
  if (!last_byte_known || !stream_.unread().empty()) keep_alive_ = false;
}

Poll Http1Client::broken(ErrorKind kind, const char* text) {
  timer_.disarm();
  head_awaited_ = false;
  failure_ = text;
  failure_kind_ = kind;
  keep_alive_ = false;
  return Poll::failed;
}

// --- rest

ClientStream* Http1Client::begin(const Settings& settings) {
  ASSERT(state_ == State::resting);
  settings_ = settings;
  state_ = State::busy;
  timer_.disarm();
  stream_.observe(nullptr);
  if (!std::exchange(used_, true)) return this;
  reused_ = true;
  // Readable means a FIN, or bytes that answer nothing; or that the last read came out even.
  if (!stream_.failed() && !stream_.hung_up && stream_.fill() == Io::again) return this;
  state_ = State::ended;
  return nullptr;
}

void Http1Client::end(ClientStream&) {
  if (!reusable()) {
    state_ = State::ended;
    return;
  }
  state_ = State::resting;
  response_.reset();
  head_view_ = {};
  head_bytes_.release();
  chunks_.reset();
  stream_.observe(this);
  reactor_.arm(timer_, idle_limit_);
}

bool Http1Client::reusable() const {
  return keep_alive_ && request_ended_ && response_complete_ && failure_ == nullptr &&
         !stream_.failed() && !stream_.pending() && stream_.unread_size() == 0 &&
         !stream_.hung_up && idle_limit_.count() > 0;
}

void Http1Client::end_rest() {
  state_ = State::ended;
  changed();
}

void Http1Client::on_hang_up() {
  if (state_ == State::resting) end_rest();
}

void Http1Client::on_deadline() {
  if (state_ == State::resting) return end_rest();
  stream_.fail(ErrorKind::timeout, head_awaited_ ? "no response in time" : "the origin stalled");
}

base::Error Http1Client::error() const {
  if (failure_ == nullptr) return stream_.error();
  // An origin that is silent is there, and may be at work on the request.
  const bool gone = failure_kind_ == ErrorKind::closed || failure_kind_ == ErrorKind::reset;
  const bool stale = reused_ && !response_begun_ && gone;
  return base::Error(failure_kind_, base::Side::upstream,
                     stale ? base::Retry::if_reused : base::Retry::never, failure_);
}

}  // namespace gatehouse::http
