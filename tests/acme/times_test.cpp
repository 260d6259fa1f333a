#include "acme/times.hpp"

#include <catch2/catch.hpp>

namespace gatehouse::acme {

namespace {

using namespace std::chrono_literals;

// 1994-11-06T08:49:37Z, RFC 9110's example.
const WallTime rfc_example{std::chrono::seconds(784111777)};

}  // namespace

TEST_CASE("RFC 3339 timestamps are read to the second, with any offset") {
  CHECK(parse_timestamp("1994-11-06T08:49:37Z") == rfc_example);
  CHECK(parse_timestamp("1994-11-06t08:49:37z") == rfc_example);
  CHECK(parse_timestamp("1994-11-06T08:49:37.123456789Z") == rfc_example);
  CHECK(parse_timestamp("1994-11-06T10:49:37+02:00") == rfc_example);
  CHECK(parse_timestamp("1994-11-05T22:19:37-10:30") == rfc_example);
  CHECK(timestamp(rfc_example) == "1994-11-06T08:49:37Z");
  CHECK(parse_timestamp("2024-02-29T00:00:00Z"));
}

TEST_CASE("what is no RFC 3339 timestamp is nothing") {
  const std::string text =
      GENERATE("", "now", "1994-11-06", "1994-11-06T08:49:37", "1994-13-06T08:49:37Z",
               "1994-02-30T08:49:37Z", "2023-02-29T00:00:00Z", "1994-11-06T24:00:00Z",
               "1994-11-06T08:60:37Z", "1994-11-06T08:49:37Zjunk", "1994-11-06T08:49:37.Z",
               "1994-11-06T08:49:37+99:00", "-994-11-06T08:49:37Z", "1994/11/06T08:49:37Z",
               "0000-00-00T00:00:00Z");
  CHECK_FALSE(parse_timestamp(text));
}

TEST_CASE("a time later than a clock can hold counts as the latest, never as one long past") {
  for (const char* text : {"9999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59",
                           "2262-04-12T00:00:00Z", "2300-01-01T00:00:00+12:00"}) {
    CAPTURE(text);
    const auto time = parse_timestamp(text);
    REQUIRE(time);
    CHECK(*time > rfc_example + std::chrono::hours(24 * 365 * 200));
    CHECK(parse_timestamp(timestamp(*time)) == time);
  }
  CHECK(parse_http_date("Fri, 31 Dec 9999 23:59:59 GMT") > rfc_example);
  CHECK(parse_retry_time("retry after 9999-12-31 23:59:59 UTC") > rfc_example);
  CHECK(parse_retry_after("Fri, 31 Dec 9999 23:59:59 GMT", rfc_example) ==
        retry_after_believed_max);
}

TEST_CASE("the three HTTP dates of RFC 9110 mean the same instant") {
  CHECK(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT") == rfc_example);
  CHECK(parse_http_date("Sunday, 06-Nov-94 08:49:37 GMT") == rfc_example);
  CHECK(parse_http_date("Sun Nov  6 08:49:37 1994") == rfc_example);
}

TEST_CASE("what is no HTTP date is nothing") {
  const std::string text = GENERATE(
      "", "Sun", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 CET",
      "Sun, 6 Nov 1994 08:49:37 GMT", "Sun, 06 Nix 1994 08:49:37 GMT",
      "Sun, 06 Nov 1994 08:49:37 GMT and more", "Sunday, 06-Nov-94", "Sun Nov 31 08:49:37 1994");
  CHECK_FALSE(parse_http_date(text));
}

TEST_CASE("Retry-After is seconds or a date, never negative and at most 31 days") {
  CHECK(parse_retry_after("0", rfc_example) == 0ms);
  CHECK(parse_retry_after("30", rfc_example) == 30s);
  CHECK(parse_retry_after("Sun, 06 Nov 1994 08:50:37 GMT", rfc_example) == 60s);
  CHECK(parse_retry_after("Sun, 06 Nov 1994 08:49:00 GMT", rfc_example) == 0ms);
  CHECK(parse_retry_after("Sun, 06 Nov 2094 08:49:00 GMT", rfc_example) == 31 * 24h);
  CHECK(parse_retry_after("2000000", rfc_example) == 2'000'000s);
  CHECK(parse_retry_after("99999999", rfc_example) == 31 * 24h);
  CHECK(parse_retry_after("99999999999999999999999999", rfc_example) == 31 * 24h);
  for (const char* text : {"", "-1", "1.5", "soon", "10 s", " 10"}) {
    CHECK_FALSE(parse_retry_after(text, rfc_example));
  }
}

TEST_CASE("the end of a rate limit is found in the CA's prose") {
  CHECK(parse_retry_time("too many certificates (5) already issued for this exact set of "
                         "identifiers in the last 168h0m0s, retry after 1994-11-06 08:49:37 UTC: "
                         "see https://letsencrypt.org/docs/rate-limits/") == rfc_example);
  CHECK(parse_retry_time("slow down, retry after 1994-11-06T08:49:37Z") == rfc_example);
  CHECK_FALSE(parse_retry_time("too many requests"));
  CHECK_FALSE(parse_retry_time("retry after a while"));
  CHECK_FALSE(parse_retry_time("retry after 1994-11-06 08:49:37"));
}

}  // namespace gatehouse::acme
