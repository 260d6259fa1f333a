#include "http/http2_stream.hpp"

#include <memory>

#include "http/rules.hpp"

namespace gatehouse::http {

using base::ErrorKind;

Http2Stream::Http2Stream(Http2Session& session, int32_t id) : session_(session), id_(id) {
  session_.add(*this);
}

Http2Stream::~Http2Stream() {
  ASSERT(retired_);
}

void Http2Stream::retire() {
  retired_ = true;
  on_retired();
  session_.remove(*this);
  session_.reactor().retire(std::unique_ptr<base::Retirable>(this));
}

void Http2Stream::on_progress() {
  sending_.poll();
  receiving_.poll();
}

// --- sending

void Http2Stream::write(const BodyChunk& chunk) {
  if (closed_ || out_ended_ || failed()) return;
  if (chunk.last) {
    out_ended_ = true;
    if (chunk.trailers != nullptr) out_trailers_ = *chunk.trailers;
  }
  const bool direct =
      out_.empty() && chunk.bytes.size() >= direct_bytes_min && session_.may_flush();
  if (direct) {
    direct_ = chunk.bytes;
  } else {
    out_.append(chunk.bytes);
  }
  if (std::exchange(deferred_, false)) session_.resume(*this);
  if (direct) {
    session_.flush();
    out_.append(direct_);
    direct_ = {};
  }
  session_.flush_later();
}

Poll Http2Stream::poll_written() {
  if (failed()) return Poll::failed;
  if (closed_) return out_framed_ ? Poll::ready : Poll::failed;
  return waiting_bytes() == 0 && out_ended_ == out_framed_ ? Poll::ready : Poll::pending;
}

std::string_view Http2Stream::front(size_t size) const {
  return (direct_.empty() ? out_.view() : direct_).substr(0, size);
}

void Http2Stream::sent(size_t size) {
  bytes_sent_ += size;
  if (!direct_.empty()) {
    direct_.remove_prefix(size);
    return;
  }
  out_.consume(size);
  out_.trim();
  if (out_.empty()) session_.touch(*this);
}

void Http2Stream::end_left() {
  out_framed_ = true;
  session_.touch(*this);
}

// --- receiving

void Http2Stream::receive(std::string_view bytes) {
  if (ignoring_) return session_.consumed(*this, bytes.size());
  in_.append(bytes);
  session_.touch(*this);
}

void Http2Stream::receive_end() {
  in_ended_ = true;
  session_.touch(*this);
}

/// Only those that may pass (RFC 9110 section 6.5.1); pseudo-fields have been refused.
void Http2Stream::take_trailers(const FieldSection& section) {
  for (const Field& field : section.fields) {
    if (trailer_allowed(field.name)) in_trailers_.emplace_back(field.name, field.value);
  }
}

Poll Http2Stream::poll_received(BodyChunk& chunk) {
  if (failed()) return Poll::failed;
  chunk = BodyChunk{};
  in_.trim();
  if (!in_.empty()) {
    chunk.bytes = in_.view();
    in_.consume(chunk.bytes.size());
    session_.consumed(*this, chunk.bytes.size());
  } else if (!in_ended_) {
    return closed_ ? Poll::failed : Poll::pending;
  }
  chunk.last = in_ended_;
  if (chunk.last && !in_trailers_.empty()) chunk.trailers = &in_trailers_;
  return Poll::ready;
}

void Http2Stream::ignore_rest() {
  ignoring_ = true;
  session_.consumed(*this, in_.size());
  in_.clear();
}

// --- the end

void Http2Stream::fail(ErrorKind kind, const char* text) {
  if (failed()) return;
  failure_ = text;
  failure_kind_ = kind;
  session_.touch(*this);
}

void Http2Stream::reset(Http2Error code) {
  if (closed_ || reset_by_us_) return;
  reset_by_us_ = true;
  out_.clear();
  if (id_ > 0) session_.reset(*this, code);
}

void Http2Stream::close(uint32_t code) {
  closed_ = true;
  close_code_ = code;
  session_.touch(*this);
}

}  // namespace gatehouse::http
