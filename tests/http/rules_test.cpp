#include "http/rules.hpp"

#include <catch2/catch.hpp>

#include "http/authority.hpp"

using namespace gatehouse::http;

namespace {

using Pairs = std::vector<std::pair<std::string_view, std::string_view>>;

RequestHead request(const Pairs& fields, std::string_view target = "/", Method method = Method::get,
                    Version version = Version::http11) {
  RequestHead head;
  head.method = method;
  head.version = version;
  head.target = target;
  for (const auto& [name, value] : fields) {
    head.fields.push_back(Field{name, value, field_id(name)});
  }
  return head;
}

ResponseHead response(uint16_t status, const Pairs& fields, Version version = Version::http11) {
  ResponseHead head;
  head.status = status;
  head.version = version;
  for (const auto& [name, value] : fields) {
    head.fields.push_back(Field{name, value, field_id(name)});
  }
  return head;
}

/// 0: passes.
int refusal_of(RequestHead head) {
  const auto refusal = check_request(head);
  return refusal ? refusal->status : 0;
}

int refusal_with(const Pairs& fields) {
  Pairs all = fields;
  all.insert(all.begin(), {"Host", "example.com"});
  return refusal_of(request(all, "/", Method::post));
}

int refusal_for_target(std::string_view target, Method method = Method::get) {
  return refusal_of(request({{"Host", "example.com"}}, target, method));
}

int refusal_for_host(std::string_view host) {
  return refusal_of(request({{"Host", host}}));
}

bool forwards(const Fields& fields, std::string_view name) {
  for (const Field& field : fields) {
    if (!field.skip && equal_ignoring_case(field.name, name)) return true;
  }
  return false;
}

std::string normal(std::string_view target) {
  std::string out;
  bool slash = false;
  if (!normalise_path(target, out, slash)) return "refused";
  return slash ? out + " (slash)" : out;
}

std::string host_of_text(std::string_view authority) {
  OwnedText owned;
  const std::string_view host = host_name(authority, owned);
  return std::string(host.empty() ? "refused" : host);
}

}  // namespace

TEST_CASE("a request's body is framed by its length or by chunks") {
  RequestHead none = request({{"Host", "a"}});
  CHECK_FALSE(check_request(none));
  CHECK(none.framing == Framing::none);

  RequestHead length = request({{"Host", "a"}, {"Content-Length", "42"}}, "/", Method::post);
  CHECK_FALSE(check_request(length));
  CHECK(length.framing == Framing::length);
  CHECK(length.content_length == 42);
  CHECK(forwards(length.fields, "content-length"));

  RequestHead zero = request({{"Host", "a"}, {"Content-Length", "0"}}, "/", Method::post);
  CHECK_FALSE(check_request(zero));
  CHECK(zero.framing == Framing::none);
  CHECK(forwards(zero.fields, "content-length"));

  RequestHead chunked = request({{"Host", "a"}, {"Transfer-Encoding", "CHUNKED"}});
  CHECK_FALSE(check_request(chunked));
  CHECK(chunked.framing == Framing::chunked);
  CHECK_FALSE(forwards(chunked.fields, "transfer-encoding"));
}

TEST_CASE("Content-Length is digits once, or the request is refused") {
  for (const char* value :
       {"", "+5", "-5", "5 ", " 5", "5,5", "5, 5", "0x5", "5a", "1e3", "5.0", "9223372036854775808",
        "18446744073709551616", "99999999999999999999", "\t5"}) {
    CAPTURE(value);
    CHECK(refusal_with({{"Content-Length", value}}) == 400);
  }
  CHECK(refusal_with({{"Content-Length", "9223372036854775807"}}) == 0);
  CHECK(refusal_with({{"Content-Length", "5"}, {"Content-Length", "6"}}) == 400);
  CHECK(refusal_with({{"Content-Length", "5"}, {"Content-Length", "5"}}) == 400);
  CHECK(refusal_with({{"Content-Length", "5"}, {"content-length", "5"}}) == 400);
}

