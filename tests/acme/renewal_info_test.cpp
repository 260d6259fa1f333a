#include "acme/renewal_info.hpp"

#include <catch2/catch.hpp>
#include <fmt/format.h>

namespace gatehouse::acme {

namespace {

std::string window(const std::string& start, const std::string& end) {
  return fmt::format(R"({{"suggestedWindow":{{"start":"{}","end":"{}"}}}})", start, end);
}

std::string error_of(const std::string& json) {
  const auto info = parse_renewal_info(json);
  REQUIRE(info.has_error());
  CHECK(info.error().kind == base::ErrorKind::protocol);
  return info.error().context;
}

}  // namespace

TEST_CASE("the document of RFC 9773 section 4.2 is read") {
  const auto info = parse_renewal_info(R"({
    "suggestedWindow": {"start": "2025-01-02T04:00:00Z", "end": "2025-01-03T04:00:00Z"},
    "explanationURL": "https://acme.example.com/docs/ari",
    "later": [1, 2]})");
  REQUIRE(info.has_value());
  CHECK(timestamp(info->start) == "2025-01-02T04:00:00Z");
  CHECK(timestamp(info->end) == "2025-01-03T04:00:00Z");
  CHECK(info->explanation == "https://acme.example.com/docs/ari");
  CHECK_FALSE(info->retry_after.has_value());
}

TEST_CASE("a window's times may be of any zone and have fractions") {
  const auto info =
      parse_renewal_info(window("2026-01-02T04:00:00.123456+02:00", "2026-01-02T04:00:00-02:00"));
  REQUIRE(info.has_value());
  CHECK(timestamp(info->start) == "2026-01-02T02:00:00Z");
  CHECK(timestamp(info->end) == "2026-01-02T06:00:00Z");
}

TEST_CASE("a window that ends before it begins is no answer") {
  CHECK(error_of(window("2026-01-03T00:00:00Z", "2026-01-02T00:00:00Z")).find("before it begins") !=
        std::string::npos);
  CHECK_FALSE(error_of(window("2026-01-02T00:00:00Z", "2026-01-02T00:00:00Z")).empty());
  // Both beyond what a clock here can say.
  CHECK_FALSE(error_of(window("9998-01-01T00:00:00Z", "9999-01-01T00:00:00Z")).empty());
}

TEST_CASE("a window longer than certificates live is no answer") {
  CHECK(error_of(window("2026-01-01T00:00:00Z", "2028-01-01T00:00:00Z")).find("longer") !=
        std::string::npos);
  CHECK_FALSE(error_of(window("1970-01-01T00:00:00+23:59", "9999-12-31T23:59:59Z")).empty());
  CHECK(parse_renewal_info(window("2026-01-01T00:00:00Z", "2026-12-31T00:00:00Z")).has_value());
}

TEST_CASE("garbage is told as such") {
  for (const std::string json :
       {"", "{", "[]", "null", "{}", R"({"suggestedWindow":[]})", R"({"suggestedWindow":{}})",
        R"({"suggestedWindow":{"start":1,"end":2}})",
        R"({"suggestedWindow":{"start":"2026-01-01T00:00:00Z"}})",
        R"({"suggestedWindow":{"start":"yesterday","end":"tomorrow"}})",
        R"({"suggestedWindow":{"start":"2026-01-01","end":"2026-01-02"}})"}) {
    INFO(json);
    CHECK_FALSE(error_of(json).empty());
  }
  const std::string good = window("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
  for (size_t cut = 0; cut < good.size(); ++cut) {
    CHECK(parse_renewal_info(good.substr(0, cut)).has_error());
  }
  CHECK(parse_renewal_info(good + std::string(10'000, ' ')).has_value());
  CHECK(error_of(good + std::string(100'000, ' ')).find("too long") != std::string::npos);
  CHECK(parse_renewal_info(std::string(20'000, '[')).has_error());
  CHECK_FALSE(
      error_of(window(std::string(2000, '2') + "026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"))
          .empty());
}

TEST_CASE("an explanation that is no address a person could open is left out") {
  const auto explained = [](const std::string& value) {
    const auto info = parse_renewal_info(
        R"({"suggestedWindow":{"start":"2026-01-01T00:00:00Z","end":"2026-01-02T00:00:00Z"},)"
        R"("explanationURL":)" +
        value + "}");
    REQUIRE(info.has_value());
    return info->explanation;
  };
  CHECK(explained(R"("https://ca.example/why?x=1")") == "https://ca.example/why?x=1");
  CHECK(explained(R"("http://ca.example/why")") == "http://ca.example/why");
  CHECK(explained("\"javascript:alert(1)\"").empty());
  CHECK(explained(R"("https://ca.example/\n2026 forged line")").empty());
  CHECK(explained("\"https://ca.example/" + std::string(3000, 'x') + "\"").empty());
  CHECK(explained("5").empty());
}

TEST_CASE("only what has the form of a renewal id may go into an address") {
  CHECK(is_renewal_id("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"));
  CHECK(is_renewal_id("a.b"));
  for (const auto* text : {"", ".", "a.", ".b", "ab", "a.b.c", "a.b/../x", "a b.c", "a.b?x", "a+.b",
                           "a.b=", "\xff.b"}) {
    INFO(text);
    CHECK_FALSE(is_renewal_id(text));
  }
  CHECK_FALSE(is_renewal_id(std::string(200, 'a') + "." + std::string(200, 'b')));
}

}  // namespace gatehouse::acme
