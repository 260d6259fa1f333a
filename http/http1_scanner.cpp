// HeadScanner: where a head ends, found while its bytes arrive.
#include <bit>
#include <cstring>

#include "http/characters.hpp"
#include "http/http1_parser.hpp"

namespace gatehouse::http {

namespace {

/// A 1 in the top bit of every byte of `word` that is below 0x20 or is 0x7f. Bytes above the
/// lowest one marked may be marked wrongly (a borrow), so only the lowest counts.
constexpr uint64_t control_bytes(uint64_t word) {
  constexpr uint64_t ones = 0x0101010101010101;
  constexpr uint64_t tops = 0x8080808080808080;
  const uint64_t del = word ^ (ones * 0x7f);
  const uint64_t low = (word - ones * 0x20) & ~word;
  return (low | ((del - ones) & ~del)) & tops;
}

/// The first control character at or after `at` other than HTAB, or the end.
size_t find_control(std::string_view bytes, size_t at) {
  while (at < bytes.size()) {
    if constexpr (std::endian::native == std::endian::little) {
      uint64_t word;
      if (bytes.size() - at >= sizeof(word)) {
        std::memcpy(&word, bytes.data() + at, sizeof(word));
        const uint64_t found = control_bytes(word);
        if (found == 0) {
          at += sizeof(word);
          continue;
        }
        at += static_cast<size_t>(std::countr_zero(found)) / 8;
      }
    }
    const auto c = static_cast<uint8_t>(bytes[at]);
    if ((c < 0x20 && c != '\t') || c == 0x7f) return at;
    ++at;
  }
  return at;
}

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
