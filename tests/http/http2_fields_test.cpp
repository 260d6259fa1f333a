#include "http/http2_fields.hpp"

#include <catch2/catch.hpp>

#include "http/rules.hpp"
#include "tests/support/http2_peer.hpp"

namespace gatehouse::http {

namespace {

using test::FieldTexts;
using test::get;
using test::with;

constexpr int passes = -1;

/// What the fields of a request become; it lives as long as its section.
struct Request {
  Request(const FieldTexts& fields, bool ended) {
    for (const auto& [name, value] : fields) section.add(name, value, {});
    head.version = Version::http2;
    head.method_text = section.method;
    head.target = section.path;
    head.scheme = section.scheme;
    head.authority = section.authority;
    head.protocol = section.protocol;
    head.fields = section.fields;
    refusal = check_http2_request(head, ended);
  }
  int verdict() const { return refusal ? refusal->status : passes; }
  std::string forwarded() const {
    std::string text;
    for (const Field& field : head.fields) {
      if (!field.skip) text += std::string(field.name) + "=" + std::string(field.value) + "\n";
    }
    return text;
  }
  FieldSection section;
  RequestHead head;
  std::optional<Refusal> refusal;
};

struct Response {
  Response(uint16_t status, const FieldTexts& fields, Method method = Method::get) {
    for (const auto& [name, value] : fields) section.add(name, value, {});
    head.version = Version::http2;
    head.status = status;
    head.fields = section.fields;
    refusal = check_http2_response(head, method);
  }
  FieldSection section;
  ResponseHead head;
  std::optional<Refusal> refusal;
};

FieldTexts request_of(const std::string& pseudo, const std::string& value) {
  FieldTexts fields = get();
  for (auto& [name, old] : fields) {
    if (name == pseudo) old = value;
  }
  return fields;
}

FieldTexts tunnel() {
  return {{":method", "CONNECT"},
          {":protocol", "websocket"},
          {":scheme", "https"},
          {":path", "/chat"},
          {":authority", "a.example"}};
}

}  // namespace

TEST_CASE("a request's hosts, schemes, targets and methods: what passes and what does not") {
  const struct {
    std::string pseudo, value;
    int verdict;
  } cases[] = {
      {":authority", "a.example", passes},
      {":authority", "A.Example:8443", passes},
      {":authority", "a.example.", passes},
      {":authority", "[::1]:443", passes},
      {":authority", "127.0.0.1", passes},
      {":authority", "a_b.example", passes},
      {":authority", "", 400},
      {":authority", "user@a.example", 400},
      {":authority", "a.example:", passes},
      {":authority", "a.example:x", 400},
      {":authority", "a.example:65536", 400},
      {":authority", "a..example", 400},
      {":authority", ".a.example", 400},
      {":authority", "a.example/", 400},
      {":authority", "a.example,b.example", 400},
      {":authority", "a example", 400},
      {":authority", "[::1", 400},
      {":authority", "[::g]", 400},
      {":scheme", "https", passes},
      {":scheme", "http", passes},
      {":scheme", "", 400},
      {":scheme", "HTTP", 400},
      {":scheme", "ftp", 400},
      {":scheme", "https\r\nx: y", 400},
      {":path", "/", passes},
      {":path", "/a?b=c&d=%20", passes},
      {":path", "//x/../y", passes},
      {":path", "", 0},
      {":path", "a", 0},
      {":path", "*", 0},
      {":path", "http://a.example/", 0},
      {":path", "/a b", 400},
      {":path", "/a#b", 400},
      {":path", "/a\r\nx: y", 400},
      {":path", "/\xc3\xa4", 400},
      {":path", "/\x7f", 400},
      {":method", "GET", passes},
      {":method", "PROPFIND", passes},
      {":method", "get", passes},
      {":method", "TRACE", 405},
      {":method", "CONNECT", 405},
  };
  for (const auto& each : cases) {
    INFO(each.pseudo << " = " << each.value);
    CHECK(Request(request_of(each.pseudo, each.value), true).verdict() == each.verdict);
  }
  FieldTexts options = request_of(":path", "*");
  options[0].second = "OPTIONS";
  CHECK(Request(options, true).verdict() == passes);
}

TEST_CASE("Host stands for a missing :authority, agrees with it, or the request is malformed") {
  FieldTexts without = get();
  without.erase(without.begin() + 2);
  const struct {
    FieldTexts fields;
    int verdict;
  } cases[] = {
      {with(get(), {{"host", "a.example"}}), passes},
      {with(get(), {{"host", "A.EXAMPLE"}}), passes},
      {with(without, {{"host", "a.example"}}), passes},
      {with(get(), {{"host", "b.example"}}), 0},
      {with(get(), {{"host", "a.example:443"}}), 0},
      {with(get(), {{"host", ""}}), 0},
      {with(get(), {{"host", "a.example"}, {"host", "a.example"}}), 0},
      {with(without, {{"host", "a.example"}, {"host", "b.example"}}), 0},
      {with(without, {{"host", "not a host"}}), 400},
      {with(without, {{"host", ""}}), 400},
      {without, 400},
  };
  for (const auto& each : cases) {
    const Request request(each.fields, true);
    CHECK(request.verdict() == each.verdict);
    if (each.verdict != passes) continue;
    CHECK(equal_ignoring_case(request.head.authority, "a.example"));
    CHECK(request.head.find(FieldId::host) == nullptr);
  }
}

TEST_CASE(
    "fields of the connection, TE, Expect and Content-Length: what passes and what does not") {
  const struct {
    FieldTexts fields;
    int verdict;
  } cases[] = {
      {{{"connection", "close"}}, 0},
      {{{"connection", ""}}, 0},
      {{{"keep-alive", "timeout=5"}}, 0},
      {{{"proxy-connection", "keep-alive"}}, 0},
      {{{"transfer-encoding", "chunked"}}, 0},
      {{{"transfer-encoding", "identity"}}, 0},
      {{{"upgrade", "h2c"}}, 0},
      {{{"upgrade", "websocket"}}, 0},
      {{{"te", "trailers"}}, passes},
      {{{"te", "Trailers"}}, passes},
      {{{"te", "trailers, gzip"}}, 0},
      {{{"te", "gzip"}}, 0},
      {{{"te", ""}}, 0},
      {{{"expect", "100-continue"}}, passes},
      {{{"expect", "100-Continue"}}, passes},
      {{{"expect", "200-ok"}}, 417},
      {{{"content-length", "5"}}, passes},
      {{{"content-length", "0"}}, passes},
      {{{"content-length", "9223372036854775807"}}, passes},
      {{{"content-length", "9223372036854775808"}}, 0},
      {{{"content-length", "18446744073709551616"}}, 0},
      {{{"content-length", "+5"}}, 0},
      {{{"content-length", "-5"}}, 0},
      {{{"content-length", "5, 5"}}, 0},
      {{{"content-length", " 5"}}, 0},
      {{{"content-length", "0x5"}}, 0},
      {{{"content-length", ""}}, 0},
      {{{"content-length", "5"}, {"content-length", "5"}}, 0},
      {{{"content-length", "5"}, {"content-length", "6"}}, 0},
      {{{"http2-settings", "AAMAAABk"}}, passes},
  };
  for (const auto& each : cases) {
    INFO(each.fields[0].first << ": " << each.fields[0].second);
    const Request request(with(get(), each.fields), false);
    CHECK(request.verdict() == each.verdict);
    if (each.verdict != passes) continue;
    CHECK(request.head.accepts_trailers == (each.fields[0].first == "te"));
    CHECK(request.forwarded().find("te=") == std::string::npos);
    CHECK(request.forwarded().find("http2-settings") == std::string::npos);
  }
}

TEST_CASE("a body is framed by its length, or in chunks, and an expectation needs one") {
  const Request none(with(get(), {{"expect", "100-continue"}}), true);
  CHECK(none.head.framing == Framing::none);
  CHECK_FALSE(none.head.expect_continue);
  CHECK(none.forwarded().empty());
  const Request known(with(get(), {{"content-length", "5"}, {"expect", "100-continue"}}), false);
  CHECK(known.head.framing == Framing::length);
  CHECK(known.head.content_length == 5);
  CHECK(known.head.expect_continue);
  const Request unknown(get(), false);
  CHECK(unknown.head.framing == Framing::chunked);
}

TEST_CASE("crumbs of a cookie are joined in their order") {
  const Request one(with(get(), {{"cookie", "a=b"}}), true);
  CHECK(one.forwarded() == "cookie=a=b\n");
  const Request three(
      with(get(), {{"cookie", "a=b"}, {"x", "y"}, {"cookie", "c=d"}, {"cookie", "e=f"}}), true);
  CHECK(three.forwarded() == "x=y\ncookie=a=b; c=d; e=f\n");
}

TEST_CASE("an extended CONNECT becomes a GET that asks for a tunnel, if it asks for WebSocket") {
  const Request asked(with(tunnel(), {{"sec-websocket-key", "x"}, {"sec-websocket-version", "13"}}),
                      false);
  CHECK(asked.verdict() == passes);
  CHECK(asked.head.method == Method::get);
  CHECK(asked.head.method_text == "GET");
  CHECK(asked.head.protocol == "websocket");
  CHECK(asked.head.framing == Framing::none);
  CHECK(asked.forwarded() == "sec-websocket-version=13\n");
  CHECK(Request(tunnel(), true).verdict() == 400);
  FieldTexts other = tunnel();
  other[1].second = "connect-udp";
  CHECK(Request(other, false).verdict() == 501);
  other.erase(other.begin() + 1);
  CHECK(Request(other, false).verdict() == 405);
  FieldTexts pathless = tunnel();
  pathless.erase(pathless.begin() + 3);
  CHECK(Request(pathless, false).verdict() == 0);
}

TEST_CASE("a protocol is asked for by CONNECT alone") {
  const FieldTexts fields = with({{":protocol", "websocket"}}, get());
  CHECK(Request(fields, false).verdict() == 0);
}

TEST_CASE("a response's status and fields: what passes and what does not") {
  const struct {
    uint16_t status;
    FieldTexts fields;
    bool good;
  } cases[] = {
      {200, {}, true},
      {100, {}, true},
      {103, {{"link", "x"}}, true},
      {599, {}, true},
      {99, {}, false},
      {0, {}, false},
      {101, {}, false},
      {200, {{"content-length", "5"}}, true},
      {200, {{"content-length", "x"}}, false},
      {200, {{"content-length", "5"}, {"content-length", "5"}}, false},
      {200, {{"connection", "close"}}, false},
      {200, {{"keep-alive", "x"}}, false},
      {200, {{"proxy-connection", "x"}}, false},
      {200, {{"transfer-encoding", "chunked"}}, false},
      {200, {{"upgrade", "h2c"}}, false},
  };
  for (const auto& each : cases) {
    INFO(each.status);
    const Response response(each.status, each.fields);
    CHECK(!response.refusal == each.good);
    if (response.refusal) CHECK(response.refusal->status == 502);
  }
}

TEST_CASE("a response has a body unless its request, its status or its length says otherwise") {
  CHECK(Response(200, {}).head.framing == Framing::until_close);
  CHECK(Response(200, {{"content-length", "5"}}).head.framing == Framing::length);
  CHECK(Response(200, {{"content-length", "0"}}).head.framing == Framing::none);
  CHECK(Response(200, {{"content-length", "5"}}, Method::head).head.framing == Framing::none);
  for (const uint16_t status : {100, 103, 204, 304}) {
    CHECK(Response(status, {{"content-length", "5"}}).head.framing == Framing::none);
  }
}

TEST_CASE("a response's fields of one hop are not forwarded") {
  const Response response(200, {{"te", "trailers"}, {"http2-settings", "x"}, {"server", "y"}});
  for (const Field& field : response.head.fields) CHECK(field.skip == (field.name != "server"));
}

TEST_CASE("a field section is kept as HTTP/1 writes it, however it grows") {
  FieldSection section;
  HeadLimits limits{64 * 1024, 300};
  std::string expected;
  for (int i = 0; i < 300; ++i) {
    const std::string name = "x-" + std::to_string(i), value(static_cast<size_t>(i), 'v');
    section.add(name, value, limits);
    expected += name + ": " + value + "\r\n";
  }
  section.add(":path", "/late", limits);
  CHECK_FALSE(section.too_large);
  CHECK(std::string_view(section.bytes.data(), section.size).starts_with(expected));
  CHECK(section.path == "/late");
  for (size_t i = 0; i < 300; ++i) {
    REQUIRE(section.fields[i].name == "x-" + std::to_string(i));
    REQUIRE(section.fields[i].value == std::string(i, 'v'));
  }
}

TEST_CASE("what is beyond a limit of a field section is counted and not kept") {
  FieldSection bytes;
  const HeadLimits small{100, 10};
  bytes.add("a", std::string(67, 'x'), small);  // and 32
  CHECK_FALSE(bytes.too_large);
  bytes.add("b", "", small);
  CHECK(bytes.too_large);
  const size_t kept = bytes.size;
  bytes.add("c", std::string(10'000, 'x'), small);
  CHECK(bytes.size == kept);
  CHECK(bytes.fields.size() == 1);
  CHECK(bytes.counted_bytes > 10'000);
  CHECK(bytes.count == 3);
  FieldSection fields;
  for (int i = 0; i < 3; ++i) fields.add("x", "", {64 * 1024, 2});
  CHECK(fields.too_large);
  CHECK(fields.fields.size() == 2);
}

}  // namespace gatehouse::http
