#include "http/http2_client.hpp"

#include <charconv>

#include "http/http1_writer.hpp"
#include "http/rules.hpp"

namespace gatehouse::http {

using base::ErrorKind;

// --- one request

Http2ClientStream::DeadlineTimer::DeadlineTimer(Http2ClientStream& s)
    : Timer([](Timer& self) { static_cast<DeadlineTimer&>(self).stream.on_deadline(); }),
      stream(s) {}

Http2ClientStream::Http2ClientStream(Http2Client& client, bool reused)
    : Http2Stream(client, 0), client_(client), timer_(*this), reused_(reused) {}

Http2ClientStream::~Http2ClientStream() = default;

void Http2ClientStream::write_head(const RequestHead& head, std::string_view host,
                                   const BodyChunk& first) {
  method_ = head.method;
  expects_ = head.expect_continue;
  FieldList& list = FieldList::begin();
  list.add_known(":method", head.method_text);
  list.add_known(":scheme", client_.stream().encrypted() ? "https" : "http");
  list.add_known(":authority", host);
  list.add_known(":path", head.target);
  list.add(head.fields);
  if (head.accepts_trailers) list.add_known("te", "trailers");
  const bool body = !first.last || !first.bytes.empty() || first.trailers != nullptr;
  if (!session_.request(*this, list, body)) {
    return fail(ErrorKind::closed, "the HTTP/2 connection takes no further request");
  }
  if (body) {
    write(first);
  } else {
    out_ended_ = true;
  }
}

void Http2ClientStream::write_body(const BodyChunk& chunk) {
  expects_ = false;
  write(chunk);
  watch_answer();
}

/// As over HTTP/1.1: the origin's time runs when it is the origin's turn.
void Http2ClientStream::watch_answer() {
  if (!head_awaited_) return;
  if (out_ended_ || expects_ || poll_written() == Poll::pending) {
    session_.reactor().arm(timer_, client_.ClientConnection::settings_.response_timeout);
  } else {
    timer_.disarm();
  }
}

Poll Http2ClientStream::poll_drained() {
  const Poll written = poll_written();
  if (written == Poll::ready) watch_answer();
  return written;
}

void Http2ClientStream::on_section(FieldSection& section, bool) {
  begun_ = true;
  if (!final_head_come_) {
    take_head(section);
  } else if (section.too_large) {
    broken(ErrorKind::protocol, "the trailers are too long");
  } else {
    take_trailers(section);
  }
  session_.touch(*this);
}

void Http2ClientStream::take_head(FieldSection& section) {
  if (section.too_large) return broken(ErrorKind::protocol, "the head is too long");
  Head made{base::Recycled<ResponseHead>::take(), std::move(section.bytes)};
  ResponseHead& head = *made.head;
  std::swap(head.fields, section.fields);
  head.version = Version::http2;
  std::from_chars(section.status.data(), section.status.data() + section.status.size(),
                  head.status);
  if (const auto refused = check_http2_response(head, method_)) {
    return broken(ErrorKind::protocol, refused->reason);
  }
  head.reason = reason_phrase(head.status);
  if (head.status >= 200) {
    final_head_come_ = true;
  } else if (++interim_responses_ > ClientConnection::interim_responses_max) {
    return broken(ErrorKind::limit, "the origin sent too many interim responses");
  }
  heads_.push_back(std::move(made));
}

Poll Http2ClientStream::poll_head() {
  if (failed()) return Poll::failed;
  if (heads_.empty()) return closed() ? Poll::failed : Poll::pending;
  timer_.disarm();
  head_awaited_ = false;
  response_ = std::move(heads_.front());
  heads_.erase(heads_.begin());
  expects_ = false;
  if (response_.head->status >= 200) response_complete_ = drained_input();
  return Poll::ready;
}

void Http2ClientStream::park_head(base::Parked& operation) {
  head_awaited_ = true;
  watch_answer();
  receiving_.park(operation);
}

Poll Http2ClientStream::poll_body() {
  const Poll got = poll_received(chunk_);
  if (got == Poll::pending) return got;
  timer_.disarm();
  if (got == Poll::ready) response_complete_ = chunk_.last;
  return got;
}

void Http2ClientStream::park_body(base::Parked& operation) {
  session_.reactor().arm(timer_, client_.ClientConnection::settings_.body_timeout);
  receiving_.park(operation);
}

void Http2ClientStream::on_deadline() {
  cancel(ErrorKind::timeout, head_awaited_ ? "no response in time" : "the origin stalled");
}

void Http2ClientStream::cancel(ErrorKind kind, const char* text) {
  broken(kind, text);
  on_progress();
}

void Http2ClientStream::broken(ErrorKind kind, const char* text) {
  timer_.disarm();
  fail(kind, text);
  reset(Http2Error::cancel);
}

base::Error Http2ClientStream::error() const {
  using base::Retry;
  using base::Side;
  if (failed()) {
    const bool unsent = client_.unanswered_ || id_ == 0;
    const bool closed = failure_kind_ == ErrorKind::closed || failure_kind_ == ErrorKind::reset;
    // As over HTTP/1.1: the idle connection ended, and nothing more was heard on it.
    const bool stale = closed && client_.resumed_ && !client_.heard_;
    const Retry retry = unsent || stale ? Retry::if_reused : Retry::never;
    return {failure_kind_, Side::upstream, retry, failure_};
  }
  if (close_code_ == static_cast<uint32_t>(Http2Error::refused_stream)) {
    return {ErrorKind::unavailable, Side::upstream, Retry::always, "the origin refused the stream"};
  }
  return {ErrorKind::reset, Side::upstream, Retry::never, "the origin reset the stream"};
}

// --- all of a connection's

Http2Client::IdleTimer::IdleTimer(Http2Client& c)
    : Timer([](Timer& self) { static_cast<IdleTimer&>(self).client.on_deadline(); }), client(c) {}

Http2Session::Settings Http2Client::session_settings(const Settings& settings) {
  Http2Session::Settings made;
  made.head = settings.head;
  made.streams_max = 0;  // an origin opens none: push is off
  made.header_timeout = settings.response_timeout;
  made.stall_timeout = settings.body_timeout;
  return made;
}

Http2Client::Http2Client(base::Reactor& reactor, base::MetricShard& metrics,
                         const Settings& settings)
    : ClientConnection(reactor, settings),
      Http2Session(Role::client, ClientConnection::stream_, reactor, metrics,
                   session_settings(settings)),
      idle_timer_(*this),
      idle_since_(reactor.now()) {
  reactor.arm(idle_timer_, settings.idle_timeout);
}

Http2Client::~Http2Client() {
  Http2Session::reactor().forget(greeting_);
}

base::Task<bool> Http2Client::greet() {
  start();
  co_await greeting_.over;
  co_return heard_settings_;
}

ClientStream* Http2Client::begin(const Settings& settings) {
  ClientConnection::settings_ = settings;
  change(session_settings(settings));
  if (!available()) return nullptr;
  const bool first = !std::exchange(used_, true);
  if (!first && idle()) {
    resumed_ = true;
    heard_ = false;
  }
  if (!first && idle() && Http2Session::reactor().now() - idle_since_ >= ping_after) {
    ping();
    flush();
    hold();
    unanswered_ = true;
    Http2Session::reactor().arm(idle_timer_, ping_timeout);
  }
  return new Http2ClientStream(*this, !first);
}

void Http2Client::end(ClientStream& stream) {
  auto& ended = static_cast<Http2ClientStream&>(stream);
  ended.reset(Http2Error::cancel);
  ended.retire();
}

bool Http2Client::available() const {
  // On a new connection one request may wait for an origin that allows none yet.
  const uint32_t allowed = std::max(peer_streams_max(), used_ ? 0U : 1U);
  return !ended() && !going_away_ && streams() < std::min(streams_max, allowed);
}

void Http2Client::on_idle() {
  if (idle()) idle_since_ = Http2Session::reactor().now();
  if (unanswered_) return;  // the timer is the ping's
  if (!idle()) {
    idle_timer_.disarm();
  } else if (!ended()) {
    Http2Session::reactor().arm(idle_timer_, ClientConnection::settings_.idle_timeout);
  }
}

void Http2Client::on_deadline() {
  if (unanswered_) {
    lose(ErrorKind::closed, "the idle connection did not answer a ping");
    return;
  }
  going_away_ = true;
  goaway();
  flush();
  changed();
}

void Http2Client::on_pong() {
  if (!std::exchange(unanswered_, false)) return;
  release();
  on_idle();
}

void Http2Client::on_settings() {
  heard_settings_ = true;
  if (!greeting_.over.happened()) Http2Session::reactor().defer(greeting_);
  changed();
}

void Http2Client::on_goaway() {
  going_away_ = true;
  changed();
}

void Http2Client::on_ended() {
  idle_timer_.disarm();
  changed();
  if (!greeting_.over.happened()) greeting_.over.set();
}

}  // namespace gatehouse::http
