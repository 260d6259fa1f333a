// HeadScanner: where a head ends, found while its bytes arrive.
#include "http/characters.hpp"
#include "http/control_bytes.hpp"
#include "http/http1_parser.hpp"

namespace gatehouse::http {

namespace {

/// Whether a message may begin so: a method's token, or the protocol's name of a status line.
bool may_begin_message(char c) {
  return characters::is(characters::token, c);
}

}  // namespace

HeadScanner::Status HeadScanner::scan(std::string_view bytes, const HeadLimits& limits) {
  while (scanned_ < bytes.size()) {
    if (!line_begun_ && bytes[scanned_] != '\r') {
      if (lines_ == 0 && !may_begin_message(bytes[scanned_])) {
        return refuse(400, "not an HTTP message");
      }
      if (bytes[scanned_] == ' ' || bytes[scanned_] == '\t') {
        return refuse(400, "folded field value, or a field without a name");
      }
    }
    const size_t control = find_control(bytes, scanned_);
    line_begun_ = line_begun_ || control > scanned_;
    scanned_ = control;
    if (scanned_ >= limits.bytes_max) return refuse_too_long();
    if (scanned_ == bytes.size()) break;
    if (bytes[scanned_] != '\r') return refuse(400, "bare LF or another control character");
    if (scanned_ + 1 == bytes.size()) break;  // the LF is still to come
    if (bytes[scanned_ + 1] != '\n') return refuse(400, "bare CR");
    scanned_ += 2;
    if (scanned_ > limits.bytes_max) return refuse_too_long();
    const Status status = end_line();
    if (status != Status::need_more) return status;
  }
  return Status::need_more;
}

/// A line and its CRLF lie before `scanned_`.
HeadScanner::Status HeadScanner::end_line() {
  if (line_begun_) {
    line_begun_ = false;
    ++lines_;
    return Status::need_more;
  }
  if (lines_ > 0) {
    length_ = scanned_;
    return Status::complete;
  }
  if (scanned_ > 2) return refuse(400, "more than one empty line before the message");
  return Status::need_more;
}

HeadScanner::Status HeadScanner::refuse(uint16_t status, const char* reason) {
  refusal_ = {status, reason};
  return Status::refused;
}

HeadScanner::Status HeadScanner::refuse_too_long() {
  if (lines_ == 0) return refuse(414, "the request line is too long");
  return refuse(431, "the head is too long");
}

}  // namespace gatehouse::http
