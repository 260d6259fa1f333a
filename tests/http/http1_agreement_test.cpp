// Every way a request can come in: in one look, through the scanner in pieces, over a connection
// whole and split. All must agree on the verdict, the status and what was understood; where two
// readers of the same bytes differ, requests are smuggled.
#include <memory>

#include <catch2/catch.hpp>

#include "http/http1_parser.hpp"
#include "http/http1_server.hpp"
#include "tests/support/head_text.hpp"
#include "tests/support/stage.hpp"

namespace gatehouse::http {

namespace {

using test::text_of;

constexpr HeadLimits limits{.bytes_max = 512, .fields_max = 8};
const std::string unfinished = "unfinished";
const std::string passes = "passes";

std::string refused(unsigned status) {
  return "refused " + std::to_string(status);
}

/// One input, and what becomes of it.
struct Case {
  std::string input;
  std::string verdict;
};

// --- the readers: each says "refused 400", "unfinished", or what it understood

std::string parsed(std::string_view bytes, const HeadScanner& scanner) {
  RequestHead head;
  const auto refusal = parse_request(bytes.substr(0, scanner.length()), limits, head);
  return refusal ? refused(refusal->status) : text_of(head);
}

/// Through the scanner: `first` bytes, then `step` more at a time.
std::string scanned(std::string_view bytes, size_t first, size_t step) {
  HeadScanner scanner;
  for (size_t size = first;; size = std::min(size + step, bytes.size())) {
    const auto status = scanner.scan(bytes.substr(0, size), limits);
    if (status == HeadScanner::Status::complete) return parsed(bytes, scanner);
    if (status == HeadScanner::Status::refused) return refused(scanner.refusal().status);
    if (size == bytes.size()) return unfinished;
  }
}

/// In one look; it does not tell why a request is none.
std::string looked_at(std::string_view bytes) {
  RequestHead head;
  return parse_whole_request(bytes, limits, head) > 0 ? text_of(head) : "none";
}

struct Visit {
  tls::Stream* stream = nullptr;
  std::unique_ptr<Http1Server> server;
  std::string head;  // or the refusal
  std::string body;
  bool ended = false;
};

base::Task<void> read_body(Visit& visit) {
  for (bool last = false; !last;) {
    auto reading = visit.server->read_body();
    const bool read = co_await reading;
    if (!read) {
      visit.body = "failed: " + visit.server->error().context;
      co_return;
    }
    const BodyChunk chunk = visit.server->chunk();
    visit.body += chunk.bytes;
    last = chunk.last;
    if (chunk.trailers == nullptr) continue;
    for (const auto& [name, value] : *chunk.trailers) visit.body += "|" + name + "=" + value;
  }
}

base::Task<void> read_request(Visit& visit) {
  auto reading = visit.server->read_request();
  const bool come = co_await reading;
  const auto& refusal = visit.server->refusal();
  if (come) {
    visit.head = text_of(visit.server->request());
    auto body = read_body(visit);
    co_await body;
  } else {
    visit.head = refusal ? refused(refusal->status) : unfinished;
  }
  visit.ended = true;
}

/// Over a connection: `first` bytes, then `step` more at a time; then the client says no more.
struct Served {
  std::string head, body;
};
Served served(std::string_view bytes, size_t first, size_t step) {
  test::Stage stage;
  test::SocketPair pair;
  tls::Stream stream(stage.reactor, base::Side::downstream);
  REQUIRE(stream.open(pair.ours));
  Http1Server::Settings settings;
  settings.head = limits;
  settings.header_timeout = settings.idle_timeout = settings.body_timeout =
      std::chrono::seconds(30);
  Visit visit;
  visit.server = std::make_unique<Http1Server>(stream, stage.reactor, settings);
  base::spawn(read_request(visit));
  for (size_t at = 0, size = first; at < bytes.size() && !visit.ended; at += size, size = step) {
    pair.send(bytes.substr(at, size));
    stage.settle();
    size = std::min(size, bytes.size() - at);
    if (at + size == bytes.size()) break;
  }
  pair.finish();
  stage.until([&] { return visit.ended; });
  stream.fail(base::ErrorKind::cancelled, "the test is over");
  stage.settle();
  return {visit.head, visit.body};
}

/// Reads every way, demands that all agree, and returns the verdict.
std::string verdict_of(const std::string& input) {
  const size_t size = input.size();
  const std::string whole = scanned(input, size, size);
  const bool none = whole == unfinished || whole.starts_with("refused");
  CHECK(looked_at(input) == (none ? "none" : whole));
  CHECK(scanned(input, 1, 1) == whole);
  const Served at_once = served(input, size, size);
  CHECK(at_once.head == whole);
  const Served by_bytes = served(input, 1, 1);
  CHECK(by_bytes.head == whole);
  CHECK(by_bytes.body == at_once.body);
  for (size_t split = 1; split < size; ++split) {
    CAPTURE(split);
    REQUIRE(scanned(input, split, size) == whole);
    const Served in_two = served(input, split, size);
    REQUIRE(in_two.head == whole);
    REQUIRE(in_two.body == at_once.body);
  }
  return none ? whole : passes;
}

void check(const std::vector<Case>& cases) {
  for (const auto& [input, verdict] : cases) {
    CAPTURE(input);
    CHECK(verdict_of(input) == verdict);
  }
}

const std::string host = "Host: a.example\r\n";

std::string get(const std::string& fields) {
  return "GET / HTTP/1.1\r\n" + host + fields + "\r\n";
}
std::string line(const std::string& request_line) {
  return request_line + "\r\n" + host + "\r\n";
}

}  // namespace

TEST_CASE("well-formed requests are understood the same every way") {
  check({
      {get(""), passes},
      {get("A: b\r\nA: c\r\nEmpty:\r\nWide: \t b \t\r\nObs: \xc3\xbc\xff\r\n"), passes},
      {line("PATCH /p;x=1?q=%41&r=[]{}|\\^`\"<> HTTP/1.1"), passes},
      {line("get / HTTP/1.1"), passes},
      {line("M-SEARCH / HTTP/1.1"), passes},
      {"GET / HTTP/1.0\r\n\r\n", passes},
      {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", passes},
      {"\r\n" + get(""), passes},
      {"OPTIONS * HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", passes},
      {line("OPTIONS http://a.example HTTP/1.1"), passes},
      {get("Connection: close, X-Hop,, upgrade\r\nX-Hop: 1\r\nUpgrade: h2c\r\n"), passes},
      {get("TE: trailers\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nHTTP2-Settings: AAMA\r\n"),
       passes},
      {get("Content-Length: 0\r\n"), passes},
      {get("Content-Length: 0005\r\nExpect: 100-Continue\r\n") + "hello", passes},
      {get("") + "GET /2 HTTP/1.1\r\nHost: b\r\n\r\n", passes},
      {get("") + "GARBAGE \x01\n", passes},
  });
}

TEST_CASE("a request's framing is refused the same every way") {
  check({
      {get("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), refused(400)},
      {get("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + "hello", refused(400)},
      {get("content-length: 0\r\nTRANSFER-ENCODING: chunked\r\n"), refused(400)},
      {get("Content-Length: 5\r\nContent-Length: 6\r\n"), refused(400)},
      {get("Content-Length: 5\r\ncontent-length: 5\r\n"), refused(400)},
      {get("Content-Length: 5, 5\r\n"), refused(400)},
      {get("Content-Length: 5,6\r\n"), refused(400)},
      {get("Content-Length: +5\r\n"), refused(400)},
      {get("Content-Length: -5\r\n"), refused(400)},
      {get("Content-Length: 5 5\r\n"), refused(400)},
      {get("Content-Length: 5\t0\r\n"), refused(400)},
      {get("Content-Length: 0x5\r\n"), refused(400)},
      {get("Content-Length: 5.0\r\n"), refused(400)},
      {get("Content-Length: \r\n"), refused(400)},
      {get("Content-Length: \xd9\xa5\r\n"), refused(400)},  // a digit elsewhere
      {get("Content-Length: 9223372036854775808\r\n"), refused(400)},
      {get("Content-Length: 18446744073709551621\r\n"), refused(400)},
      {get("Transfer-Encoding: gzip\r\n"), refused(501)},
      {get("Transfer-Encoding: gzip, chunked\r\n"), refused(501)},
      {get("Transfer-Encoding: identity\r\n"), refused(501)},
      {get("Transfer-Encoding: xchunked\r\n"), refused(501)},
      {get("Transfer-Encoding: chunked, gzip\r\n"), refused(400)},
      {get("Transfer-Encoding: chunked, chunked\r\n"), refused(400)},
      {get("Transfer-Encoding: chunked;q=1\r\n"), refused(400)},
      {get("Transfer-Encoding: chunked,\r\n"), refused(400)},
      {get("Transfer-Encoding: \"chunked\"\r\n"), refused(400)},
      {get("Transfer-Encoding: chun ked\r\n"), refused(400)},
      {get("Transfer-Encoding: \x0b"
           "chunked\r\n"),
       refused(400)},
      {get("Transfer-Encoding: chunked\x0c\r\n"), refused(400)},
      {get("Transfer-Encoding:\r\n"), refused(400)},
      {get("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), refused(400)},
      {get("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"), refused(400)},
      {get("Transfer-Encoding : chunked\r\n"), refused(400)},
      {"POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", refused(400)},
      {get("Connection: a b\r\n"), refused(400)},
      {get("Expect: the-impossible\r\n"), refused(417)},
  });
}

TEST_CASE("line ends and control characters are refused the same every way") {
  check({
      {"GET / HTTP/1.1\n" + host + "\r\n", refused(400)},
      {"GET / HTTP/1.1\r\nHost: a\n\r\n", refused(400)},
      {"GET / HTTP/1.1\r\nHost: a\r\n\n", refused(400)},
      {get("A: b\nC: d\r\n"), refused(400)},
      {"GET / HTTP/1.1\r" + host + "\r\n", refused(400)},
      {"GET / HTTP/1.1\r\nHost: a\r\rX: b\r\n\r\n", refused(400)},
      {get("A: b\rC: d\r\n"), refused(400)},
      {get("A: b\r\r\n"), refused(400)},
      {"GET / HTTP/1.1\r\n" + host + "\rX\r\n", refused(400)},
      {"\n" + get(""), refused(400)},
      {"\rG" + get(""), refused(400)},
      {"\r\n\r\n" + get(""), refused(400)},
      {"\r\n " + get(""), refused(400)},
      {get(std::string("A: b\0c\r\n", 8)), refused(400)},
      {get(std::string("A\0: b\r\n", 7)), refused(400)},
      {std::string("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 29), refused(400)},
      {std::string("G\0T / HTTP/1.1\r\nHost: a\r\n\r\n", 28), refused(400)},
      {get("A: \x01\r\n"), refused(400)},
      {get("A: \x0b\r\n"), refused(400)},
      {get("A: \x1b[31m\r\n"), refused(400)},
      {get("A: b\x7f\r\n"), refused(400)},
      {line("GET /\t HTTP/1.1"), refused(400)},
      {line("GET /\x7f HTTP/1.1"), refused(400)},
  });
}

TEST_CASE("field names, folds and hosts are refused the same every way") {
  check({
      {get("Space : b\r\n"), refused(400)},
      {get("Tab\t: b\r\n"), refused(400)},
      {get(" lead: b\r\n"), refused(400)},
      {get("A: b\r\n folded\r\n"), refused(400)},
      {get("A: b\r\n\tfolded\r\n"), refused(400)},
      {get("A: b\r\n \r\n"), refused(400)},
      {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", refused(400)},
      {get(": empty\r\n"), refused(400)},
      {get("nocolon\r\n"), refused(400)},
      {get("na me: b\r\n"), refused(400)},
      {get("na(me: b\r\n"), refused(400)},
      {get("n\xc3\xa4me: b\r\n"), refused(400)},
      {get("\"a\": b\r\n"), refused(400)},
      {"GET / HTTP/1.1\r\n\r\n", refused(400)},
      {get("Host: a.example\r\n"), refused(400)},
      {get("host: b.example\r\n"), refused(400)},
      {"GET / HTTP/1.0\r\nHost: a b\r\n\r\n", refused(400)},
      {"GET / HTTP/1.1\r\nHost:\r\n\r\n", refused(400)},
      {"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", refused(400)},
      {"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", refused(400)},
      {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", refused(400)},
      {"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", refused(400)},
      {"GET / HTTP/1.1\r\nHost: [::g]\r\n\r\n", refused(400)},
      {"GET / HTTP/1.1\r\nHost: a..b\r\n\r\n", refused(400)},
  });
}

TEST_CASE("request lines are refused the same every way") {
  check({
      {line("CONNECT a.example:443 HTTP/1.1"), refused(405)},
      {line("TRACE / HTTP/1.1"), refused(405)},
      {line("GET / HTTP/2.0"), refused(505)},
      {line("GET / HTTP/1.2"), refused(505)},
      {line("GET / HTTP/0.9"), refused(505)},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", refused(505)},
      {line("GET / HTTP/1.10"), refused(400)},
      {line("GET / http/1.1"), refused(400)},
      {line("GET / HTTP/1,1"), refused(400)},
      {line("GET /"), refused(400)},
      {line("GET"), refused(400)},
      {line("GET  / HTTP/1.1"), refused(400)},
      {line("GET /  HTTP/1.1"), refused(400)},
      {line("GET / HTTP/1.1 "), refused(400)},
      {line("GET /a b HTTP/1.1"), refused(400)},
      {line(" GET / HTTP/1.1"), refused(400)},
      {line("G(T / HTTP/1.1"), refused(400)},
      {line("GET a HTTP/1.1"), refused(400)},
      {line("GET * HTTP/1.1"), refused(400)},
      {line("GET /#a HTTP/1.1"), refused(400)},
      {line("GET /\xc3\xa4 HTTP/1.1"), refused(400)},
      {line("GET ftp://a.example/ HTTP/1.1"), refused(400)},
      {line("GET http:///x HTTP/1.1"), refused(400)},
      {line("GET http://u@a.example/ HTTP/1.1"), refused(400)},
      {std::string("\x16\x03\x01\x02\x00\x01", 6), refused(400)},
      {"{\"a\": 1}\r\n", refused(400)},
  });
}

TEST_CASE("limits refuse the same every way, and a head without its end is unfinished") {
  const std::string fits = get("A: " + std::string(512 - get("A: \r\n").size(), 'x') + "\r\n");
  REQUIRE(fits.size() == limits.bytes_max);
  check({
      {fits, passes},
      {get("A: " + std::string(512 - get("A: \r\n").size() + 1, 'x') + "\r\n"), refused(431)},
      {line("GET /" + std::string(600, 'x') + " HTTP/1.1"), refused(414)},
      {"GET /" + std::string(600, 'x'), refused(414)},
      {"GET / HTTP/1.1\r\nA: " + std::string(600, 'x'), refused(431)},
      {get("A:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\nG:\r\n"), passes},
      {get("A:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\nG:\r\nH:\r\n"), refused(431)},
      {"G", unfinished},
      {"\r", unfinished},
      {"\r\n", unfinished},
      {"GET / HTTP/1.1\r\n" + host, unfinished},
      {"GET / HTTP/1.1\r\n" + host + "\r", unfinished},
      {"GET / HTTP/9.9", unfinished},
  });
}

TEST_CASE("a target in absolute form wins over Host every way") {
  const std::string input = "GET http://b.example:81?q HTTP/1.1\r\nHost: a.example\r\n\r\n";
  CHECK(verdict_of(input) == passes);
  const std::string understood = scanned(input, 1, 1);
  CHECK(understood.find(" /?q | http | b.example:81 ") != understood.npos);
}

namespace {

/// The body of a request in chunks, whichever way it comes.
std::string body_of(const std::string& chunks) {
  const std::string input = get("Transfer-Encoding: chunked\r\n") + chunks;
  CAPTURE(chunks);
  CHECK(verdict_of(input) == passes);
  return served(input, input.size(), 1).body;
}

}  // namespace

TEST_CASE("chunked bodies are decoded the same every way") {
  CHECK(body_of("0\r\n\r\n").empty());
  CHECK(body_of("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n") == "hello world");
  CHECK(body_of("0000000000000005;a=\"b\"\r\nhello\r\n000\r\n\r\n") == "hello");
  CHECK(body_of("2\r\n\r\n\r\n0\r\nX-Sum:  7\t\r\nHost: evil\r\nCookie: a\r\n\r\n") ==
        "\r\n|X-Sum=7");
  CHECK(body_of("1\r\na\r\n0\r\n\r\nGET /2 HTTP/1.1\r\n") == "a");
  CHECK(body_of("5\r\nhel") == "failed: the client closed in the middle of the body");
}

TEST_CASE("malformed chunked bodies fail the same every way") {
  for (const std::string chunks : {"00000000000000005\r\nhello\r\n",
                                   "10000000000000000\r\n",
                                   "-5\r\nhello\r\n",
                                   "+5\r\nhello",
                                   " 5\r\nhello\r\n",
                                   "5 \r\nhello\r\n",
                                   "5\t\r\nhello\r\n",
                                   "0x5\r\nhello\r\n",
                                   "\r\nhello",
                                   "5\nhello\r\n",
                                   "5\rhello\r\n",
                                   "5\r\nhello\n0\r\n\r\n",
                                   "5\r\nhello\r0\r\n\r\n",
                                   "5\r\nhello!\r\n0\r\n\r\n",
                                   "5;a\nb\r\nhello\r\n",
                                   "5;\x01\r\nhello\r\n",
                                   "g\r\n",
                                   ";a\r\n",
                                   "0\r\n\n",
                                   "0\r\nbroken\r\n\r\n",
                                   "0\r\n: a\r\n\r\n",
                                   "0\r\nA : b\r\n\r\n",
                                   "0\r\nA: b\r\n c\r\n\r\n",
                                   "0\r\nA: b\nC: d\r\n\r\n",
                                   "0\r\nA: \x7f\r\n\r\n"}) {
    const std::string body = body_of(chunks);
    CAPTURE(chunks, body);
    CHECK(body.find("failed: ") == 0);
    CHECK(body.find("closed") == body.npos);
  }
}

}  // namespace gatehouse::http
