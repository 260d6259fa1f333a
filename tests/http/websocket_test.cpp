#include "http/websocket.hpp"

#include <catch2/catch.hpp>

#include "base/encoding.hpp"

using namespace gatehouse::http;

namespace {

using Pairs = std::vector<std::pair<std::string_view, std::string_view>>;

constexpr std::string_view sample_key = "dGhlIHNhbXBsZSBub25jZQ==";  // RFC 6455 section 1.3
constexpr std::string_view sample_accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

Fields fields_of(const Pairs& pairs) {
  Fields fields;
  for (const auto& [name, value] : pairs) fields.push_back(Field{name, value, field_id(name)});
  return fields;
}

RequestHead request(Pairs fields, Method method = Method::get, Version version = Version::http11) {
  fields.insert(fields.begin(), {"Host", "example.com"});
  RequestHead head;
  head.method = method;
  head.version = version;
  head.target = "/";
  head.fields = fields_of(fields);
  return head;
}

Pairs handshake(std::string_view key = sample_key, std::string_view version = "13") {
  return {{"Connection", "Upgrade"},
          {"Upgrade", "websocket"},
          {"Sec-WebSocket-Key", key},
          {"Sec-WebSocket-Version", version}};
}

Pairs with(Pairs fields, std::pair<std::string_view, std::string_view> more) {
  fields.push_back(more);
  return fields;
}

Pairs asking(std::string_view connection, std::string_view upgrade) {
  Pairs fields = handshake();
  fields[0].second = connection;
  fields[1].second = upgrade;
  return fields;
}

/// "websocket", "" (an ordinary request), or the status it is refused with.
std::string asks(RequestHead head) {
  const auto refusal = check_request(head);
  if (refusal) return std::to_string(refusal->status);
  for (const Field& field : head.fields) {
    // Whatever it is taken for, these are the writer's.
    const bool ours = field.id == FieldId::connection || field.id == FieldId::upgrade;
    CHECK(field.skip == (ours || field.id == FieldId::host));
  }
  return std::string(head.protocol);
}

const char* granted(const Pairs& fields) {
  ResponseHead head;
  head.status = 101;
  head.fields = fields_of(fields);
  REQUIRE_FALSE(check_response(head, Method::get, true));
  return check_switch(head, sample_accept);
}

}  // namespace

TEST_CASE("a request asks for a WebSocket in these ways") {
  CHECK(asks(request(handshake())) == "websocket");
  CHECK(asks(request(asking("upgrade", "WebSocket"))) == "websocket");
  CHECK(asks(request(asking("keep-alive, Upgrade", "websocket"))) == "websocket");
  CHECK(asks(request(asking("Upgrade", "h2c, websocket"))) == "websocket");
  CHECK(asks(request(asking("Upgrade", ", websocket ,"))) == "websocket");
  CHECK(asks(request(with(handshake(), {"Content-Length", "0"}))) == "websocket");
  Pairs apart = handshake();
  apart[0].second = "keep-alive";
  apart.push_back({"Connection", "Upgrade"});
  CHECK(asks(request(apart)) == "websocket");
}

TEST_CASE("an Upgrade that is not for a WebSocket, or stands where none may be, is dropped") {
  CHECK(asks(request(asking("Upgrade", "h2c"))).empty());
  CHECK(asks(request(asking("Upgrade", "TLS/1.0, HTTP/2.0"))).empty());
  CHECK(asks(request(asking("Upgrade", "websocket/13"))).empty());
  CHECK(asks(request(asking("Upgrade", "websocketx"))).empty());
  CHECK(asks(request(asking("Upgrade", ""))).empty());
  CHECK(asks(request(asking("keep-alive", "websocket"))).empty());
  CHECK(asks(request(asking("close", "websocket"))).empty());
  CHECK(asks(request(handshake(), Method::post)).empty());
  CHECK(asks(request(handshake(), Method::head)).empty());
  CHECK(asks(request(handshake(), Method::other)).empty());
  CHECK(asks(request(handshake(), Method::get, Version::http10)).empty());
  CHECK(asks(request({{"Connection", "Upgrade"}})).empty());
  RequestHead body = request(with(handshake(), {"Content-Length", "5"}));
  REQUIRE_FALSE(check_request(body));
  CHECK(body.protocol.empty());
  RequestHead chunked = request(with(handshake(), {"Transfer-Encoding", "chunked"}));
  REQUIRE_FALSE(check_request(chunked));
  CHECK(chunked.protocol.empty());
}