TEST_CASE("Transfer-Encoding is one final chunked, or the request is refused") {
  CHECK(refusal_with({{"Transfer-Encoding", "chunked"}}) == 0);
  for (const char* value : {"gzip", "gzip, chunked", "identity", "xchunked", "chunkedx",
                            "gzip;q=1, chunked", "deflate", "br"}) {
    CAPTURE(value);
    CHECK(refusal_with({{"Transfer-Encoding", value}}) == 501);
  }
  for (const char* value :
       {"", ",", "chunked,", ",chunked", "chunked, chunked", "chunked, gzip", "chunked;q=1",
        "\"chunked\"", "chun ked", "chunked\x01", "gzip,,chunked", "\xc3\xa7hunked"}) {
    CAPTURE(value);
    CHECK(refusal_with({{"Transfer-Encoding", value}}) == 400);
  }
  CHECK(refusal_with({{"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"}}) == 400);
  CHECK(refusal_with({{"Transfer-Encoding", "identity"}, {"Transfer-Encoding", "chunked"}}) == 400);
  CHECK(refusal_with({{"Transfer-Encoding", "chunked"}, {"Content-Length", "5"}}) == 400);
  CHECK(refusal_with({{"Content-Length", "0"}, {"Transfer-Encoding", "chunked"}}) == 400);
  CHECK(refusal_with({{"Content-Length", "5"}, {"Transfer-Encoding", "gzip"}}) == 400);
  CHECK(refusal_of(request({{"Host", "a"}, {"Transfer-Encoding", "chunked"}}, "/", Method::post,
                           Version::http10)) == 400);
}

TEST_CASE("HTTP/1.1 demands exactly one valid Host") {
  CHECK(refusal_of(request({})) == 400);
  CHECK(refusal_of(request({{"Host", "a"}, {"Host", "a"}})) == 400);
  CHECK(refusal_of(request({{"Host", "a"}, {"host", "b"}})) == 400);
  CHECK(refusal_of(request({}, "/", Method::get, Version::http10)) == 0);
  CHECK(refusal_of(request({{"Host", "a b"}}, "/", Method::get, Version::http10)) == 400);
  for (const char* host : {"example.com", "EXAMPLE.com:8443", "example.com:", "127.0.0.1:80",
                           "[::1]", "[2001:db8::1]:443", "a_b.example", "xn--bcher-kva.example",
                           "example.com.", "localhost:65535"}) {
    CAPTURE(host);
    CHECK(refusal_for_host(host) == 0);
  }
  for (const char* host : {"",
                           ":80",
                           "a b",
                           "a,b",
                           "user@a",
                           "a/b",
                           "a?b",
                           "a#b",
                           "a%41",
                           "a:b",
                           "a:80:80",
                           "a:65536",
                           "a:123456",
                           "a:-1",
                           "[::1",
                           "::1",
                           "[::1]x",
                           "[::g]",
                           "[]",
                           "[1.2.3.4]",
                           "[fe80::1%25eth0]",
                           ".a",
                           "a..b",
                           ".",
                           "a\\b",
                           "b\xc3\xbc"
                           "cher.example",
                           "a\tb",
                           "<a>",
                           "a;b",
                           "a\"b"}) {
    CAPTURE(host);
    CHECK(refusal_for_host(host) == 400);
  }
  CHECK(refusal_for_host(std::string(255, 'a')) == 0);
  CHECK(refusal_for_host(std::string(256, 'a')) == 400);
}

TEST_CASE("a target in absolute form is taken apart, and its host wins") {
  RequestHead head = request({{"Host", "other.example"}}, "HTTP://example.com:8080/p?q=1");
  REQUIRE_FALSE(check_request(head));
  CHECK(head.authority == "example.com:8080");
  CHECK(head.target == "/p?q=1");
  CHECK(head.scheme == "HTTP");
  CHECK_FALSE(forwards(head.fields, "host"));

  RequestHead bare = request({{"Host", "a"}}, "https://example.com");
  REQUIRE_FALSE(check_request(bare));
  CHECK(bare.target == "/");

  RequestHead query = request({{"Host", "a"}}, "http://example.com?x=/y");
  REQUIRE_FALSE(check_request(query));
  CHECK(query.target == "/?x=/y");
  CHECK(query.authority == "example.com");

  RequestHead options = request({{"Host", "a"}}, "http://example.com", Method::options);
  REQUIRE_FALSE(check_request(options));
  CHECK(options.target == "*");

  CHECK(refusal_of(request({}, "http://example.com/")) == 400);  // Host is still demanded
}

