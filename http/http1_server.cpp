#include "http/http1_server.hpp"

#include <array>
#include <cstring>
#include <limits>

#include "http/head_scratch.hpp"

namespace gatehouse::http {

using base::ErrorKind;
using tls::Io;

Http1Server::ReadTimer::ReadTimer(Http1Server& s)
    : Timer([](Timer& self) { static_cast<ReadTimer&>(self).server.on_read_timeout(); }),
      server(s) {}

Http1Server::WriteTimer::WriteTimer(Http1Server& s)
    : Timer([](Timer& self) {
        static_cast<WriteTimer&>(self).server.stream_.fail(ErrorKind::timeout,
                                                           "the client reads too slowly");
      }),
      server(s) {}

Http1Server::Http1Server(tls::Stream& stream, base::Reactor& reactor, const Settings& settings)
    : stream_(stream),
      reactor_(reactor),
      settings_(settings),
      read_timer_(*this),
      write_timer_(*this) {
  stream_.observe(this);
}

Http1Server::~Http1Server() {
  stream_.observe(nullptr);
}

// --- requests

Poll Http1Server::poll_request() {
  if (refusal_) return Poll::failed;
  for (;;) {
    const auto bytes = stream_.unread();
    if (!bytes.empty()) {
      const std::string_view text(bytes.data(), bytes.size());
      if (!head_begun_) {
        request_ = base::Recycled<RequestHead>::take();
        const size_t length = parse_whole_request(text, settings_.head, *request_);
        if (length > 0) return take_parsed(length);
      }
      const auto status = scanner_.scan(text, settings_.head);
      if (status == HeadScanner::Status::complete) return take_head(scanner_.length());
      if (status == HeadScanner::Status::refused) return refuse(scanner_.refusal());
      if (!head_begun_) {
        head_begun_ = true;
        reactor_.arm(read_timer_, settings_.header_timeout);
      }
    }
    const Io got = stream_.fill();
    if (got == Io::ok) continue;
    if (got == Io::again) return Poll::pending;
    read_timer_.disarm();
    waiting_ = Waiting::nothing;
    return Poll::failed;
  }
}

void Http1Server::park_request(base::Parked& operation) {
  waiting_ = Waiting::request;
  if (!head_begun_) {
    reactor_.arm(read_timer_, first_request_ ? settings_.header_timeout : settings_.idle_timeout);
  }
  stream_.reading.park(operation);
}

// The head moves to memory of its own: the window it came in is everybody's, and the exchange
// needs the fields until the end, for retries and the log.
std::string_view Http1Server::keep_head(size_t length) {
  read_timer_.disarm();
  waiting_ = Waiting::nothing;
  first_request_ = false;
  fin_with_request_ = stream_.hung_up;
  head_bytes_ = base::Block::take(length);
  std::memcpy(head_bytes_.data(), stream_.unread().data(), length);
  stream_.consume(length);
  return {head_bytes_.data(), length};
}

Poll Http1Server::take_parsed(size_t length) {
  const std::string_view received(stream_.unread().data(), length);
  const std::string_view kept = keep_head(length);
  request_->move(received, kept.data());
  return begin_exchange();
}

Poll Http1Server::take_head(size_t length) {
  const auto refused = parse_request(keep_head(length), settings_.head, *request_);
  return refused ? refuse(*refused) : begin_exchange();
}

Poll Http1Server::begin_exchange() {
  body_remaining_ = request_->content_length;
  request_complete_ = request_->framing == Framing::none ||
                      (request_->framing == Framing::length && body_remaining_ == 0);
  if (request_->framing == Framing::chunked) chunks_ = base::Recycled<ChunkDecoder>::take();
  pace_.begin(settings_.body_timeout, settings_.body_bytes_a_second);
  keep_alive_ = request_->keep_alive;
  return Poll::ready;
}

Poll Http1Server::refuse(Refusal refusal) {
  read_timer_.disarm();
  waiting_ = Waiting::nothing;
  refusal_ = refusal;
  closing_ = true;
  keep_alive_ = false;
  request_complete_ = true;
  // The error page needs a request to answer, even if this one made no sense.
  if (!request_) request_ = base::Recycled<RequestHead>::take();
  return Poll::failed;
}

bool Http1Server::finish_request() {
  const bool reusable = keep_alive_ && !closing_ && response_ended_ && request_complete_ &&
                        !stream_.failed() && stream_.is_open();
  watcher_ = nullptr;
  request_.reset();
  chunks_.reset();
  head_bytes_.release();
  scanner_.reset();
  refusal_.reset();
  chunk_ = BodyChunk{};
  body_bytes_ = 0;
  body_failure_ = nullptr;
  head_begun_ = false;
  answered_ = false;
  response_ended_ = false;
  response_framing_ = Framing::none;
  read_timer_.disarm();
  write_timer_.disarm();
  return reusable;
}

void Http1Server::on_read_timeout() {
  if (waiting_ == Waiting::request && head_begun_) {
    refuse({408, "the request's head did not come in time"});
    stream_.reading.poll();
  } else if (waiting_ == Waiting::body) {
    body_late();
    stream_.reading.poll();
  } else {
    stream_.fail(ErrorKind::timeout, "idle for too long");
  }
}

void Http1Server::on_hang_up() {
  // A FIN that came with the request is a client that has said all it wants to say, not one that
  // has gone: it gets its answer. One in the middle of a body is seen by whoever reads that.
  if (fin_with_request_ || !request_complete_) return;
  give_up();
}

void Http1Server::give_up() {
  if (watcher_ != nullptr) std::exchange(watcher_, nullptr)->on_client_gone();
}

// --- request bodies

Poll Http1Server::body_late() {
  return body_failed(ErrorKind::timeout, "the request's body did not come in time");
}

Poll Http1Server::poll_body() {
  if (body_failure_ != nullptr) return Poll::failed;
  waiting_ = Waiting::nothing;
  chunk_ = BodyChunk{};
  if (request_complete_) {
    chunk_.last = true;
    return Poll::ready;
  }
  for (;;) {
    const auto bytes = stream_.unread();
    if (!bytes.empty()) {
      const Poll taken =
          request_->framing == Framing::chunked ? take_chunked(bytes) : take_body(bytes);
      if (taken != Poll::pending) {
        read_timer_.disarm();
        const bool in_time = pace_.received(chunk_.bytes.size(), reactor_.now());
        return in_time || answered_ || chunk_.last ? taken : body_late();
      }
    }
    const Io got = stream_.fill();
    if (got == Io::ok) continue;
    if (got == Io::again) return Poll::pending;
    if (got == Io::eof && tunnel_) return end_of_tunnel();
    if (got == Io::eof) {
      return body_failed(ErrorKind::closed, "the client closed in the middle of the body");
    }
    return body_failed(stream_.error_kind(), "the connection broke in the middle of the body");
  }
}

void Http1Server::park_body(base::Parked& operation) {
  waiting_ = Waiting::body;
  if (!answered_) reactor_.arm(read_timer_, pace_.wait(reactor_.now()));
  stream_.reading.park(operation);
}

// The client has said all that it wants to say, and still listens.
Poll Http1Server::end_of_tunnel() {
  chunk_.last = request_complete_ = fin_with_request_ = true;
  return Poll::ready;
}

Poll Http1Server::take_body(std::span<char> bytes) {
  const size_t count = static_cast<size_t>(std::min<uint64_t>(bytes.size(), body_remaining_));
  body_remaining_ -= count;
  body_bytes_ += count;
  chunk_.bytes = {bytes.data(), count};
  chunk_.last = request_complete_ = body_remaining_ == 0;
  fin_with_request_ = request_complete_ && stream_.hung_up;
  stream_.consume(count);
  return Poll::ready;
}

Poll Http1Server::take_chunked(std::span<char> bytes) {
  const auto step = chunks_->decode(bytes.data(), bytes.size());
  if (step.status == ChunkDecoder::Status::refused) {
    return body_failed(ErrorKind::protocol, chunks_->refusal().reason);
  }
  stream_.consume(step.consumed);
  body_bytes_ += step.produced;
  if (settings_.body_bytes_max != 0 && body_bytes_ > settings_.body_bytes_max) {
    return body_failed(ErrorKind::limit, "the body is larger than limits.request_body");
  }
  chunk_.bytes = {bytes.data(), step.produced};
  if (step.status == ChunkDecoder::Status::complete) {
    chunk_.last = request_complete_ = true;
    fin_with_request_ = stream_.hung_up;
    if (!chunks_->trailers().empty()) chunk_.trailers = &chunks_->trailers();
  }
  return chunk_.last || step.produced > 0 ? Poll::ready : Poll::pending;
}

void Http1Server::stop_reading() {
  if (request_complete_ || body_failure_ != nullptr) return;
  body_failed(ErrorKind::cancelled, "the rest of the body is not wanted");
  stream_.reading.poll();
}

Poll Http1Server::body_failed(ErrorKind kind, const char* text) {
  body_failure_ = text;
  body_failure_kind_ = kind;
  waiting_ = Waiting::nothing;
  read_timer_.disarm();
  keep_alive_ = false;
  return Poll::failed;
}

// --- responses

void Http1Server::write_interim(const ResponseHead& head) {
  if (request_->version == Version::http10) return;  // it would take it for the answer
  HeadBuffer out = head_scratch();
  write_response_head(head, Framing::none, Persistence::keep_alive, out);
  const std::string_view bytes(out.data, out.size);
  stream_.write({&bytes, 1});
}

void Http1Server::write_head(const ResponseHead& head, const BodyChunk& first) {
  answered_ = true;
  if (waiting_ == Waiting::body) read_timer_.disarm();
  if (head.status == 101) return begin_tunnel(head, first);
  const bool old = request_->version == Version::http10;
  response_framing_ = head.framing;
  if (response_framing_ == Framing::until_close) response_framing_ = Framing::chunked;
  if (response_framing_ == Framing::chunked && old) response_framing_ = Framing::until_close;
  if (!request_complete_ || closing_ || response_framing_ == Framing::until_close) {
    keep_alive_ = false;
  }
  // What follows a handshake that was not granted is no request: it was meant for the tunnel.
  if (!request_->protocol.empty() && (stream_.unread_size() > 0 || stream_.readable)) {
    keep_alive_ = false;
  }
  const Persistence persistence = !keep_alive_ ? Persistence::close
                                  : old        ? Persistence::keep_alive_explicit
                                               : Persistence::keep_alive;
  HeadBuffer out = head_scratch();
  write_response_head(head, response_framing_, persistence, out);
  if (out.overflow) {
    stream_.fail(ErrorKind::limit, "the response's head is too large");
    return;
  }
  write_pieces({out.data, out.size}, first);
}

// From here on what the client sends is the request's body, beginning with what came behind its
// head, and what it is sent is the response's, as they come.
void Http1Server::begin_tunnel(const ResponseHead& head, const BodyChunk& first) {
  ASSERT(!request_->protocol.empty());
  tunnel_ = true;
  keep_alive_ = false;
  request_complete_ = false;
  body_remaining_ = std::numeric_limits<uint64_t>::max();
  response_framing_ = Framing::until_close;
  HeadBuffer out = head_scratch();
  write_response_head(head, Framing::none, Persistence::tunnel, out);
  if (out.overflow) {
    stream_.fail(ErrorKind::limit, "the response's head is too large");
    return;
  }
  write_pieces({out.data, out.size}, first);
}

void Http1Server::write_body(const BodyChunk& chunk) {
  write_pieces({}, chunk);
}

void Http1Server::write_pieces(std::string_view head, const BodyChunk& chunk) {
  response_ended_ = chunk.last;
  std::array<char, 20> size_line;
  std::array<char, 16 * 1024> last_chunk;
  std::array<std::string_view, 5> pieces;
  size_t count = 0;
  if (!head.empty()) pieces[count++] = head;
  if (response_framing_ == Framing::chunked) {
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
  } else if (response_framing_ != Framing::none && !chunk.bytes.empty()) {
    pieces[count++] = chunk.bytes;
  }
  if (count > 0) stream_.write({pieces.data(), count});
  if (tunnel_ && chunk.last) stream_.shutdown_write();
}

Poll Http1Server::poll_drained() {
  const Io flushed = stream_.flush();
  if (flushed == Io::failed) return Poll::failed;
  if (flushed == Io::ok) {
    write_timer_.disarm();
    return Poll::ready;
  }
  if (stream_.bytes_sent() - sent_mark_ >= write_progress_bytes_min) {
    sent_mark_ = stream_.bytes_sent();
    reactor_.arm(write_timer_, settings_.body_timeout);
  }
  return Poll::pending;
}

void Http1Server::park_drained(base::Parked& operation) {
  sent_mark_ = stream_.bytes_sent();
  reactor_.arm(write_timer_, settings_.body_timeout);
  stream_.writing.park(operation);
}

void Http1Server::abort() {
  keep_alive_ = false;
  tls::Stream& stream = stream_;  // which outlives what is resumed here
  stream.abort();
  stream.writing.poll();
  stream.reading.poll();
}

base::Error Http1Server::error() const {
  if (body_failure_ == nullptr) return stream_.error();
  return base::Error(body_failure_kind_, base::Side::downstream, base::Retry::never, body_failure_);
}

}  // namespace gatehouse::http