TEST_CASE("a WebSocket without a valid key, or of another version, is refused") {
  for (const std::string_view key :
       {"", "x", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZR==",
        "dGhlIHNhbXBsZSBub25j", "AAAAAAAAAAAAAAAAAAAAAAA=", "dGhlIHNhbXBsZSBub25j!Q==",
        "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ=="}) {
    INFO(key);
    CHECK(asks(request(handshake(key))) == "400");
  }
  CHECK(asks(request(with(handshake(), {"sec-websocket-key", sample_key}))) == "400");
  CHECK(asks(request(asking("Upgrade, Sec-WebSocket-Key", "websocket"))) == "400");
  for (const std::string_view version : {"", "8", "12", "14", "013", "13, 8", "13.0"}) {
    INFO(version);
    CHECK(asks(request(handshake(sample_key, version))) == "426");
  }
  CHECK(asks(request(with(handshake(), {"Sec-WebSocket-Version", "13"}))) == "426");
}

TEST_CASE("accept values are RFC 6455's, and keys of our own are fresh and valid") {
  CHECK(websocket_accept(sample_key) == sample_accept);
  const std::string one = make_websocket_key();
  CHECK(one != make_websocket_key());
  const auto bytes = gatehouse::base::base64_decode(one);
  REQUIRE(bytes);
  CHECK(bytes->size() == 16);
  CHECK(asks(request(handshake(one))) == "websocket");
}

TEST_CASE("a 101 grants only what was asked, by the right accept value") {
  const Pairs good = {{"Upgrade", "WebSocket"},
                      {"Connection", "keep-alive, upgrade"},
                      {"Sec-WebSocket-Accept", sample_accept}};
  CHECK(granted(good) == nullptr);
  CHECK(granted(with(good, {"Content-Length", "0"})) == nullptr);
  const Pairs bad[] = {
      {},
      {{"Upgrade", "websocket"}, {"Connection", "Upgrade"}},
      {{"Upgrade", "websocket"}, {"Sec-WebSocket-Accept", sample_accept}},
      {{"Connection", "Upgrade"}, {"Sec-WebSocket-Accept", sample_accept}},
      {{"Upgrade", "websocket"},
       {"Connection", "Upgrade"},
       {"Sec-WebSocket-Accept", "S3pPLMBiTxaQ9kYGzzhZRbK+xOo="}},
      {{"Upgrade", "h2c"}, {"Connection", "Upgrade"}, {"Sec-WebSocket-Accept", sample_accept}},
      {{"Upgrade", "websocket, h2c"},
       {"Connection", "Upgrade"},
       {"Sec-WebSocket-Accept", sample_accept}},
      with(good, {"Upgrade", "h2c"}),
      with(good, {"Sec-WebSocket-Accept", sample_accept}),
      {{"Upgrade", "websocket"},
       {"Connection", "Upgrade, Sec-WebSocket-Accept"},
       {"Sec-WebSocket-Accept", sample_accept}},
  };
  for (const Pairs& fields : bad) CHECK(granted(fields) != nullptr);
}

TEST_CASE("a 101 that nobody asked for is refused, whatever it says") {
  ResponseHead head;
  head.status = 101;
  head.fields = fields_of({{"Upgrade", "websocket"},
                           {"Connection", "Upgrade"},
                           {"Sec-WebSocket-Accept", sample_accept}});
  const auto refusal = check_response(head, Method::get);
  REQUIRE(refusal);
  CHECK(refusal->status == 502);
}
