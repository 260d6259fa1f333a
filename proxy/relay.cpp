#include "proxy/relay.hpp"

namespace gatehouse::proxy {

using base::ErrorKind;
using http::BodyChunk;
using http::Poll;

void Relay::start(std::string_view host) {
  const BodyChunk first = first_chunk();
  bytes_up_ += first.bytes.size();
  upstream_.write_head(downstream_.request(), host, first);
  if (first.last) return;
  started_ = true;
  base::spawn(upload());
}

// What an earlier attempt has read, or what came along with the head: a small request leaves in one
// piece, without an upload of its own.
BodyChunk Relay::first_chunk() {
  if (body_.begun()) return body_.beginning();
  BodyChunk chunk;
  chunk.last = downstream_.request_complete();
  if (chunk.last || downstream_.request().expect_continue) return chunk;
  if (downstream_.poll_body() != Poll::ready) return chunk;  // a failure is met by the upload
  body_.keep(downstream_.chunk());
  return downstream_.chunk();
}

base::Task<void> Relay::upload() {
  for (;;) {
    auto drained = upstream_.drained();
    const bool taken = co_await drained;
    if (!taken) break;  // the origin does not listen any more; it may still answer
    auto reading = downstream_.read_body();
    const bool read = co_await reading;
    if (!read) {
      if (stopping_ || downloading_) break;
      upload_error_ = downstream_.error();
      upstream_.cancel(ErrorKind::cancelled, "the request's body did not come whole");
      break;
    }
    const BodyChunk chunk = downstream_.chunk();
    body_.keep(chunk);
    bytes_up_ += chunk.bytes.size();
    upstream_.write_body(chunk);
    if (!chunk.last) continue;
    auto sent = upstream_.drained();
    co_await sent;
    break;
  }
  over_.set();
}

base::Task<void> Relay::settle() {
  if (uploading()) co_await over_;
}

base::Task<void> Relay::finish() {
  if (!uploading()) co_return;
  stopping_ = true;
  downstream_.stop_reading();
  if (!over_.happened()) upstream_.cancel(ErrorKind::cancelled, "the response is complete");
  co_await over_;
}

base::Task<Relay::End> Relay::download() {
  downloading_ = true;
  const Poll begun = upstream_.poll_body();
  if (begun == Poll::failed) co_return End::not_begun;
  BodyChunk chunk;
  if (begun == Poll::ready) chunk = upstream_.chunk();
  bytes_down_ += chunk.bytes.size();
  downstream_.write_head(upstream_.response(), chunk);
  while (!chunk.last) {
    auto drained = downstream_.drained();
    const bool taken = co_await drained;
    if (!taken) co_return End::client_lost;
    auto reading = upstream_.read_body();
    const bool read = co_await reading;
    if (!read) co_return End::cut_short;
    chunk = upstream_.chunk();
    bytes_down_ += chunk.bytes.size();
    downstream_.write_body(chunk);
  }
  co_return End::complete;
}

}  // namespace gatehouse::proxy
