#include "acme/budget.hpp"

#include <catch2/catch.hpp>

#include "acme/names.hpp"
#include "acme/registered_domain.hpp"
#include "acme/visits.hpp"

using namespace gatehouse::acme;
using namespace std::chrono_literals;
using Time = Buckets::Time;

namespace {
const Time start = Time(std::chrono::seconds(1'800'000'000));
}

TEST_CASE("The registered domain follows the public suffix list") {
  CHECK(registered_domain("a.b.example.co.uk") == "example.co.uk");
  CHECK(registered_domain("*.example.com") == "example.com");
  CHECK(registered_domain("example.com") == "example.com");
  CHECK(registered_domain("me.github.io") == "me.github.io");
  CHECK(registered_domain("com") == "com");
  CHECK(registered_domain("localhost") == "localhost");
  CHECK(registered_domain("a.b.unknown-tld-x") == "b.unknown-tld-x");
  CHECK(registered_domain("") == "");
  CHECK(registered_domain("192.0.2.1") == "192.0.2.1");
  CHECK(registered_domain("2001:db8::1") == "2001:db8::1");
}

TEST_CASE("A bucket gives its capacity at once and then refills evenly") {
  Buckets buckets;
  const Limit limit{10, 100s};
  for (int number = 0; number < 10; ++number) {
    CHECK(buckets.ready_at("x", limit, start) == start);
    buckets.take("x", limit, start);
  }
  CHECK(buckets.ready_at("x", limit, start) == start + 10s);
  CHECK(buckets.ready_at("y", limit, start) == start);
  CHECK(buckets.ready_at("x", limit, start + 10s) == start + 10s);
  buckets.give_back("x", limit);
  CHECK(buckets.ready_at("x", limit, start) == start);
  CHECK(buckets.ready_at("x", limit, start, 1) == start + 10s);
}

TEST_CASE("A full bucket takes no room") {
  Buckets buckets;
  const Limit limit{10, 100s};
  for (int number = 0; number < 100; ++number) buckets.take(std::to_string(number), limit, start);
  CHECK(buckets.size() == 100);
  buckets.tidy(start + 11s);
  CHECK(buckets.size() == 0);
}

TEST_CASE("On demand: 50 at once, then 10 a minute") {
  OnDemandBudget budget;
  const auto name = [](int number) { return "a.d" + std::to_string(number) + ".com"; };
  for (int number = 0; number < 50; ++number) CHECK_FALSE(budget.take(name(number), start));
  const auto ready = budget.take(name(50), start);
  REQUIRE(ready);
  CHECK(*ready == start + 6s);
  CHECK_FALSE(budget.take(name(50), start + 6s));
  CHECK(budget.take(name(51), start + 6s));
  int taken = 0;
  for (int second = 7; second <= 66; ++second)
    if (!budget.take(name(100 + second), start + std::chrono::seconds(second))) ++taken;
  CHECK(taken == 10);
}

TEST_CASE("On demand: 20 a day for a registered domain, and a refusal costs the others nothing") {
  OnDemandBudget budget;
  for (int number = 0; number < 20; ++number)
    CHECK_FALSE(budget.take("n" + std::to_string(number) + ".example.com", start));
  for (int number = 0; number < 1000; ++number)
    CHECK(budget.take("m" + std::to_string(number) + ".example.com", start));
  for (int number = 0; number < 30; ++number)
    CHECK_FALSE(budget.take("a.other" + std::to_string(number) + ".com", start));
  CHECK_FALSE(budget.take("late.example.com", start + 73min));
}

TEST_CASE("The budget survives a restart, and a damaged file leaves it full") {
  OnDemandBudget budget;
  for (int number = 0; number < 20; ++number) (void)budget.take("a.example.com", start);
  OnDemandBudget again;
  again.buckets = Buckets::from_json(budget.buckets.to_json(), start + 1s);
  CHECK(again.take("b.example.com", start + 1s));
  CHECK_FALSE(again.take("b.example.org", start + 1s));
  for (const char* text :
       {"", "{", "[]", "null", "{\"full_at_ms\":3}", "{\"full_at_ms\":{\"a\":\"x\"}}",
        "{\"full_at_ms\":{\"a\":-9223372036854775808}}"})
    CHECK(Buckets::from_json(text, start).size() == 0);
}

TEST_CASE("A clock that was far ahead does not close the buckets for ever") {
  Buckets buckets = Buckets::from_json(
      "{\"full_at_ms\":{\"issues\":9223372036854775807,\"x\":4102444800000}}", start);
  CHECK(buckets.ready_at("issues", {50, 300s}, start) < start + std::chrono::hours(24 * 40));
  CHECK(buckets.ready_at("x", {50, 300s}, start) < start + std::chrono::hours(24 * 40));
}

TEST_CASE("Let's Encrypt's limits are counted for Let's Encrypt only") {
  CHECK(counts_like_letsencrypt("https://acme-v02.api.letsencrypt.org/directory"));
  CHECK_FALSE(counts_like_letsencrypt("https://acme-staging-v02.api.letsencrypt.org/directory"));
  CHECK_FALSE(counts_like_letsencrypt("https://localhost:14000/dir"));
  AuthorityBudget other(false);
  for (int number = 0; number < 1000; ++number) other.ordered({"a.example.com"}, start);
  CHECK(other.ready_at({"a.example.com"}, start) == start);
}

TEST_CASE("Of five orders for one name set a week, one is kept for a person") {
  AuthorityBudget budget(true);
  for (int number = 0; number < 4; ++number) {
    CHECK(budget.ready_at({"a.example.com"}, start) == start);
    budget.ordered({"a.example.com"}, start);
  }
  CHECK(budget.ready_at({"a.example.com"}, start) > start + 24h);
  CHECK(budget.ready_at({"b.example.com"}, start) == start);
  budget.not_issued({"a.example.com"});
  CHECK(budget.ready_at({"a.example.com"}, start) == start);
}

TEST_CASE("An order that the CA was never asked for costs nothing") {
  AuthorityBudget budget(true);
  budget.ordered({"a.example.com"}, start);
  budget.not_ordered({"a.example.com"});
  const BudgetLeft left = budget.left({"a.example.com"}, start);
  CHECK(left.orders == 300);
  CHECK(left.domain == 50);
  CHECK(left.name_set == 5);
}

TEST_CASE("50 certificates a registered domain a week, 300 orders in three hours") {
  AuthorityBudget budget(true);
  for (int number = 0; number < 50; ++number)
    budget.ordered({"n" + std::to_string(number) + ".example.com"}, start);
  CHECK(budget.ready_at({"x.example.com"}, start) > start + 1h);
  CHECK(budget.ready_at({"x.example.org"}, start) == start);
  for (int number = 0; number < 250; ++number)
    budget.ordered({"a.d" + std::to_string(number) + ".com"}, start);
  CHECK(budget.ready_at({"x.example.org"}, start) == start + 36s);
}

TEST_CASE("The fifth order of a name set is a person's, and an order that replaces is free") {
  AuthorityBudget budget(true);
  AuthorityBudget::Order person;
  person.by_person = true;
  AuthorityBudget::Order replacing;
  replacing.replaces = true;
  for (int number = 0; number < 4; ++number) budget.ordered({"a.example.com"}, start);
  CHECK(budget.ready_at({"a.example.com"}, start) > start);
  CHECK(budget.ready_at({"a.example.com"}, start, person) == start);
  budget.ordered({"a.example.com"}, start);
  CHECK(budget.ready_at({"a.example.com"}, start, person) > start);
  CHECK(budget.ready_at({"a.example.com"}, start, replacing) == start);
  for (int number = 0; number < 400; ++number)
    budget.ordered({"a.d" + std::to_string(number) + ".com"}, start);
  CHECK(budget.ready_at({"b.example.net"}, start) > start);
  CHECK(budget.ready_at({"b.example.net"}, start, replacing) == start);
}

TEST_CASE("A CA that keeps forgetting the account gets ten of them in three hours") {
  AuthorityBudget budget(true);
  for (int number = 0; number < 10; ++number) {
    CHECK(budget.ready_at({"a.example.com"}, start) == start);
    budget.account_made(start);
  }
  CHECK(budget.ready_at({"a.example.com"}, start) == start + 18min);
}

TEST_CASE("The budget shows the account's buckets, and of the others those that are used up") {
  AuthorityBudget budget(true);
  budget.ordered({"a.example.com"}, start);
  auto report = budget.report(start);
  REQUIRE(report.size() == 2);
  CHECK(report[0].what == "orders");
  CHECK(report[0].capacity == 300);
  CHECK(report[0].left == 299);
  CHECK(report[0].ready == start);
  CHECK(report[1].what == "accounts");
  for (int number = 0; number < 3; ++number) budget.ordered({"a.example.com"}, start);
  report = budget.report(start);
  REQUIRE(report.size() == 3);
  CHECK(report[2].what == "set:a.example.com");
  CHECK(report[2].left == 0);  // the one that is kept is not ours to take
  CHECK(report[2].ready > start);
  AuthorityBudget other(false);
  CHECK(other.report(start).empty());
  other.limited({"a.example.com"}, "too many new orders", start + 1h);
  REQUIRE(other.report(start).size() == 1);
  CHECK(other.report(start)[0].ready == start + 1h);
  for (int number = 0; number < 300; ++number)
    other.limited({"n" + std::to_string(number) + ".com"}, "too many failed authorizations",
                  start + 1h);
  CHECK(other.report(start).size() == AuthorityBudget::shown_max);
}

TEST_CASE("Five failed validations of a name an hour") {
  AuthorityBudget budget(true);
  for (int number = 0; number < 5; ++number) budget.validation_failed("a.example.com", start);
  CHECK(budget.ready_at({"a.example.com"}, start) == start + 12min);
  CHECK(budget.ready_at({"b.example.com"}, start) == start);
}

TEST_CASE("Several validations that failed at once count each, and further orders the account's") {
  AuthorityBudget budget(true);
  budget.validation_failed("a.example.com", start, 3);
  budget.validation_failed("a.example.com", start, 0);
  CHECK(budget.left({"a.example.com"}, start).failures == 2);
  budget.ordered({"a.example.com"}, start);
  const auto before = budget.left({"a.example.com"}, start);
  budget.ordered_again(start);
  const auto after = budget.left({"a.example.com"}, start);
  CHECK(after.orders == before.orders - 1);
  CHECK(after.name_set == before.name_set);
  CHECK(after.domain == before.domain);
  AuthorityBudget other(false);
  other.ordered_again(start);
  other.validation_failed("a.example.com", start, 9);
  CHECK(other.left({"a.example.com"}, start).orders == AuthorityBudget::orders.capacity);
  CHECK(other.left({"a.example.com"}, start).failures == AuthorityBudget::failures.capacity);
}

TEST_CASE("A 429 empties the bucket it names") {
  const Time until = start + 5h;
  const auto after = [&](const std::string& words, const std::string& name) {
    AuthorityBudget budget(false);  // whichever CA
    budget.limited({"a.example.com"}, words, until);
    return budget.ready_at({name}, start);
  };
  CHECK(after("too many new orders (300) from this account", "x.example.org") == until);
  CHECK(after("too many certificates (50) already issued for \"example.com\"", "b.example.com") ==
        until);
  CHECK(after("too many certificates (50) already issued for \"example.com\"", "b.example.org") ==
        start);
  CHECK(after("too many certificates (5) already issued for this exact set of identifiers",
              "a.example.com") == until);
  CHECK(after("too many certificates (5) already issued for this exact set of identifiers",
              "b.example.com") == start);
  CHECK(after("too many new registrations (10) from this IP address", "x.example.org") == until);
  CHECK(after("too many failed authorizations", "a.example.com") == until);
  CHECK(after("too many failed authorizations", "b.example.com") == start);
  CHECK(after("a.example.com is asked for too often", "a.example.com") == until);
  CHECK(after("a.example.com is asked for too often", "b.example.com") == start);
  CHECK(after("slow down", "a.example.com") == until);
  CHECK(after("slow down", "b.example.com") == until);
  CHECK(after("", "b.example.com") == until);
}

TEST_CASE("A CA that wants no request at all is not asked for a replacement either") {
  for (const bool counted : {true, false}) {
    AuthorityBudget budget(counted);
    AuthorityBudget::Order replacing;
    replacing.replaces = true;
    CHECK(budget.limited({"a.example.com"}, "slow down", start + 2h));
    CHECK(budget.silent_until(start) == start + 2h);
    CHECK(budget.ready_at({"b.example.org"}, start, replacing) == start + 2h);
    CHECK(budget.left({"b.example.org"}, start).orders == 0);
    REQUIRE_FALSE(budget.report(start).empty());
    CHECK(budget.report(start)[0].what == "requests");
    CHECK(budget.report(start)[0].left == 0);
    CHECK(budget.report(start)[0].ready == start + 2h);
    budget.buckets = Buckets::from_json(budget.buckets.to_json(), start + 1h);
    CHECK(budget.silent_until(start + 1h) == start + 2h);
    CHECK(budget.silent_until(start + 2h) == start + 2h);
    CHECK(budget.ready_at({"b.example.org"}, start + 2h) == start + 2h);
    // The longest time that is believed outlasts a restart too.
    budget.limited({"a.example.com"}, "slow down", start + 31 * 24h);
    budget.buckets = Buckets::from_json(budget.buckets.to_json(), start);
    CHECK(budget.silent_until(start) == start + 31 * 24h);
  }
}

TEST_CASE("Visits are remembered for 30 days, to the hour, across a restart") {
  Visits visits;
  visits.seen("a.example", start);
  CHECK(visits.changed());
  visits.first("a.example", start + 24h);
  visits.first("c.example", start);
  const std::string text = visits.to_json(start);
  CHECK_FALSE(visits.changed());
  visits.seen("a.example", start + 1min);
  CHECK_FALSE(visits.changed());
  CHECK(visits.recent("a.example", start + 29 * 24h));
  CHECK_FALSE(visits.recent("a.example", start + 31 * 24h));
  CHECK_FALSE(visits.recent("b.example", start));
  const Visits again = Visits::from_json(text, start + 24h);
  CHECK(again.recent("a.example", start + 24h));
  CHECK(again.recent("c.example", start + 24h));
  CHECK_FALSE(again.recent("a.example", start + 30 * 24h));
  // As an earlier version wrote them, with the renewal.
  const Visits older = Visits::from_json(
      fmt::format(
          R"({{"version":1,"names":{{"old.example":[{},5]}}}})",
          std::chrono::duration_cast<std::chrono::seconds>(start.time_since_epoch()).count()),
      start);
  CHECK(older.recent("old.example", start));
  for (const char* bad : {"", "{}", "{\"names\":[]}", "{\"names\":{\"a\":[1]}}",
                          "{\"names\":{\"a\":[9223372036854775807,-9223372036854775808]}}"})
    Visits::from_json(bad, start);
}

TEST_CASE("Names of certificates in storage lead back to the names") {
  for (const std::string name : {"a.example.com", "*.example.com", "localhost"}) {
    CHECK(name_of(certificate_id(name)) == name);
    CHECK(certificate_id(name).find('*') == std::string::npos);
  }
  const std::string endless = std::string(120, 'a') + "." + std::string(120, 'b');
  CHECK(certificate_id(endless).size() <= 200);
  CHECK(certificate_id(endless) != certificate_id(endless + "c"));
  CHECK(name_of(certificate_id(endless)).empty());
}

TEST_CASE("The fallback's zone covers the name and its siblings") {
  CHECK(fallback_zone("a.b.example.com") == "b.example.com");
  CHECK(fallback_zone("a.example.com") == "example.com");
  CHECK(fallback_zone("example.com") == "example.com");
  CHECK(fallback_zone("me.github.io") == "me.github.io");
  CHECK(fallback_zone("*.example.com") == "example.com");
  CHECK(fallback_zone("localhost") == "localhost");
  CHECK(fallback_zone("192.0.2.1") == "192.0.2.1");
}

TEST_CASE("A site claims its names: exact before wildcard before any") {
  gatehouse::config::Snapshot snapshot;
  snapshot.server.https.resize(1);
  snapshot.acme.authorities.push_back({"ca", "https://ca/dir", "", "", "", "", "", {}});
  const auto add = [&](const std::string& host, gatehouse::config::CertificateMode mode,
                       const std::string& file = "") {
    auto& site = snapshot.sites.emplace_back();
    site.hosts.push_back({host});
    site.certificates = mode;
    site.certificate = file;
  };
  using Mode = gatehouse::config::CertificateMode;
  add("example.com", Mode::automatic);
  add("*.example.com", Mode::on_demand);
  add("plain.example.com", Mode::off);
  add("own.example.com", Mode::automatic, "cert.pem");
  add("*.inside.example", Mode::internal);
  add("192.0.2.7", Mode::automatic);
  add("[2001:db8::7]", Mode::internal);
  add("192.0.2.8", Mode::on_demand);
  add("*", Mode::on_demand);
  const Claims claims(snapshot);
  CHECK(claims.find("example.com").claim == Claim::automatic);
  CHECK(claims.find("x.example.com").claim == Claim::on_demand);
  CHECK(claims.find("x.example.com").subject == "x.example.com");
  CHECK(claims.find("y.x.example.com").claim == Claim::on_demand);
  CHECK(claims.find("plain.example.com").claim == Claim::off);
  CHECK(claims.find("own.example.com").claim == Claim::own);
  CHECK(claims.find("a.inside.example").subject == "*.inside.example");
  // An address is worth a certificate where a site has it, and never because somebody asks.
  CHECK(claims.find("192.0.2.7").claim == Claim::automatic);
  CHECK(claims.find("2001:db8::7").claim == Claim::internal);
  CHECK(claims.find("192.0.2.8").claim == Claim::off);
  CHECK(claims.find("192.0.2.9").claim == Claim::none);
  CHECK(claims.find("2001:db8::9").claim == Claim::none);
  CHECK(claims.standing().size() == 4);
  snapshot.server.https.clear();
  CHECK(Claims(snapshot).standing().empty());
}
