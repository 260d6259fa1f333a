// The two bodies of one attempt: the request's upwards in the background, the response's downwards.
//
// Chooses nothing and answers nothing (exchange). The upload goes on while the response is relayed,
// so an early response passes; it never outlives the relay: finish() ends it. One worker's thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/task.hpp"
#include "http/stream.hpp"
#include "proxy/replay_body.hpp"

namespace gatehouse::proxy {

class Relay {
 public:
  Relay(http::ServerStream& downstream, http::ClientStream& upstream, ReplayBody& body)
      : downstream_(downstream), upstream_(upstream), body_(body) {}

  /// Sends the request's head with as much of its body as has come, and the rest as it comes.
  void start(std::string_view host);

  enum class End : uint8_t {
    complete,
    not_begun,    // the origin failed before anything was sent to the client
    cut_short,    // the origin failed in the middle: the client was shown that
    client_lost,  // the client went away, or was too slow
  };
  /// Sends the response's head and body to the client. Returns when the last byte was taken over;
  /// the caller waits for drained().
  base::Task<End> download();

  /// The upstream has failed: waits until the upload has met that, at the client's next piece,
  /// which is kept like those before it. Another attempt may begin then.
  base::Task<void> settle();
  /// Ends the upload if it is not over. The upstream must not be freed before.
  base::Task<void> finish();
  bool uploading() const { return started_ && !over_.happened(); }

  /// What the client did wrong with its body, if it did.
  const std::optional<base::Error>& upload_error() const { return upload_error_; }
  uint64_t bytes_up() const { return bytes_up_; }
  uint64_t bytes_down() const { return bytes_down_; }

 private:
  base::Task<void> upload();
  http::BodyChunk first_chunk();

  http::ServerStream& downstream_;
  http::ClientStream& upstream_;
  ReplayBody& body_;
  std::optional<base::Error> upload_error_;
  base::Event over_;
  uint64_t bytes_up_ = 0;
  uint64_t bytes_down_ = 0;
  bool started_ = false;
  bool stopping_ = false;
  bool downloading_ = false;  // the final response has come: it goes on whatever the upload does
};

}  // namespace gatehouse::proxy
