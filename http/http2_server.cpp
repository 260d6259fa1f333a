#include "http/http2_server.hpp"

#include <array>

namespace gatehouse::http {

using base::ErrorKind;
using base::Metric;

// --- one request

Http2ServerStream::ReadTimer::ReadTimer(Http2ServerStream& s)
    : Timer([](Timer& self) {
        auto& late = static_cast<ReadTimer&>(self).stream;
        late.body_late();
        late.receiving_.poll();
      }),
      stream(s) {}

Http2ServerStream::WriteTimer::WriteTimer(Http2ServerStream& s)
    : Timer([](Timer& self) { static_cast<WriteTimer&>(self).stream.on_write_timeout(); }),
      stream(s) {}

Http2ServerStream::Http2ServerStream(Http2Server& server, int32_t id)
    : Http2Stream(server, id), server_(server), read_timer_(*this), write_timer_(*this) {}

Http2ServerStream::~Http2ServerStream() = default;

void Http2ServerStream::on_section(FieldSection& section, bool last) {
  if (!request_) {
    take_head(section, last);
  } else if (section.too_large) {
    body_failed(ErrorKind::limit, "the trailers are too large");
  } else {
    take_trailers(section);
  }
  session_.touch(*this);
}

void Http2ServerStream::take_head(FieldSection& section, bool last) {
  request_ = base::Recycled<RequestHead>::take();
  RequestHead& head = *request_;
  head_bytes_ = std::move(section.bytes);
  std::swap(head.fields, section.fields);
  head.version = Version::http2;
  pace_.begin(server_.settings().body_timeout, server_.settings().body_bytes_a_second);
  head.method_text = section.method;
  head.target = section.path;
  head.scheme = section.scheme;
  head.authority = section.authority;
  head.protocol = section.protocol;
  request_complete_ = last || !head.protocol.empty();  // a tunnel's bytes come once it is granted
  if (section.too_large) {
    refusal_ = Refusal{431, "the head is too large"};
    return;
  }
  refusal_ = check_http2_request(head, last);
  if (head.framing == Framing::length && head.content_length == 0) {
    // Nothing can come but END_STREAM, and nobody needs to wait for that.
    head.framing = Framing::none;
    request_complete_ = end_alone_ = true;
  }
  if (!refusal_ && !server_.handler_.serves(head.host)) {
    refusal_ = Refusal{421, "the host is not one of this connection's certificate"};
  }
}

void Http2ServerStream::on_progress() {
  if (!begun_) return begin();
  if (closed() && !out_framed_ && watcher_ != nullptr)
    std::exchange(watcher_, nullptr)->on_client_gone();
  Http2Stream::on_progress();
}

void Http2ServerStream::begin() {
  if (closed()) return retire();  // nobody has heard of it
  if (!request_) return;
  // Exchanges of streams that the client has reset may take a moment to end: they count.
  if (server_.working_ >= server_.session_settings().streams_max) {
    session_.metrics().add(Metric::http2_streams_refused);
    reset(Http2Error::refused_stream);
    return retire();
  }
  begun_ = true;
  if (refusal_ && refusal_->status == 0) {
    reset(Http2Error::protocol_error);
    session_.spend_reset();
    session_.metrics().add(Metric::requests_refused);
    return retire();
  }
  ++server_.working_;
  server_.served_ = true;
  server_.handler_.on_request(*this);
}

void Http2ServerStream::on_retired() {
  read_timer_.disarm();
  write_timer_.disarm();
}

Poll Http2ServerStream::poll_body() {
  if (body_failure_ != nullptr) return Poll::failed;
  const Poll got = poll_received(chunk_);
  if (got == Poll::failed && !failed()) {
    return body_failed(ErrorKind::cancelled, "the client reset the stream");
  }
  if (got != Poll::ready) return got;
  read_timer_.disarm();
  const bool in_time = pace_.received(chunk_.bytes.size(), session_.reactor().now());
  if (!in_time && !answered_ && !chunk_.last) return body_late();
  body_bytes_ += chunk_.bytes.size();
  const uint64_t most = server_.settings().body_bytes_max;
  if (most != 0 && body_bytes_ > most && !tunnel_) {
    return body_failed(ErrorKind::limit, "the body is larger than limits.request_body");
  }
  request_complete_ = chunk_.last;
  return Poll::ready;
}

void Http2ServerStream::park_body(base::Parked& operation) {
  base::Reactor& reactor = session_.reactor();
  if (!answered_) reactor.arm(read_timer_, pace_.wait(reactor.now()));
  receiving_.park(operation);
}

void Http2ServerStream::stop_reading() {
  if (request_complete_ || body_failure_ != nullptr) return;
  body_failed(ErrorKind::cancelled, "the rest of the body is not wanted");
  receiving_.poll();
}

Poll Http2ServerStream::body_late() {
  return body_failed(ErrorKind::timeout, "the request's body did not come in time");
}

Poll Http2ServerStream::body_failed(ErrorKind kind, const char* text) {
  body_failure_ = text;
  body_failure_kind_ = kind;
  read_timer_.disarm();
  ignore_rest();
  return Poll::failed;
}

void Http2ServerStream::write_interim(const ResponseHead& head) {
  if (closed() || failed()) return;
  const std::array<char, 3> status = status_text(head.status);
  FieldList& list = FieldList::begin();
  list.add_known(":status", {status.data(), status.size()});
  list.add(head.fields);
  session_.inform(*this, list);
}

void Http2ServerStream::write_head(const ResponseHead& head, const BodyChunk& first) {
  answered_ = true;
  read_timer_.disarm();
  if (closed() || failed()) return;
  if (head.status == 101) return begin_tunnel(head, first);
  const std::array<char, 3> status = status_text(head.status);
  FieldList& list = FieldList::begin();
  list.add_known(":status", {status.data(), status.size()});
  list.add(head.fields);
  const bool body = !first.last || !first.bytes.empty() || first.trailers != nullptr;
  session_.respond(*this, list, body);
  if (body) {
    write(first);
  } else {
    out_ended_ = true;
  }
}

// RFC 8441 section 5: a success takes the place of 101, and of its proof that the key was read.
void Http2ServerStream::begin_tunnel(const ResponseHead& head, const BodyChunk& first) {
  tunnel_ = true;
  request_complete_ = false;
  FieldList& list = FieldList::begin();
  list.add_known(":status", "200");
  for (const Field& field : head.fields) {
    const bool proof = equal_ignoring_case(field.name, "sec-websocket-accept");
    if (!field.skip && !proof) list.add(field.name, field.value);
  }
  session_.respond(*this, list, true);
  write(first);
}

Poll Http2ServerStream::poll_drained() {
  const Poll written = poll_written();
  if (written != Poll::pending) write_timer_.disarm();
  return written;
}

void Http2ServerStream::await_progress() {
  sent_mark_ = bytes_sent_;
  session_.reactor().arm(write_timer_, server_.settings().body_timeout);
}

void Http2ServerStream::on_write_timeout() {
  if (bytes_sent_ - sent_mark_ >= Http2Session::write_progress_bytes_min) return await_progress();
  session_.metrics().add(Metric::http2_stalls);
  fail(ErrorKind::timeout, "the client reads too slowly");
}

void Http2ServerStream::park_drained(base::Parked& operation) {
  await_progress();
  sending_.park(operation);
}

void Http2ServerStream::abort() {
  reset(Http2Error::internal_error);
  fail(ErrorKind::cancelled, "the stream was reset");
  Http2Stream::on_progress();
}

base::Error Http2ServerStream::error() const {
  using base::Retry;
  using base::Side;
  if (body_failure_ != nullptr) {
    return {body_failure_kind_, Side::downstream, Retry::never, body_failure_};
  }
  if (failed()) return {failure_kind_, Side::downstream, Retry::never, failure_};
  return {ErrorKind::cancelled, Side::downstream, Retry::never, "the client reset the stream"};
}

// --- all of a connection's

Http2Server::IdleTimer::IdleTimer(Http2Server& s)
    : Timer([](Timer& self) { static_cast<IdleTimer&>(self).server.on_idle_timeout(); }),
      server(s) {}

Http2Server::Http2Server(tls::Stream& stream, base::Reactor& reactor, base::MetricShard& metrics,
                         const Settings& settings, Handler& handler)
    : Http2Session(Role::server, stream, reactor, metrics, settings.session),
      handler_(handler),
      settings_(settings),
      idle_timer_(*this) {
  reactor.arm(idle_timer_, settings.session.header_timeout);
}

Http2Stream* Http2Server::on_open(int32_t id) {
  if (streams() >= 2 * session_settings().streams_max) return nullptr;
  return new Http2ServerStream(*this, id);
}

void Http2Server::finish(Http2ServerStream& stream) {
  --working_;
  if (!stream.closed()) {
    if (!stream.out_framed_) {
      stream.reset(Http2Error::internal_error);
    } else if (!stream.received_all() && !stream.end_alone_) {
      stream.reset(Http2Error::no_error);  // RFC 9113 section 8.1
    }
  }
  stream.retire();
}

void Http2Server::on_idle() {
  if (streams() > 0) {
    idle_timer_.disarm();
  } else if (!ended()) {
    resting_ = false;
    reactor_.arm(idle_timer_, std::min<config::Duration>(rest_delay, settings_.idle_timeout));
    flush_later();
  }
}

void Http2Server::on_idle_timeout() {
  const config::Duration idle = settings_.idle_timeout - rest_delay;
  if (served_ && !draining_ && idle.count() > 0 && !std::exchange(resting_, true)) {
    rest();
    reactor_.arm(idle_timer_, idle);
    return;
  }
  if (std::exchange(goaway_sent_, true)) {
    stream_.fail(ErrorKind::timeout, "idle for too long");
    return;
  }
  if (!served_) metrics().add(Metric::downstream_timeouts);
  // No stream is open: the session ends when this has left.
  goaway();
  reactor_.arm(idle_timer_, goaway_delay);
}

void Http2Server::drain() {
  if (ended() || std::exchange(draining_, true)) return;
  shutdown_notice();
  // When its answer is back, everything that the client sent before it heard of the end has come.
  ping();
  if (unused()) reactor_.arm(idle_timer_, goaway_delay);
}

void Http2Server::on_pong() {
  if (draining_ && !std::exchange(goaway_sent_, true)) goaway();
}

void Http2Server::break_off() {
  stream_.fail(ErrorKind::cancelled, "the time to drain is over");
}

void Http2Server::change(const Settings& settings) {
  settings_ = settings;
  Http2Session::change(settings.session);
}

void Http2Server::on_ended() {
  idle_timer_.disarm();
  handler_.on_session_ended();
}

}  // namespace gatehouse::http
