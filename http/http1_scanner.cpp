// HeadScanner: where a head ends, found while its bytes arrive.
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <bit>

#include "http/characters.hpp"
#include "http/http1_parser.hpp"

namespace gatehouse::http {

namespace {

bool is_control(char c) {  // HTAB is none: it may stand in a value
  const auto byte = static_cast<uint8_t>(c);
  return (byte < 0x20 && byte != '\t') || byte == 0x7f;
}

/// The first control character at or after `at`, or the end.
size_t find_control(std::string_view bytes, size_t at) {
#if defined(__SSE2__)
  constexpr size_t block = sizeof(__m128i);
  for (; bytes.size() - at >= block; at += block) {
    const __m128i data = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes.data() + at));
    const __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(data, _mm_set1_epi8(0x1f)), data);
    const __m128i tab = _mm_cmpeq_epi8(data, _mm_set1_epi8('\t'));
    const __m128i del = _mm_cmpeq_epi8(data, _mm_set1_epi8(0x7f));
    const __m128i control = _mm_or_si128(_mm_andnot_si128(tab, low), del);
    const auto found = static_cast<unsigned>(_mm_movemask_epi8(control));
    if (found != 0) return at + static_cast<size_t>(std::countr_zero(found));
  }
#endif
  while (at < bytes.size() && !is_control(bytes[at])) ++at;
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
