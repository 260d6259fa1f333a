// HTTP/1.1 heads and chunked bodies from bytes (RFC 9112).
//
// Does not read sockets. Views in a parsed head point into the bytes given: the caller keeps them.
// Any thread; all state is in the objects.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "http/message.hpp"
#include "http/rules.hpp"

namespace gatehouse::http {

struct HeadLimits {
  size_t bytes_max = 32 * 1024;  // past it: 431 (414 if the request line alone is too long)
  size_t fields_max = 128;       // past it: 431
};

/// Finds the end of a head as bytes arrive, each byte looked at once. Refuses as soon as it is
/// seen: a control character (a bare CR or LF, NUL), a folded line, a first byte that begins no
/// HTTP message.
class HeadScanner {
 public:
  enum class Status : uint8_t { need_more, complete, refused };
  /// `bytes` is everything received since the head's first byte. When complete, `length()` is the
  /// head's size with its empty line. One empty line before a request line is skipped (RFC 9112
  /// section 2.2): it counts towards length().
  Status scan(std::string_view bytes, const HeadLimits& limits);
  size_t length() const { return length_; }
  bool begun() const { return scanned_ > 0; }
  Refusal refusal() const { return refusal_; }
  void reset() { *this = HeadScanner{}; }

 private:
  Status end_line();
  Status refuse(uint16_t status, const char* reason);
  Status refuse_too_long();

  size_t scanned_ = 0;       // looked at so far
  size_t lines_ = 0;         // ended so far, an empty one before the head not counted
  bool line_begun_ = false;  // the line at scanned_ holds at least one byte
  size_t length_ = 0;
  Refusal refusal_;
};

/// Parses and checks (rules) one complete head, exactly the bytes that the scanner measured.
/// Nothing: `out` is filled and its views point into `bytes`.
std::optional<Refusal> parse_request(std::string_view bytes, const HeadLimits& limits,
                                     RequestHead& out);
std::optional<Refusal> parse_response(std::string_view bytes, const HeadLimits& limits,
                                      Method request_method, ResponseHead& out,
                                      bool upgrade_asked = false);

/// The same in one look for a head that lies whole at the front of `bytes`, as nearly every one
/// does. Returns its length; 0: it is not whole or not in order, the scanner tells which, and `out`
/// is empty.
size_t parse_whole_request(std::string_view bytes, const HeadLimits& limits, RequestHead& out);
size_t parse_whole_response(std::string_view bytes, const HeadLimits& limits, Method request_method,
                            ResponseHead& out, bool upgrade_asked = false);

/// Decodes a chunked body (RFC 9112 section 7.1) in place, whatever way it is split.
class ChunkDecoder {
 public:
  enum class Status : uint8_t { need_more, complete, refused };
  struct Step {
    Status status = Status::need_more;
    size_t consumed = 0;  // bytes of input used; the rest belongs to the next message
    size_t produced = 0;  // body bytes, moved to the start of the same buffer
  };
  /// Consumes as much of `data` as belongs to this body.
  Step decode(char* data, size_t size);
  /// After complete: the trailers that may pass (rules::trailer_allowed), checked.
  const Trailers& trailers() const { return trailers_; }
  Refusal refusal() const { return refusal_; }
  void reset();

  static constexpr size_t size_digits_max = 16;
  static constexpr size_t extension_bytes_max = 4096;  // in one body, all chunks together
  static constexpr size_t trailer_bytes_max = 8 * 1024;
  static constexpr size_t trailer_fields_max = 64;

 private:
  enum class State : uint8_t;
  bool take(char c);
  bool take_size(char c);
  bool take_extension(char c);
  bool take_trailer(char c);
  bool end_trailer_line();
  bool add_trailer();
  bool refuse(uint16_t status, const char* reason);

  State state_{};
  uint8_t digits_ = 0;
  uint32_t extension_bytes_ = 0;
  uint64_t remaining_ = 0;
  size_t trailer_bytes_ = 0;
  size_t trailer_count_ = 0;
  std::string trailer_line_;
  Trailers trailers_;
  Refusal refusal_;
};

}  // namespace gatehouse::http
