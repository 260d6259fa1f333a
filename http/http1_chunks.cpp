// ChunkDecoder: a chunked body's data, freed of its framing in place.
#include <algorithm>
#include <cstring>

#include "http/characters.hpp"
#include "http/http1_parser.hpp"

namespace gatehouse::http {

enum class ChunkDecoder::State : uint8_t {
  size,       // hexadecimal digits
  extension,  // ";name=value" behind them: checked and dropped
  size_lf,
  data,
  data_cr,
  data_lf,
  trailer,  // a field line, or the empty one that ends the body
  trailer_lf,
  complete,
  refused,
};

ChunkDecoder::Step ChunkDecoder::decode(char* data, size_t size) {
  Step step;
  while (step.consumed < size && state_ != State::complete && state_ != State::refused) {
    if (state_ == State::data) {
      const auto taken = static_cast<size_t>(std::min<uint64_t>(remaining_, size - step.consumed));
      if (step.produced != step.consumed) {
        std::memmove(data + step.produced, data + step.consumed, taken);
      }
      step.consumed += taken;
      step.produced += taken;
      remaining_ -= taken;
      if (remaining_ == 0) state_ = State::data_cr;
    } else if (take(data[step.consumed++])) {
      continue;
    } else {
      state_ = State::refused;
    }
  }
  if (state_ == State::complete) step.status = Status::complete;
  if (state_ == State::refused) step.status = Status::refused;
  return step;
}

void ChunkDecoder::reset() {
  state_ = State::size;
  digits_ = 0;
  extension_bytes_ = 0;
  remaining_ = 0;
  trailer_bytes_ = 0;
  trailer_count_ = 0;
  trailer_line_.clear();
  trailers_.clear();
  refusal_ = {};
}

/// One byte of framing. False: refused.
bool ChunkDecoder::take(char c) {
  switch (state_) {
    case State::size:
      return take_size(c);
    case State::extension:
      return take_extension(c);
    case State::size_lf:
      if (c != '\n') return refuse(400, "bare CR in a chunk's size");
      digits_ = 0;
      state_ = remaining_ > 0 ? State::data : State::trailer;
      return true;
    case State::data_cr:
      if (c != '\r') return refuse(400, "a chunk is longer than its size");
      state_ = State::data_lf;
      return true;
    case State::data_lf:
      if (c != '\n') return refuse(400, "bare CR behind a chunk");
      state_ = State::size;
      return true;
    case State::trailer:
      return take_trailer(c);
    case State::trailer_lf:
      if (c != '\n') return refuse(400, "bare CR in a trailer");
      return end_trailer_line();
    default:
      return false;
  }
}

bool ChunkDecoder::take_size(char c) {
  const int digit = characters::hex_digit(c);
  if (digit >= 0) {
    if (++digits_ > size_digits_max) return refuse(400, "a chunk's size has too many digits");
    remaining_ = remaining_ * 16 + static_cast<uint64_t>(digit);
    return true;
  }
  if (digits_ == 0) return refuse(400, "a chunk without a size");
  if (c == '\r') {
    state_ = State::size_lf;
  } else if (c == ';') {
    ++extension_bytes_;
    state_ = State::extension;
  } else {
    return refuse(400, "a chunk's size is malformed");
  }
  return true;
}

bool ChunkDecoder::take_extension(char c) {
  if (c == '\r') {
    state_ = State::size_lf;
    return true;
  }
  if (!characters::is(characters::field, c)) return refuse(400, "malformed chunk extension");
  if (++extension_bytes_ > extension_bytes_max) return refuse(400, "too many chunk extensions");
  return true;
}

bool ChunkDecoder::take_trailer(char c) {
  if (++trailer_bytes_ > trailer_bytes_max) return refuse(431, "the trailers are too long");
  if (c == '\r') {
    state_ = State::trailer_lf;
    return true;
  }
  if (!characters::is(characters::field, c)) return refuse(400, "malformed trailer");
  trailer_line_ += c;
  return true;
}

bool ChunkDecoder::end_trailer_line() {
  if (trailer_line_.empty()) {
    state_ = State::complete;
    return true;
  }
  state_ = State::trailer;
  const bool added = add_trailer();
  trailer_line_.clear();
  return added;
}

/// Keeps the field on the line if it may pass.
bool ChunkDecoder::add_trailer() {
  if (++trailer_count_ > trailer_fields_max) return refuse(431, "too many trailers");
  const std::string_view line = trailer_line_;
  const size_t colon = line.find(':');
  const std::string_view name = line.substr(0, colon);
  if (colon == line.npos || !is_token(name)) return refuse(400, "malformed trailer");
  if (!trailer_allowed(name)) return true;
  std::string_view value = line.substr(colon + 1);
  value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
  value = value.substr(0, value.find_last_not_of(" \t") + 1);
  trailers_.emplace_back(name, value);
  return true;
}

bool ChunkDecoder::refuse(uint16_t status, const char* reason) {
  refusal_ = {status, reason};
  return false;
}

}  // namespace gatehouse::http