TEST_CASE("targets of other forms are refused") {
  CHECK(refusal_for_target("*", Method::options) == 0);
  CHECK(refusal_for_target("*") == 400);
  CHECK(refusal_for_target("//double/slash") == 0);
  CHECK(refusal_for_target("/a|b{c}\"<>\\^`") == 0);  // what browsers leave unescaped
  for (const char* target : {"",
                             "example.com",
                             "example.com:443",
                             "ftp://example.com/",
                             "http:/example.com",
                             "http://",
                             "http:///path",
                             "http://a b/",
                             "http://user@example.com/",
                             "http://user:pw@example.com/",
                             "?q",
                             "http://[::1/",
                             "/a#b",
                             "/a b",
                             "/a\tb",
                             "/\x7f",
                             "/\x01",
                             "/b\xc3\xbc",
                             "../",
                             "ws://example.com/",
                             "://example.com/"}) {
    CAPTURE(target);
    CHECK(refusal_for_target(target) == 400);
  }
}

TEST_CASE("CONNECT and TRACE are not served") {
  CHECK(refusal_for_target("example.com:443", Method::connect) == 405);
  CHECK(refusal_for_target("/", Method::trace) == 405);
  CHECK(refusal_for_target("/", Method::other) == 0);
}

TEST_CASE("only 100-continue may be expected, and only where a body follows") {
  CHECK(refusal_with({{"Expect", "200-ok"}}) == 417);
  CHECK(refusal_with({{"Expect", "100-continue, foo"}}) == 417);
  CHECK(refusal_with({{"Expect", ""}}) == 417);

  RequestHead body = request({{"Host", "a"}, {"Expect", "100-Continue"}, {"Content-Length", "3"}});
  REQUIRE_FALSE(check_request(body));
  CHECK(body.expect_continue);
  CHECK(forwards(body.fields, "expect"));

  RequestHead empty = request({{"Host", "a"}, {"Expect", "100-continue"}});
  REQUIRE_FALSE(check_request(empty));
  CHECK_FALSE(empty.expect_continue);
  CHECK_FALSE(forwards(empty.fields, "expect"));

  RequestHead old = request({{"Expect", "100-continue"}, {"Content-Length", "3"}}, "/",
                            Method::post, Version::http10);
  REQUIRE_FALSE(check_request(old));
  CHECK_FALSE(old.expect_continue);
  CHECK_FALSE(forwards(old.fields, "expect"));
}

TEST_CASE("a connection goes on as its version and Connection say") {
  const auto keeps = [](const Pairs& fields, Version version) {
    Pairs all = fields;
    all.push_back({"Host", "a"});
    RequestHead head = request(all, "/", Method::get, version);
    REQUIRE_FALSE(check_request(head));
    return head.keep_alive;
  };
  CHECK(keeps({}, Version::http11));
  CHECK_FALSE(keeps({}, Version::http10));
  CHECK(keeps({{"Connection", "Keep-Alive"}}, Version::http10));
  CHECK_FALSE(keeps({{"Connection", "close"}}, Version::http11));
  CHECK_FALSE(keeps({{"Connection", "CLOSE"}}, Version::http11));
  CHECK_FALSE(keeps({{"Connection", "foo, close"}}, Version::http11));
  CHECK_FALSE(keeps({{"Connection", "foo"}, {"Connection", "close"}}, Version::http11));
  CHECK_FALSE(keeps({{"Connection", "keep-alive, close"}}, Version::http10));
  CHECK_FALSE(keeps({{"Proxy-Connection", "keep-alive"}}, Version::http10));
  CHECK(keeps({{"Connection", ", ,"}}, Version::http11));
}

