#include "http/http1_writer.hpp"

#include <cstring>

#include <catch2/catch.hpp>

#include "http/http1_parser.hpp"

using namespace gatehouse::http;

namespace {

struct Written {
  char bytes[4096];
  HeadBuffer buffer{bytes, 0, sizeof(bytes), false};
  std::string text() const { return {bytes, buffer.size}; }
};

std::string request_text(const RequestHead& head, std::string_view host) {
  Written out;
  write_request_head(head, host, out.buffer);
  CHECK_FALSE(out.buffer.overflow);
  return out.text();
}

}  // namespace

TEST_CASE("a request goes on with the effective host first and its fields as they came") {
  const std::string received =
      "GET /a?b HTTP/1.1\r\nAccept: */*\r\nHost: old.example\r\nX-A:  1\r\nX-B: 2 \r\nX-C:3\r\n"
      "X-Empty: \r\nX-D: 4\r\nConnection: close, x-b\r\nX-E: 5\r\n\r\n";
  RequestHead head;
  REQUIRE_FALSE(parse_request(received, {}, head));
  head.add_view("Via", "1.1 gatehouse");
  head.add("X-Owned", "owned");
  CHECK(request_text(head, "new.example") ==
        "GET /a?b HTTP/1.1\r\nHost: new.example\r\nAccept: */*\r\nX-A: 1\r\nX-C: 3\r\n"
        "X-Empty: \r\nX-D: 4\r\nX-E: 5\r\nVia: 1.1 gatehouse\r\nX-Owned: owned\r\n\r\n");
}

TEST_CASE("runs of fields are copied the same way field by field") {
  std::string received = "POST / HTTP/1.1\r\nHost: a\r\n";
  for (int i = 0; i < 60; ++i) {
    received += "X-" + std::to_string(i) + (i % 7 == 0 ? ":" : ": ") + std::string(i % 5, 'v') +
                (i % 11 == 0 ? " \t\r\n" : "\r\n");
  }
  received += "Transfer-Encoding: chunked\r\n\r\n";
  RequestHead head;
  REQUIRE_FALSE(parse_request(received, {}, head));
  for (size_t i = 0; i < head.fields.size(); i += 13) head.fields[i].skip = true;
  const std::string fast = request_text(head, "a");
  for (Field& field : head.fields) field.verbatim = false;
  CHECK(fast == request_text(head, "a"));
  CHECK(fast.ends_with("\r\nTransfer-Encoding: chunked\r\n\r\n"));
}

TEST_CASE("a response carries the framing and persistence that it is given") {
  const std::string received = "HTTP/1.0 404 Not  Here\r\nServer: x\r\nConnection: close\r\n\r\n";
  ResponseHead head;
  REQUIRE_FALSE(parse_response(received, {}, Method::get, head));
  const auto text = [&head](Framing framing, Persistence persistence) {
    Written out;
    write_response_head(head, framing, persistence, out.buffer);
    return out.text();
  };
  CHECK(text(Framing::chunked, Persistence::keep_alive) ==
        "HTTP/1.1 404 Not  Here\r\nServer: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  CHECK(text(Framing::until_close, Persistence::close) ==
        "HTTP/1.1 404 Not  Here\r\nServer: x\r\nConnection: close\r\n\r\n");
  CHECK(text(Framing::none, Persistence::keep_alive_explicit) ==
        "HTTP/1.1 404 Not  Here\r\nServer: x\r\nConnection: keep-alive\r\n\r\n");
  head.reason = {};
  head.fields.clear();
  head.status = 200;
  CHECK(text(Framing::none, Persistence::keep_alive) == "HTTP/1.1 200 \r\n\r\n");
  head.status = 101;
  CHECK(text(Framing::none, Persistence::tunnel) ==
        "HTTP/1.1 101 \r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
}

TEST_CASE("a request for a tunnel says so, with a key of ours if the client had none") {
  const std::string received =
      "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade, X-Hop\r\nX-Hop: 1\r\n"
      "Upgrade: h2c, WebSocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\nTE: trailers\r\n\r\n";
  RequestHead head;
  REQUIRE_FALSE(parse_request(received, {}, head));
  REQUIRE(head.protocol == "websocket");
  const auto text = [&head](std::string_view key) {
    Written out;
    write_upgrade_head(head, "b", key, out.buffer);
    return out.text();
  };
  CHECK(text({}) ==
        "GET /chat HTTP/1.1\r\nHost: b\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
  head.fields.clear();
  CHECK(text("a2V5") ==
        "GET /chat HTTP/1.1\r\nHost: b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Key: a2V5\r\nSec-WebSocket-Version: 13\r\n\r\n");
}

TEST_CASE("a head that does not fit is reported and nothing is written past the buffer") {
  RequestHead head;
  head.method_text = "GET";
  head.target = "/";
  head.add_view("a", "b");
  char bytes[64];
  for (size_t capacity = 0; capacity < 40; ++capacity) {
    std::memset(bytes, '#', sizeof(bytes));
    HeadBuffer out{bytes, 0, capacity, false};
    write_request_head(head, "host", out);
    CHECK(out.overflow == (capacity < 36));
    CHECK(out.size <= capacity);
    CHECK(bytes[capacity] == '#');
  }
}

TEST_CASE("chunk sizes are hexadecimal and the last chunk carries the trailers") {
  const auto size_line = [](uint64_t size) {
    char out[20];
    return std::string(out, write_chunk_size(size, out));
  };
  CHECK(size_line(1) == "1\r\n");
  CHECK(size_line(0x1f4) == "1f4\r\n");
  CHECK(size_line(UINT64_MAX) == "ffffffffffffffff\r\n");

  Written plain;
  write_last_chunk(nullptr, plain.buffer);
  CHECK(plain.text() == "0\r\n\r\n");
  Written trailed;
  const Trailers trailers = {{"grpc-status", "0"}, {"x", ""}};
  write_last_chunk(&trailers, trailed.buffer);
  CHECK(trailed.text() == "0\r\ngrpc-status: 0\r\nx: \r\n\r\n");
}

TEST_CASE("standard statuses have their phrase") {
  CHECK(reason_phrase(200) == "OK");
  CHECK(reason_phrase(431) == "Request Header Fields Too Large");
  CHECK(reason_phrase(299) == "Unknown");
}
