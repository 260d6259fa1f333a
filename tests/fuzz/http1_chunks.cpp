// A chunked body: whichever way its bytes arrive, the same body, trailers and verdict come out; and
// what is written from them is decoded to the same again.
#include <algorithm>
#include <array>
#include <string>

#include "http/http1_parser.hpp"
#include "http/http1_writer.hpp"
#include "tests/fuzz/target.hpp"

namespace gatehouse {

namespace http {

namespace {

using Status = ChunkDecoder::Status;

struct Decoded {
  Status status = Status::need_more;
  size_t consumed = 0;
  std::string body;
  Trailers trailers;
  uint16_t refused_with = 0;
  std::string reason;
  bool operator==(const Decoded&) const = default;
};

/// Feeds pieces of `sizes`, over and over, each in memory of exactly its size.
template <size_t count>
Decoded decode(std::string_view bytes, const std::array<size_t, count>& sizes) {
  ChunkDecoder decoder;
  Decoded out;
  for (size_t at = 0, turn = 0; at < bytes.size(); ++turn) {
    const std::string_view part = bytes.substr(at, sizes[turn % count]);
    const auto piece = std::make_unique<char[]>(part.size());
    std::copy(part.begin(), part.end(), piece.get());
    const auto step = decoder.decode(piece.get(), part.size());
    ASSERT(step.produced <= step.consumed && step.consumed <= part.size());
    ASSERT(step.status != Status::need_more || step.consumed == part.size());
    out.body.append(piece.get(), step.produced);
    out.status = step.status;
    out.consumed += step.consumed;
    if (step.status != Status::need_more) break;
    at += part.size();
  }
  if (out.status != Status::need_more) {
    char next = '0';
    ASSERT(decoder.decode(&next, 1).consumed == 0);
  }
  out.trailers = decoder.trailers();
  out.refused_with = decoder.refusal().status;
  out.reason = decoder.refusal().reason;
  return out;
}

void check_trailers(const Decoded& decoded) {
  ASSERT(decoded.trailers.size() <= ChunkDecoder::trailer_fields_max);
  for (const auto& [name, value] : decoded.trailers) {
    ASSERT(is_token(name) && is_field_value(value) && trailer_allowed(name));
    ASSERT(value.empty() ||
           (value.find_first_of(" \t") != 0 && value.find_last_of(" \t") != value.size() - 1));
  }
}

/// The body as we send it on, in chunks of `size`.
std::string written(const Decoded& decoded, size_t size) {
  std::string out;
  std::array<char, 20> line;
  for (size_t at = 0; at < decoded.body.size(); at += size) {
    const std::string part = decoded.body.substr(at, size);
    out.append(line.data(), write_chunk_size(part.size(), line.data()));
    out += part + "\r\n";
  }
  std::array<char, 16 * 1024> last;  // as much as the streams give it
  HeadBuffer end{last.data(), 0, last.size()};
  write_last_chunk(&decoded.trailers, end);
  ASSERT(!end.overflow);
  return out.append(end.data, end.size);
}

void judge(std::string_view input) {
  const Decoded whole = decode(input, std::array{input.size()});
  ASSERT(whole == decode(input, std::array<size_t, 1>{1}));
  ASSERT(whole == decode(input, std::array<size_t, 3>{2, 1, 5}));
  ASSERT(whole == decode(input, std::array<size_t, 2>{7, 64}));
  check_trailers(whole);
  if (whole.status == Status::refused) {
    ASSERT(whole.refused_with == 400 || whole.refused_with == 431);
    ASSERT(!whole.reason.empty());
  }
  if (whole.status != Status::complete) return;
  for (const size_t size : {size_t{3}, size_t{4096}}) {
    const std::string bytes = written(whole, size);
    const Decoded again = decode(bytes, std::array{bytes.size()});
    ASSERT(again.status == Status::complete && again.consumed == bytes.size());
    ASSERT(again.body == whole.body && again.trailers == whole.trailers);
  }
}

}  // namespace

}  // namespace http

void fuzz(std::string_view input) {
  http::judge(input);
}

}  // namespace gatehouse