TEST_CASE("hop-by-hop fields stop here, with all that Connection names") {
  RequestHead head = request({{"Host", "a"},
                              {"Connection", "X-First, Upgrade"},
                              {"connection", "x-second"},
                              {"X-First", "1"},
                              {"X-Second", "2"},
                              {"x-second", "3"},
                              {"X-Third", "4"},
                              {"Keep-Alive", "timeout=5"},
                              {"Proxy-Connection", "keep-alive"},
                              {"TE", "gzip, trailers"},
                              {"Upgrade", "h2c"},
                              {"HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"}});
  REQUIRE_FALSE(check_request(head));
  for (const Field& field : head.fields) {
    CAPTURE(field.name);
    CHECK(field.skip == (field.name != "X-Third"));
  }
  CHECK(head.accepts_trailers);
}

TEST_CASE("Connection cannot make fields disappear that the proxy or the origin depends on") {
  RequestHead head =
      request({{"Host", "a"},
               {"Connection",
                "content-length, host, authorization, cookie, x-forwarded-for, forwarded, via"},
               {"Content-Length", "3"},
               {"Authorization", "Basic eA=="},
               {"Cookie", "a=b"},
               {"X-Forwarded-For", "10.0.0.1"},
               {"Forwarded", "for=10.0.0.1"},
               {"Via", "1.1 x"}},
              "/", Method::post);
  REQUIRE_FALSE(check_request(head));
  CHECK(head.framing == Framing::length);
  for (const char* name :
       {"Content-Length", "Authorization", "Cookie", "X-Forwarded-For", "Forwarded", "Via"}) {
    CAPTURE(name);
    CHECK(forwards(head.fields, name));
  }
  CHECK(refusal_with({{"Connection", "a b"}}) == 400);
  CHECK(refusal_with({{"Connection", "\"close\""}}) == 400);
  std::string many;
  for (int i = 0; i < 33; ++i) many += "x" + std::to_string(i) + ",";
  CHECK(refusal_with({{"Connection", many}}) == 400);
}

TEST_CASE("a response's body is framed as RFC 9112 section 6.3 says") {
  struct Row {
    uint16_t status;
    Pairs fields;
    Method method;
    Framing framing;
    bool keep_alive;
  };
  const Row rows[] = {
      {200, {{"Content-Length", "5"}}, Method::get, Framing::length, true},
      {200, {{"Content-Length", "0"}}, Method::get, Framing::none, true},
      {200, {{"Transfer-Encoding", "chunked"}}, Method::get, Framing::chunked, true},
      {200, {}, Method::get, Framing::until_close, false},
      {200, {{"Connection", "keep-alive"}}, Method::get, Framing::until_close, false},
      {200, {{"Content-Length", "5"}}, Method::head, Framing::none, true},
      {200, {}, Method::head, Framing::none, true},
      {200, {{"Transfer-Encoding", "chunked"}}, Method::head, Framing::none, true},
      {304, {{"Content-Length", "5"}}, Method::get, Framing::none, true},
      {304, {}, Method::get, Framing::none, true},
      {204, {}, Method::get, Framing::none, true},
      {204, {{"Content-Length", "0"}}, Method::get, Framing::none, true},
      {204, {{"Content-Length", "5"}}, Method::get, Framing::none, false},
      {204, {{"Transfer-Encoding", "chunked"}}, Method::get, Framing::none, false},
      {100, {}, Method::post, Framing::none, true},
      {103, {{"Link", "</a>"}}, Method::get, Framing::none, true},
      {205, {{"Content-Length", "0"}}, Method::get, Framing::none, true},
      {205, {}, Method::get, Framing::until_close, false},
      {500,
       {{"Content-Length", "7"}, {"Connection", "close"}},
       Method::get,
       Framing::length,
       false},
      {999, {{"Content-Length", "7"}}, Method::get, Framing::length, true},
  };
  for (const Row& row : rows) {
    CAPTURE(row.status, int(row.method));
    ResponseHead head = response(row.status, row.fields);
    REQUIRE_FALSE(check_response(head, row.method));
    CHECK(head.framing == row.framing);
    CHECK(head.keep_alive == row.keep_alive);
    CHECK_FALSE(forwards(head.fields, "transfer-encoding"));
  }
}

