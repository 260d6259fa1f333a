#include "proxy/access_line.hpp"

#include <random>

#include <boost/json.hpp>
#include <catch2/catch.hpp>

using gatehouse::proxy::AccessLine;
using gatehouse::proxy::AccessRecord;

namespace {

AccessRecord sample() {
  AccessRecord record;
  record.time =
      std::chrono::system_clock::from_time_t(1'795'226'169) + std::chrono::milliseconds(7);
  record.client = "192.0.2.7";
  record.method = "GET";
  record.scheme = "https";
  record.host = "example.com";
  record.target = "/a?b=c";
  record.protocol = "HTTP/1.1";
  record.referer = "https://other.example/x";
  record.user_agent = "curl/8";
  record.upstream = "localhost:8080";
  record.tls_version = "TLSv1.3";
  record.status = 200;
  record.bytes_in = 1;
  record.bytes_out = 1234;
  record.duration = std::chrono::microseconds(1500);
  record.upstream_duration = std::chrono::microseconds(1200);
  return record;
}

std::string line(const AccessRecord& record, uint32_t mode = AccessLine::on) {
  AccessLine formatter;
  std::string out(formatter.format(record, mode));
  REQUIRE(out.back() == '\n');
  out.pop_back();
  REQUIRE(out.find('\n') == std::string::npos);
  return out;
}

boost::json::object parsed(const AccessRecord& record, uint32_t mode = AccessLine::on) {
  return boost::json::parse(line(record, mode)).as_object();
}

}  // namespace

TEST_CASE("A JSON line says all of a request") {
  AccessRecord record = sample();
  record.retries = 2;
  record.error = "upstream localhost:8080: connection reset";
  const auto object = parsed(record);
  CHECK(object.at("time").as_string() == "2026-11-21T01:56:09.007Z");
  CHECK(object.at("client").as_string() == "192.0.2.7");
  CHECK(object.at("method").as_string() == "GET");
  CHECK(object.at("scheme").as_string() == "https");
  CHECK(object.at("host").as_string() == "example.com");
  CHECK(object.at("target").as_string() == "/a?b=c");
  CHECK(object.at("protocol").as_string() == "HTTP/1.1");
  CHECK(object.at("status").as_int64() == 200);
  CHECK(object.at("bytes_in").as_int64() == 1);
  CHECK(object.at("bytes_out").as_int64() == 1234);
  CHECK(object.at("duration_us").as_int64() == 1500);
  CHECK(object.at("upstream_us").as_int64() == 1200);
  CHECK(object.at("upstream").as_string() == "localhost:8080");
  CHECK(object.at("tls").as_string() == "TLSv1.3");
  CHECK(object.at("referer").as_string() == "https://other.example/x");
  CHECK(object.at("user_agent").as_string() == "curl/8");
  CHECK(object.at("retries").as_int64() == 2);
  CHECK(object.at("error").as_string() == "upstream localhost:8080: connection reset");
}

TEST_CASE("What does not apply is left out of a JSON line") {
  AccessRecord record;
  record.status = 400;
  const auto object = parsed(record);
  for (const auto* key :
       {"upstream", "upstream_us", "tls", "referer", "user_agent", "retries", "error"})
    CHECK(!object.contains(key));
  CHECK(object.at("time").as_string() == "1970-01-01T00:00:00.000Z");
}

TEST_CASE("A common line is what log analysers expect") {
  CHECK(line(sample(), AccessLine::on | AccessLine::common) ==
        "192.0.2.7 - - [21/Nov/2026:01:56:09 +0000] \"GET /a?b=c HTTP/1.1\" 200 1234");
  AccessRecord record;
  record.time = sample().time;
  record.status = 408;
  CHECK(line(record, AccessLine::on | AccessLine::common) ==
        "- - - [21/Nov/2026:01:56:09 +0000] \"-  -\" 408 0");
}

TEST_CASE("A common line escapes quotes, backslashes and all that is not printable ASCII") {
  AccessRecord record = sample();
  record.target = "/\"\\\n\xff\x1b";
  CHECK(line(record, AccessLine::on | AccessLine::common).find("/\\x22\\x5c\\x0a\\xff\\x1b HTTP") !=
        std::string::npos);
}

TEST_CASE("The second's text follows the clock, forwards and backwards") {
  AccessLine formatter;
  AccessRecord record = sample();
  const auto time_of = [&] {
    return std::string(formatter.format(record, AccessLine::on).substr(9, 24));
  };
  CHECK(time_of() == "2026-11-21T01:56:09.007Z");
  record.time += std::chrono::milliseconds(993);
  CHECK(time_of() == "2026-11-21T01:56:10.000Z");
  record.time -= std::chrono::milliseconds(1);
  CHECK(time_of() == "2026-11-21T01:56:09.999Z");
  record.time = {};
  record.time -= std::chrono::milliseconds(1);
  CHECK(time_of() == "1969-12-31T23:59:59.999Z");
}

TEST_CASE("A redacted field shows that it was there, and nothing more") {
  const auto object =
      parsed(sample(), AccessLine::on | AccessLine::hide_referer | AccessLine::hide_user_agent);
  CHECK(object.at("referer").as_string() == "REDACTED");
  CHECK(object.at("user_agent").as_string() == "REDACTED");
}

TEST_CASE("The user and password of a URL are never shown") {
  AccessRecord record = sample();
  record.target = "http://joe:s3cret@example.com/path";
  record.referer = "https://joe:s3cret@other.example/x@y";
  record.host = "joe:s3cret@example.com";
  const auto object = parsed(record);
  CHECK(object.at("target").as_string() == "http://REDACTED@example.com/path");
  CHECK(object.at("referer").as_string() == "https://REDACTED@other.example/x@y");
  CHECK(object.at("host").as_string() == "REDACTED@example.com");
  CHECK(line(record, AccessLine::on | AccessLine::common).find("s3cret") == std::string::npos);
}

TEST_CASE("An @ in a path or a query is no password") {
  AccessRecord record = sample();
  record.target = "/@joe/x?mail=a@b";
  record.referer = "https://other.example/@joe";
  CHECK(parsed(record).at("target").as_string() == "/@joe/x?mail=a@b");
  CHECK(parsed(record).at("referer").as_string() == "https://other.example/@joe");
}

TEST_CASE("Hostile bytes in every field still make one valid line") {
  std::mt19937 random(11);
  for (int round = 0; round < 1000; ++round) {
    std::string bytes(random() % 200, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    AccessRecord record = sample();
    record.client = record.method = record.scheme = record.host = record.target = bytes;
    record.protocol = record.referer = record.user_agent = record.upstream = bytes;
    record.tls_version = record.error = bytes;
    REQUIRE_NOTHROW(parsed(record));
    line(record, AccessLine::on | AccessLine::common);
  }
}

TEST_CASE("The longest line keeps its bound, each of its bytes escaped") {
  const std::string huge(1'000'000, '\x01');
  const std::string url = "x://" + huge + "@" + huge;
  AccessRecord record = sample();
  for (const std::string& bytes : {huge, url}) {
    record.client = record.method = record.scheme = record.host = record.target = bytes;
    record.protocol = record.referer = record.user_agent = record.upstream = bytes;
    record.tls_version = record.error = bytes;
    record.duration = record.upstream_duration = std::chrono::microseconds::max();
    record.bytes_in = record.bytes_out = UINT64_MAX;
    CHECK(line(record).size() < AccessLine::line_bytes_max);
    CHECK(line(record, AccessLine::on | AccessLine::common).size() < AccessLine::line_bytes_max);
  }
}

TEST_CASE("A negative duration of a clock set back shows as zero") {
  AccessRecord record = sample();
  record.duration = std::chrono::microseconds(-5);
  CHECK(parsed(record).at("duration_us").as_int64() == 0);
}
