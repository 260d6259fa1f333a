#include "base/metrics.hpp"

#include <set>
#include <sstream>

#include <catch2/catch.hpp>

using gatehouse::base::duration_bounds_us;
using gatehouse::base::Metric;
using gatehouse::base::metric_count;
using gatehouse::base::Metrics;

namespace {

bool has_line(const std::string& text, const std::string& line) {
  return ("\n" + text).find("\n" + line + "\n") != std::string::npos;
}

}  // namespace

TEST_CASE("A counter is the sum over the workers and the control thread") {
  Metrics metrics(3);
  metrics.worker(0).add(Metric::requests, 2);
  metrics.worker(2).add(Metric::requests);
  metrics.control().add(Metric::requests, 10);
  CHECK(metrics.total(Metric::requests) == 13);
  CHECK(has_line(metrics.prometheus(), "gatehouse_requests_total 13"));
}

TEST_CASE("A gauge may rise on one worker and fall on another") {
  Metrics metrics(2);
  metrics.worker(0).add(Metric::connections_open, 5);
  metrics.worker(1).add(Metric::connections_open, -2);
  const std::string text = metrics.prometheus();
  CHECK(has_line(text, "gatehouse_connections_open 3"));
  CHECK(has_line(text, "# TYPE gatehouse_connections_open gauge"));
}

TEST_CASE("Every family has its help and type once, ahead of its samples") {
  const std::string text = Metrics(1).prometheus();
  std::set<std::string> typed;
  std::istringstream in(text);
  size_t samples = 0;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("# HELP ")) continue;
    if (line.starts_with("# TYPE ")) {
      const std::string family = line.substr(7, line.find(' ', 7) - 7);
      REQUIRE(typed.insert(family).second);
      continue;
    }
    std::string family = line.substr(0, line.find_first_of("{ "));
    for (const std::string suffix : {"_bucket", "_sum", "_count"})
      if (family.starts_with("gatehouse_request_duration") && family.ends_with(suffix))
        family.resize(family.size() - suffix.size());
    REQUIRE(typed.count(family) == 1);
    REQUIRE(family.starts_with("gatehouse_"));
    ++samples;
  }
  CHECK(samples == 1 + metric_count + duration_bounds_us.size() + 1 + 2);
  CHECK(text.back() == '\n');
}

TEST_CASE("Status classes are labels of one family") {
  Metrics metrics(1);
  metrics.worker(0).add(Metric::responses_5xx, 4);
  CHECK(has_line(metrics.prometheus(), "gatehouse_responses_total{class=\"5xx\"} 4"));
}

TEST_CASE("A duration falls into the first bucket whose bound it does not pass") {
  Metrics metrics(2);
  metrics.worker(0).record_duration(0);
  metrics.worker(0).record_duration(500);
  metrics.worker(1).record_duration(501);
  metrics.worker(1).record_duration(90'000'000);
  CHECK(metrics.worker(0).duration_bucket(0) == 2);
  const std::string text = metrics.prometheus();
  CHECK(has_line(text, "gatehouse_request_duration_seconds_bucket{le=\"0.0005\"} 2"));
  CHECK(has_line(text, "gatehouse_request_duration_seconds_bucket{le=\"0.001\"} 3"));
  CHECK(has_line(text, "gatehouse_request_duration_seconds_bucket{le=\"60\"} 3"));
  CHECK(has_line(text, "gatehouse_request_duration_seconds_bucket{le=\"+Inf\"} 4"));
  CHECK(has_line(text, "gatehouse_request_duration_seconds_count 4"));
  CHECK(has_line(text, "gatehouse_request_duration_seconds_sum 90.001001"));
}