TEST_CASE("an announced length survives HEAD and 304, and never 204") {
  ResponseHead head = response(200, {{"Content-Length", "1234"}});
  REQUIRE_FALSE(check_response(head, Method::head));
  CHECK(head.has_content_length);
  CHECK(head.content_length == 1234);
  CHECK(forwards(head.fields, "content-length"));

  ResponseHead none = response(204, {{"Content-Length", "0"}});
  REQUIRE_FALSE(check_response(none, Method::get));
  CHECK_FALSE(none.has_content_length);
  CHECK_FALSE(forwards(none.fields, "content-length"));
}

TEST_CASE("a response whose framing is ambiguous is a bad gateway") {
  const Pairs bad[] = {
      {{"Content-Length", "5"}, {"Transfer-Encoding", "chunked"}},
      {{"Content-Length", "5"}, {"Content-Length", "5"}},
      {{"Content-Length", "5"}, {"Content-Length", "6"}},
      {{"Content-Length", "5, 5"}},
      {{"Content-Length", "-1"}},
      {{"Content-Length", ""}},
      {{"Transfer-Encoding", "gzip"}},
      {{"Transfer-Encoding", "gzip, chunked"}},
      {{"Transfer-Encoding", "chunked, chunked"}},
      {{"Transfer-Encoding", ""}},
      {{"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"}},
      {{"Connection", "a b"}},
  };
  for (const Pairs& fields : bad) {
    for (const Method method : {Method::get, Method::head}) {
      ResponseHead head = response(200, fields);
      const auto refusal = check_response(head, method);
      REQUIRE(refusal);
      CHECK(refusal->status == 502);
    }
  }
  ResponseHead old = response(200, {{"Transfer-Encoding", "chunked"}}, Version::http10);
  CHECK(check_response(old, Method::get));
  ResponseHead switching = response(101, {{"Upgrade", "websocket"}});
  CHECK(check_response(switching, Method::get));
  ResponseHead zero = response(99, {});
  CHECK(check_response(zero, Method::get));
}

TEST_CASE("an HTTP/1.0 origin keeps its connection only when it says so") {
  ResponseHead silent = response(200, {{"Content-Length", "1"}}, Version::http10);
  REQUIRE_FALSE(check_response(silent, Method::get));
  CHECK_FALSE(silent.keep_alive);
  ResponseHead kept =
      response(200, {{"Content-Length", "1"}, {"Connection", "keep-alive"}}, Version::http10);
  REQUIRE_FALSE(check_response(kept, Method::get));
  CHECK(kept.keep_alive);
}

TEST_CASE("framing, routing and authentication do not pass as trailers") {
  for (const char* name : {"Content-Length", "transfer-encoding", "Host", "Authorization", "Cookie",
                           "Set-Cookie", "X-Forwarded-For", "x-forwarded-anything", "Connection",
                           "TE", "Trailer", "Content-Type", "Via", "Range", "Expect"}) {
    CAPTURE(name);
    CHECK_FALSE(trailer_allowed(name));
  }
  for (const char* name :
       {"grpc-status", "Grpc-Message", "ETag", "Digest", "Server-Timing", "X-A"}) {
    CAPTURE(name);
    CHECK(trailer_allowed(name));
  }
}

TEST_CASE("the path for routing is decoded where that changes nothing, and resolved") {
  CHECK(normal("/") == "/");
  CHECK(normal("/a/b?c=/../d") == "/a/b");
  CHECK(normal("/%61%2D%7e") == "/a-~");
  CHECK(normal("/%c3%bc") == "/%C3%BC");
  CHECK(normal("/a/./b/../c") == "/a/c");
  CHECK(normal("/a/..") == "/");
  CHECK(normal("/a/.") == "/a/");
  CHECK(normal("/a/b/..") == "/a/");
  CHECK(normal("/a/%2e%2E/b") == "/b");
  CHECK(normal("//a///b") == "/a/b");
  CHECK(normal("/a/../b//c") == "/b/c");
  CHECK(normal("/...") == "/...");
  CHECK(normal("/..a/.b") == "/..a/.b");
  CHECK(normal("/a%2Fb") == "/a%2Fb (slash)");
  CHECK(normal("/a%5cb") == "/a%5Cb (slash)");
  CHECK(normal("/a\\b") == "/a\\b (slash)");
  CHECK(normal("/%252e%252e/") == "/%252e%252e/");  // decoded once only
  CHECK(normal("/a%3Fb") == "/a%3Fb");
  CHECK(normal("*") == "*");
}

