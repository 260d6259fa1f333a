#include "acme/notice.hpp"

#include <algorithm>

#include <boost/json.hpp>
#include <catch2/catch.hpp>
#include <fmt/format.h>

namespace gatehouse::acme {

namespace {

Event event(const std::string& name) {
  Event result;
  result.kind = Event::Kind::failed;
  result.name = name;
  result.text = "the CA could not reach port 80 at 192.0.2.1: open it";
  result.authority = "letsencrypt";
  result.not_after = WallTime(std::chrono::seconds(1'800'000'000));
  result.next_attempt = WallTime(std::chrono::seconds(1'700'000'060));
  return result;
}

Notice notice(size_t count) {
  Notice result;
  result.event = "failed";
  result.time = WallTime(std::chrono::seconds(1'700'000'000));
  result.id = "1-1";
  result.machine = "web-1";
  for (size_t i = 0; i < count; ++i) result.add(event("n" + std::to_string(i) + ".example"));
  return result;
}

std::string variable(const Notice& one, const std::string& name) {
  for (const auto& [key, value] : environment_of(one))
    if (key == name) return value;
  return "(absent)";
}

}  // namespace

TEST_CASE("One event is told with its name, its words and its times") {
  const auto one = notice(1);
  CHECK(subject_of(one) == "n0.example: no certificate could be obtained (gatehouse on web-1)");
  CHECK(text_of(one) ==
        "the CA could not reach port 80 at 192.0.2.1: open it\n\n"
        "name           n0.example\nauthority      letsencrypt\n"
        "in use until   2027-01-15T08:00:00Z\nnext attempt   2023-11-14T22:14:20Z\n\n"
        "Gatehouse on web-1, 2023-11-14T22:13:20Z\n");
  const auto json = boost::json::parse(json_of(one)).as_object();
  CHECK(json.at("version") == 1);
  CHECK(json.at("event") == "failed");
  CHECK(json.at("id") == "1-1");
  CHECK(json.at("time") == "2023-11-14T22:13:20Z");
  CHECK(json.at("machine") == "web-1");
  CHECK(json.at("count") == 1);
  CHECK(json.at("lost") == 0);
  CHECK(json.at("name") == "n0.example");
  const auto& row = json.at("certificates").as_array().at(0).as_object();
  CHECK(row.at("authority") == "letsencrypt");
  CHECK(row.at("not_after") == "2027-01-15T08:00:00Z");
  CHECK(row.at("next_attempt") == "2023-11-14T22:14:20Z");
  CHECK(variable(one, "GATEHOUSE_EVENT") == "failed");
  CHECK(variable(one, "GATEHOUSE_NAME") == "n0.example");
  CHECK(variable(one, "GATEHOUSE_COUNT") == "1");
  CHECK(variable(one, "GATEHOUSE_NOT_AFTER") == "2027-01-15T08:00:00Z");
}

TEST_CASE("What is not known is left out") {
  Notice one;
  one.event = "blocked";
  Event bare;
  bare.name = "a.example";
  bare.text = "x";
  one.add(bare);
  CHECK(text_of(one).find("authority") == std::string::npos);
  CHECK(text_of(one).find("next attempt") == std::string::npos);
  CHECK(json_of(one).find("not_after") == std::string::npos);
  CHECK(variable(one, "GATEHOUSE_NOT_AFTER").empty());
}

TEST_CASE("Ten thousand events are fifty names and a number") {
  const auto many = notice(10'000);
  CHECK(many.events.size() == Notice::shown_max);
  CHECK(subject_of(many) == "10000 attempts to get a certificate failed (gatehouse on web-1)");
  const auto text = text_of(many);
  CHECK(text.find("\nn49.example: ") != std::string::npos);
  CHECK(text.find("n50.example") == std::string::npos);
  CHECK(text.find("and 9950 more") != std::string::npos);
  const auto json = boost::json::parse(json_of(many)).as_object();
  CHECK(json.at("count") == 10'000);
  CHECK(json.at("certificates").as_array().size() == 50);
  CHECK(variable(many, "GATEHOUSE_COUNT") == "10000");
  CHECK(std::ranges::count(variable(many, "GATEHOUSE_NAMES"), ' ') == 49);
}

TEST_CASE("A peer's words are kept short and clean") {
  Notice one;
  one.event = "failed";
  one.machine = "web-1";
  auto hostile = event("a.example\r\nBcc: x@y.z");
  hostile.text = fmt::format("\x1b[2J\r\nBcc: x\xff\"{:x<100000}", "");
  one.add(hostile);
  CHECK(one.events[0].text.size() < 1100);
  CHECK(subject_of(one).find('\n') == std::string::npos);
  CHECK(text_of(one).find('\x1b') == std::string::npos);
  CHECK(text_of(one).find("\nBcc") == std::string::npos);
  CHECK(variable(one, "GATEHOUSE_TEXT").find('\n') == std::string::npos);
  boost::system::error_code code;
  boost::json::parse(json_of(one), code);
  CHECK_FALSE(code);
  one.events[0].text.clear();
  Notice cut;
  auto umlauts = event("a.example");
  umlauts.text = fmt::format("{:x<999}ää", "");
  cut.add(umlauts);
  CHECK(cut.events[0].text == fmt::format("{:x<999}…", ""));
}

TEST_CASE("Messages that were lost are told by the next one") {
  auto one = notice(1);
  one.lost = 2;
  CHECK(text_of(one).find("2 messages before this one could not be delivered") !=
        std::string::npos);
  CHECK(json_of(one).find("\"lost\":2") != std::string::npos);
}

}  // namespace gatehouse::acme
