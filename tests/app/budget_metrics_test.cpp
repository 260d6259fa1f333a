#include "app/budget_metrics.hpp"

#include <catch2/catch.hpp>

using gatehouse::acme::AuthorityBudget;
using gatehouse::acme::BudgetStatus;
using gatehouse::app::budget_metrics;

namespace {

bool has_line(const std::string& text, const std::string& line) {
  return ("\n" + text).find("\n" + line + "\n") != std::string::npos;
}

}  // namespace

TEST_CASE("The CAs' budgets are gauges with few labels") {
  const auto now = gatehouse::base::WallClock::now();
  AuthorityBudget counted(true);
  counted.ordered({"a.example.com"}, now);
  for (int i = 0; i < 5; ++i) counted.validation_failed("b.example.com", now);
  for (int i = 0; i < 5; ++i) counted.validation_failed("c.example.com", now);
  BudgetStatus one, two;
  one.authority = "letsencrypt";
  one.buckets = counted.report(now);
  two.authority = "my-ca";
  two.buckets = AuthorityBudget(false).report(now);
  const auto text = budget_metrics({one, two});
  for (const char* line :
       {"# TYPE gatehouse_certificate_budget_left gauge",
        "gatehouse_certificate_budget_left{ca=\"letsencrypt\",limit=\"orders\"} 299",
        "gatehouse_certificate_budget_left{ca=\"letsencrypt\",limit=\"accounts\"} 10",
        "# TYPE gatehouse_certificate_budget_spent gauge",
        "gatehouse_certificate_budget_spent{ca=\"letsencrypt\",limit=\"domain\"} 0",
        "gatehouse_certificate_budget_spent{ca=\"letsencrypt\",limit=\"name_set\"} 0",
        "gatehouse_certificate_budget_spent{ca=\"letsencrypt\",limit=\"failures\"} 2",
        "gatehouse_certificate_budget_spent{ca=\"my-ca\",limit=\"failures\"} 0"}) {
    CAPTURE(line);
    CHECK(has_line(text, line));
  }
  // Nobody knows the limits of a CA of one's own, until it says that one is reached.
  CHECK(text.find("left{ca=\"my-ca\"") == std::string::npos);
  CHECK(text.find("example.com") == std::string::npos);
  AuthorityBudget told(false);
  told.limited({"a.example.com"}, "too many new orders", now + std::chrono::hours(1));
  two.buckets = told.report(now);
  CHECK(has_line(budget_metrics({two}),
                 "gatehouse_certificate_budget_left{ca=\"my-ca\",limit=\"orders\"} 0"));
}

TEST_CASE("Without a CA there is nothing to show") {
  CHECK(budget_metrics({}).empty());
}