TEST_CASE("a path that climbs above the root, or cannot be decoded, is refused") {
  for (const char* target :
       {"/..", "/../", "/a/../..", "/%2e%2e", "/.%2e/x", "/a/../../b", "//..", "/%00", "/a%00b",
        "/%", "/%4", "/%zz", "/a%2", "/..;/a", "/a/..;x/b", "/.;/a", "", "a"}) {
    CAPTURE(target);
    CHECK(normal(target) == "refused");
  }
}

TEST_CASE("a path that origins resolve in two ways is refused") {
  for (const char* target : {"/a//../b", "/a/.//../b", "/a//./../b", "//a/..", "/a//b/../../c",
                             "/admin//%2e%2e/x", "/a//.."}) {
    CAPTURE(target);
    CHECK(normal(target) == "refused");
  }
}

TEST_CASE("a host's name is compared in lower case and without its port") {
  CHECK(host_of_text("Example.COM:8443") == "example.com");
  CHECK(host_of_text("example.com") == "example.com");
  CHECK(host_of_text("example.com.") == "example.com");
  CHECK(host_of_text("EXAMPLE.com.:1") == "example.com");
  CHECK(host_of_text("[2001:DB8::1]:443") == "[2001:db8::1]");
  CHECK(host_of_text("10.0.0.1:1") == "10.0.0.1");
  for (const char* bad : {"", ".", ":1", "a..b", "[::1", "a@b", "a:99999"}) {
    CAPTURE(bad);
    CHECK(host_of_text(bad) == "refused");
  }
  CHECK(host_of_text({"[::1\0a.example]", 15}) == "refused");
  CHECK(host_of_text({"[::1\0]", 6}) == "refused");
}

TEST_CASE("tokens and field values hold what RFC 9110 lets them hold") {
  CHECK(is_token("x-A.1!#$%&'*+^_`|~"));
  CHECK_FALSE(is_token(""));
  for (const char c : std::string_view(" \t\"(),/:;<=>?@[\\]{}\x7f\x80\xff")) {
    CHECK_FALSE(is_token(std::string(1, c)));
  }
  CHECK(is_field_value(""));
  CHECK(is_field_value("a b\tc \xc3\xbc"));
  for (int c = 0; c < 256; ++c) {
    const bool allowed = c == '\t' || (c >= 0x20 && c != 0x7f);
    CHECK(is_field_value(std::string(1, static_cast<char>(c))) == allowed);
  }
}

TEST_CASE("only idempotent methods may be sent again") {
  for (const Method method :
       {Method::get, Method::head, Method::put, Method::delete_, Method::options, Method::trace}) {
    CHECK(is_idempotent(method));
  }
  for (const Method method : {Method::post, Method::patch, Method::connect, Method::other}) {
    CHECK_FALSE(is_idempotent(method));
  }
}

TEST_CASE("a response over HTTP/2 without a length needs an end of its own over HTTP/1.1") {
  const auto framing = [](uint16_t status, const Pairs& fields, Method method = Method::get) {
    ResponseHead head = response(status, fields, Version::http2);
    REQUIRE_FALSE(check_http2_response(head, method));
    return head.framing;
  };
  CHECK(framing(200, {}) == Framing::until_close);
  CHECK(framing(404, {{"x-a", "b"}}) == Framing::until_close);
  CHECK(framing(200, {{"content-length", "5"}}) == Framing::length);
  CHECK(framing(200, {{"content-length", "0"}}) == Framing::none);
  CHECK(framing(200, {}, Method::head) == Framing::none);
  CHECK(framing(204, {}) == Framing::none);
  CHECK(framing(304, {{"content-length", "5"}}) == Framing::none);
  CHECK(framing(103, {}) == Framing::none);
}
