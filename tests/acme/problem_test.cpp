#include "acme/problem.hpp"

#include <catch2/catch.hpp>

namespace gatehouse::acme {

namespace {

using namespace std::chrono_literals;
using Catch::Contains;

const WallTime now{std::chrono::seconds(784111777)};

Problem problem(std::string type, std::string detail, int status = 400) {
  Problem result;
  result.type = std::move(type);
  result.detail = std::move(detail);
  result.status = status;
  return result;
}

Attempt validating(std::string address = "203.0.113.7") {
  Attempt attempt;
  attempt.names = "www.example.com";
  attempt.authority = "letsencrypt";
  attempt.challenge = "http-01";
  attempt.address = std::move(address);
  return attempt;
}

Attempt ordering() {
  Attempt attempt;
  attempt.names = "www.example.com";
  attempt.authority = "letsencrypt";
  attempt.email = "me@exmaple";
  return attempt;
}

}  // namespace

TEST_CASE("a connection failure says who could not reach what, in the CA's words, and what to do") {
  const auto failure =
      failure_of(problem("connection", "203.0.113.7: Fetching http://www.example.com/: Timeout"),
                 validating(), now, std::nullopt);
  CHECK(failure.kind == FailureClass::validation);
  CHECK(failure.type == "connection");
  CHECK(
      failure.sentence ==
      "www.example.com: letsencrypt could not validate http-01: 203.0.113.7: Fetching "
      "http://www.example.com/: Timeout (the CA could not reach port 80 at 203.0.113.7: open it in "
      "the firewall and forward it here, or use tls-alpn-01 / dns-01)");
}

TEST_CASE("a wrong answer at an IPv6 address points at the AAAA record") {
  const auto failure =
      failure_of(problem("unauthorized", "404", 403), validating("2001:db8::1"), now, std::nullopt);
  CHECK(failure.kind == FailureClass::validation);
  CHECK_THAT(failure.sentence, Contains("the AAAA record points elsewhere (2001:db8::1)"));
}

TEST_CASE("every class of section 5 is told by the problem's type") {
  const auto [type, kind] = GENERATE(table<std::string, FailureClass>({
      {"connection", FailureClass::validation},
      {"dns", FailureClass::validation},
      {"tls", FailureClass::validation},
      {"unauthorized", FailureClass::validation},
      {"caa", FailureClass::validation},
      {"incorrectResponse", FailureClass::validation},
      {"rateLimited", FailureClass::rate_limit},
      {"rejectedIdentifier", FailureClass::policy},
      {"unsupportedIdentifier", FailureClass::policy},
      {"badCSR", FailureClass::policy},
      {"accountDoesNotExist", FailureClass::account},
      {"externalAccountRequired", FailureClass::account},
      {"userActionRequired", FailureClass::account},
      {"invalidContact", FailureClass::account},
      {"serverInternal", FailureClass::transport},
      {"badNonce", FailureClass::transport},
      {"somethingNew", FailureClass::validation},
  }));
  CHECK(failure_of(problem(type, "d"), validating(), now, std::nullopt).kind == kind);
}

TEST_CASE("outside a challenge, unauthorized is about the account") {
  const auto failure =
      failure_of(problem("unauthorized", "account is deactivated", 403), ordering(), now, {});
  CHECK(failure.kind == FailureClass::account);
  CHECK_THAT(failure.sentence, Contains("account is deactivated") && Contains("in storage"));
}

TEST_CASE("a rate limit ends at Retry-After, else when its detail says, and says so") {
  auto limited = problem("rateLimited", "too many, retry after 1994-11-07 00:00:00 UTC", 429);
  auto failure = failure_of(limited, ordering(), now, 30s);
  CHECK(failure.kind == FailureClass::rate_limit);
  CHECK(failure.retry_at == now + 30s);
  failure = failure_of(limited, ordering(), now, std::nullopt);
  CHECK(timestamp(failure.retry_at.value()) == "1994-11-07T00:00:00Z");
  CHECK_THAT(failure.sentence, Contains("the limit ends at 1994-11-07T00:00:00Z"));
  CHECK(failure_of(problem("", "", 429), ordering(), now, {}).kind == FailureClass::rate_limit);
}

TEST_CASE("a limit's end is believed up to 31 days ahead, in a header as in words") {
  auto limited = problem("rateLimited", "too many, retry after 1994-12-01 00:00:00 UTC", 429);
  CHECK(timestamp(failure_of(limited, ordering(), now, {}).retry_at.value()) ==
        "1994-12-01T00:00:00Z");
  CHECK(failure_of(limited, ordering(), now, parse_retry_after("2000000", now)).retry_at ==
        now + 2'000'000s);
  limited.detail = "too many, retry after 2199-01-01 00:00:00 UTC";
  CHECK(failure_of(limited, ordering(), now, {}).retry_at == now + 31 * 24h);
  CHECK(failure_of(limited, ordering(), now, parse_retry_after("99999999", now)).retry_at ==
        now + 31 * 24h);
}

TEST_CASE("a status alone is enough to tell the CA's trouble") {
  CHECK(failure_of(problem("", "", 500), ordering(), now, {}).kind == FailureClass::transport);
  CHECK(failure_of(problem("", "", 503), ordering(), now, 9s).retry_at == now + 9s);
  CHECK(failure_of(problem("", "", 403), ordering(), now, {}).kind == FailureClass::transport);
  CHECK(failure_of(problem("", "", 502), validating(), now, {}).kind == FailureClass::transport);
  CHECK_THAT(failure_of(problem("", "", 502), ordering(), now, {}).sentence, Contains("502"));
  CHECK(failure_of(problem("", "", 404), ordering(), now, {}).status == 404);
}

TEST_CASE("subproblems are told, and the first decides where the sum says nothing") {
  auto sum = problem("malformed", "Some identifiers are refused");
  sum.subproblems.push_back(problem("rejectedIdentifier", "on a list"));
  sum.subproblems.back().identifier = "bad.example.com";
  const auto failure = failure_of(sum, ordering(), now, std::nullopt);
  CHECK(failure.kind == FailureClass::policy);
  CHECK_THAT(failure.sentence, Contains("bad.example.com: on a list"));
}

TEST_CASE("the e-mail address, the page to open and the trust setting are named") {
  CHECK_THAT(failure_of(problem("invalidContact", "no MX"), ordering(), now, {}).sentence,
             Contains("\"me@exmaple\"") && Contains("[acme] email"));
  auto action = problem("userActionRequired", "new terms");
  action.instance = "https://ca.example/agree";
  CHECK_THAT(failure_of(action, ordering(), now, {}).sentence,
             Contains("https://ca.example/agree"));
  const base::Error unverified(base::ErrorKind::tls, "ca.example gave no answer: self-signed");
  CHECK_THAT(transport_failure(unverified, ordering()).sentence,
             Contains("ca.example gave no answer") && Contains("[ca.NAME] trust"));
}

TEST_CASE("what needs a person at the CA names the CA's page") {
  Attempt attempt = ordering();
  const auto said = [&attempt](Problem one) { return failure_of(one, attempt, now, {}).sentence; };
  auto external = problem("externalAccountRequired", "no binding", 403);
  const auto deactivated = problem("unauthorized", "account is deactivated", 403);
  CHECK_THAT(said(external), Contains("make one at the CA's website") && Contains("[ca.NAME] eab"));
  CHECK_THAT(said(deactivated), !Contains("or see"));
  attempt.website = "https://ca.example/";
  CHECK_THAT(said(external), Contains("make one at https://ca.example/, and"));
  CHECK_THAT(said(deactivated), Contains("make a new one, or see https://ca.example/"));
  CHECK_THAT(said(problem("userActionRequired", "new terms", 403)),
             Contains("open https://ca.example/"));
  external.instance = "https://ca.example/external";
  CHECK_THAT(said(external), Contains("make one at https://ca.example/external"));
  external.instance = "urn:uuid:1-2-3";  // an identifier, not a page
  CHECK_THAT(said(external), Contains("make one at https://ca.example/, and"));
}

TEST_CASE("names are spoken short") {
  CHECK(spoken({}) == "(no names)");
  CHECK(spoken({"a.example"}) == "a.example");
  CHECK(spoken({"a.example", "b.example", "c.example"}) == "a.example and 2 more");
}

}  // namespace gatehouse::acme
