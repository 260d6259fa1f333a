// A request's body as it is forwarded, its beginning kept so that the request can be sent again.
//
// Does not decide whether to retry (exchange). Lives in one exchange.
#pragma once

#include "base/buffer.hpp"
#include "http/stream.hpp"

namespace gatehouse::proxy {

class ReplayBody {
 public:
  /// Larger bodies are forwarded, but not kept.
  static constexpr size_t kept_bytes_max = 64 * 1024;

  explicit ReplayBody(http::ServerStream& stream) : stream_(stream) {}

  /// What the stream has just read, on its way to the origin.
  void keep(const http::BodyChunk& chunk) {
    begun_ = true;
    if (chunk.trailers != nullptr) too_large_ = true;
    if (too_large_) return;
    if (kept_.size() + chunk.bytes.size() > kept_bytes_max) {
      too_large_ = true;
      kept_.clear();
      return;
    }
    kept_.append(chunk.bytes);
  }
  /// The request can be sent once more from its beginning.
  bool repeatable() const { return !begun_ || !too_large_; }
  /// What the next attempt begins with: everything read so far.
  http::BodyChunk beginning() const {
    http::BodyChunk chunk;
    chunk.bytes = kept_.view();
    chunk.last = stream_.request_complete();
    return chunk;
  }
  bool begun() const { return begun_; }

 private:
  http::ServerStream& stream_;
  base::ByteQueue kept_;
  bool begun_ = false;
  bool too_large_ = false;
};

}  // namespace gatehouse::proxy
