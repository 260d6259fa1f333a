#include "acme/caa.hpp"

#include <catch2/catch.hpp>

namespace gatehouse::acme {

namespace {

using Catch::Contains;
using Names = std::vector<std::string>;

const std::string account = "https://ca.example/acct/1";

dns::Record record(std::string tag, std::string value, uint8_t flags = 0) {
  dns::Record result;
  result.name = "example.com";
  result.type = dns::Type::caa;
  result.tag = std::move(tag);
  result.value = std::move(value);
  result.flags = flags;
  return result;
}

CaaApplicant applicant() {
  CaaApplicant result;
  result.authority = "letsencrypt";
  result.identities = {"letsencrypt.org", "second.example"};
  result.challenges = {"http-01", "tls-alpn-01"};
  result.account = account;
  return result;
}

bool allowed(const std::vector<dns::Record>& set, bool wildcard = false) {
  return judge_caa(set, wildcard, applicant()).allowed;
}
bool allowed(std::string value) {
  return allowed({record("issue", std::move(value))});
}

std::string sentence(const std::vector<dns::Record>& set, const CaaPlace& place,
                     bool wildcard = false) {
  const auto verdict = judge_caa(set, wildcard, applicant());
  REQUIRE_FALSE(verdict.allowed);
  const auto failure =
      caa_failure(wildcard ? "*.example.com" : "www.example.com", applicant(), verdict, place);
  CHECK(failure.kind == FailureClass::validation);
  CHECK(failure.type == "caa");
  CHECK(failure.local);
  return failure.sentence;
}

const CaaPlace place{"example.com", "example.com", "example.com"};

}  // namespace

TEST_CASE("no records, or none about issuing, restrict nobody") {
  CHECK(allowed(std::vector<dns::Record>()));
  CHECK(allowed({record("iodef", "mailto:a@example.com")}));
  CHECK(allowed({record("issuemail", ";")}));
  CHECK(allowed({record("future", "x")}));
  CHECK(allowed({record("issuewild", ";")}));  // says nothing of names that are no wildcards
  CHECK(judge_caa({}, false, applicant()).challenges == Names{"http-01", "tls-alpn-01"});
}

TEST_CASE("an issue property allows the CA that it names, and no other") {
  CHECK(allowed("letsencrypt.org"));
  CHECK(allowed("LetsEncrypt.ORG"));
  CHECK(allowed("  letsencrypt.org\t"));
  CHECK(allowed("letsencrypt.org;"));
  CHECK(allowed("letsencrypt.org ; "));
  CHECK(allowed("second.example"));
  CHECK(allowed("letsencrypt.org; unknown=parameter; more=x-y=z"));
  CHECK_FALSE(allowed("digicert.com"));
  CHECK_FALSE(allowed("org"));
  CHECK_FALSE(allowed("www.letsencrypt.org"));
  CHECK_FALSE(allowed("xletsencrypt.org"));
}

TEST_CASE("an empty issuer forbids all, unless another property allows") {
  CHECK_FALSE(allowed(";"));
  CHECK_FALSE(allowed(""));
  CHECK_FALSE(allowed(" "));
  CHECK_FALSE(allowed("; accounturi=" + account));
  CHECK(allowed({record("issue", ";"), record("issue", "letsencrypt.org")}));
  CHECK(allowed({record("issue", "digicert.com"), record("ISSUE", "letsencrypt.org")}));
}

TEST_CASE("a value that breaks the grammar allows nobody") {
  const auto* value = GENERATE(
      "letsencrypt.org.", ".letsencrypt.org", "letsencrypt..org", "-letsencrypt.org",
      "letsencrypt.org-", "lets encrypt.org", "letsencrypt.org digicert.com", "letsencrypt_org",
      "letsencrypt.org; novalue", "letsencrypt.org; =value", "letsencrypt.org; a=b;",
      "letsencrypt.org; a=b; ;c=d", "letsencrypt.org; a=b c", "letsencrypt.org; -a=b",
      "letsencrypt.org; a-=b", "letsencrypt.org; a_b=c", "letsencrypt.org; a=\x7f",
      "letsencrypt.org; a=\xc3\xa4", "letsencrypt.org\n", "\"letsencrypt.org\"", "*", "%%%%%");
  CAPTURE(value);
  CHECK_FALSE(allowed(value));
  CHECK_FALSE(parse_issue_value(value).valid);
  CHECK(allowed({record("issue", value), record("issue", "letsencrypt.org")}));
}

TEST_CASE("values are taken apart as RFC 8659 section 4.2 has them") {
  const auto value = parse_issue_value(" CA1.example.NET ; account = 230123 ;\tPolicy=ev=x ");
  REQUIRE(value.valid);
  CHECK(value.issuer == "ca1.example.net");
  using Parameters = std::vector<std::pair<std::string, std::string>>;
  CHECK(value.parameters == Parameters{{"account", "230123"}, {"policy", "ev=x"}});
  CHECK(parse_issue_value("a; b=").valid);  // an empty value
  CHECK(parse_issue_value("a1-b.c2").valid);
}

TEST_CASE("for wildcards issuewild goes before issue, and issue stands in for it") {
  CHECK(allowed({record("issue", "letsencrypt.org")}, true));
  CHECK_FALSE(allowed({record("issue", "digicert.com")}, true));
  CHECK(allowed({record("issue", ";"), record("issuewild", "letsencrypt.org")}, true));
  CHECK_FALSE(allowed({record("issue", "letsencrypt.org"), record("issuewild", ";")}, true));
  CHECK_FALSE(allowed({record("issue", ";"), record("issuewild", "letsencrypt.org")}, false));
  CHECK(allowed({record("issue", "letsencrypt.org"), record("issuewild", ";")}, false));
  CHECK_FALSE(allowed({record("issuewild", ";")}, true));
}

TEST_CASE("a critical property of an unknown kind forbids, whatever else allows") {
  const auto allowing = record("issue", "letsencrypt.org");
  CHECK_FALSE(allowed({allowing, record("tbs", "Unknown", 128)}));
  CHECK_FALSE(allowed({record("tbs", "Unknown", 255)}));
  CHECK_FALSE(allowed({record("", "", 128)}));
  CHECK_FALSE(allowed({allowing, record("tbs", "Unknown", 128)}, true));
  CHECK(allowed({allowing, record("tbs", "Unknown", 0)}));
  CHECK(allowed({allowing, record("tbs", "Unknown", 127)}));  // other bits are ignored
  CHECK(allowed({record("issue", "letsencrypt.org", 128), record("IODEF", "mailto:x", 128),
                 record("issuewild", ";", 128), record("issuemail", ";", 128)}));
}

TEST_CASE("accounturi allows one account of the CA") {
  const std::string ours = "letsencrypt.org; accounturi=";
  CHECK(allowed(ours + account));
  CHECK(allowed("letsencrypt.org; AccountURI=" + account));
  CHECK_FALSE(allowed(ours + account + "1"));
  CHECK_FALSE(allowed(ours + "https://CA.example/acct/1"));  // compared as simple strings
  CHECK_FALSE(allowed(ours));
  CHECK_FALSE(allowed(ours + "no-uri"));
  CHECK_FALSE(allowed(ours + account + "; accounturi=" + account));
  CHECK(allowed(
      {record("issue", ours + "https://ca.example/acct/2"), record("issue", ours + account)}));
}

TEST_CASE("an account that is not made yet may become the one that is named") {
  auto fresh = applicant();
  fresh.account.clear();
  const auto judged = [&](const std::string& value) {
    return judge_caa({record("issue", value)}, false, fresh).allowed;
  };
  CHECK(judged("letsencrypt.org; accounturi=https://ca.example/acct/2"));
  CHECK_FALSE(judged("letsencrypt.org; accounturi="));
  CHECK_FALSE(judged("letsencrypt.org; accounturi=https://a; accounturi=https://b"));
  CHECK_FALSE(judged("digicert.com; accounturi=https://ca.example/acct/2"));
}

TEST_CASE("validationmethods narrows the challenges, over all properties together") {
  const auto challenges = [](const std::vector<dns::Record>& set) {
    return judge_caa(set, false, applicant()).challenges;
  };
  const std::string ours = "letsencrypt.org; validationmethods=";
  CHECK(challenges({record("issue", ours + "http-01,tls-alpn-01,dns-01")}) ==
        Names{"http-01", "tls-alpn-01"});
  CHECK(challenges({record("issue", ours + "tls-alpn-01,http-01")}) ==
        Names{"http-01", "tls-alpn-01"});
  CHECK(challenges({record("issue", ours + "tls-alpn-01")}) == Names{"tls-alpn-01"});
  CHECK(challenges({record("issue", ours + "tls-alpn-01"), record("issue", ours + "http-01")}) ==
        Names{"http-01", "tls-alpn-01"});
  CHECK(challenges({record("issue", ours + "dns-01"), record("issue", "letsencrypt.org")}) ==
        Names{"http-01", "tls-alpn-01"});
  CHECK_FALSE(allowed(ours + "dns-01"));
  CHECK_FALSE(allowed(ours));
  CHECK_FALSE(allowed(ours + "HTTP-01"));  // a label is compared as it is
  CHECK_FALSE(allowed(ours + "http-01; validationmethods=http-01"));
  CHECK_FALSE(allowed(ours + "http-01; accounturi=https://ca.example/acct/2"));
  CHECK(allowed(ours + "http-01; accounturi=" + account));
}

TEST_CASE("the sentence names CA, record, zone and the line to add") {
  CHECK(sentence({record("issue", "digicert.com")}, place) ==
        "www.example.com: letsencrypt was not asked, because the CAA record of example.com forbids "
        "it: example.com. CAA 0 issue \"digicert.com\": it allows other CAs only (add to the zone "
        "example.com: example.com. CAA 0 issue \"letsencrypt.org\")");
  CHECK_THAT(sentence({record("issue", ";")}, place), Contains("it forbids every CA"));
  CHECK_THAT(sentence({record("issue", "a..b")}, place), Contains("it is malformed"));
}

TEST_CASE("for a wildcard the line to add is of the kind that counts") {
  CHECK_THAT(
      sentence({record("issue", "x.example")}, place, true),
      Contains("(add to the zone example.com: example.com. CAA 0 issue \"letsencrypt.org\""));
  CHECK_THAT(
      sentence({record("issue", "letsencrypt.org"), record("issuewild", ";", 128)}, place, true),
      Contains("CAA 128 issuewild \";\": it forbids every CA (add to the zone example.com: "
               "example.com. CAA 0 issuewild \"letsencrypt.org\")"));
}

TEST_CASE("a record for another account or challenge says so, and which would do") {
  const auto other =
      sentence({record("issue", "digicert.com"),
                record("issue", "letsencrypt.org; accounturi=https://ca.example/acct/2")},
               place);
  CHECK_THAT(other,
             Contains("acct/2\": it is for another account at the CA than ours, " + account));
  CHECK_THAT(other, !Contains("digicert.com"));
  CHECK_THAT(other, Contains("CAA 0 issue \"letsencrypt.org; accounturi=" + account + "\")"));
  const auto method =
      sentence({record("issue", "letsencrypt.org; validationmethods=dns-01")}, place);
  CHECK_THAT(method, Contains("it accepts the challenges dns-01 only, and [acme] challenges are "
                              "http-01, tls-alpn-01"));
}

TEST_CASE("a critical record is to be removed: nothing can be added to it") {
  CHECK_THAT(sentence({record("tbs", "x", 128), record("issue", "letsencrypt.org")}, place),
             Contains("example.com. CAA 128 tbs \"x\": it is critical and of a kind that CAs do "
                      "not know, so none may issue (remove this record from the zone example.com"));
}

TEST_CASE("records at the end of a CNAME are said to be another's, and many are not all shown") {
  CaaPlace alias;
  alias.owner = "cdn.example.net";
  alias.asked = "www.example.com";
  const auto text = sentence({record("issue", "a.example"), record("issue", "b.example"),
                              record("issue", "c.example"), record("issue", "d.example")},
                             alias);
  CHECK_THAT(text, Contains("the CAA records of cdn.example.net, to which www.example.com leads by "
                            "CNAME, forbid it: "));
  CHECK_THAT(text, Contains("and 1 more: none of them names letsencrypt.org (add to its zone: "));
}

TEST_CASE("what a record holds cannot break the log") {
  const auto text = sentence({record("issue", "x\n2026 error: all is lost\x1b[31m")}, place);
  CHECK(std::none_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f;
  }));
}

TEST_CASE("the names of well-known CAs in CAA records are known by their directories") {
  CHECK(known_caa_identities("https://acme-v02.api.letsencrypt.org/directory") ==
        Names{"letsencrypt.org"});
  CHECK(known_caa_identities("https://acme-staging-v02.api.letsencrypt.org/directory") ==
        Names{"letsencrypt.org"});
  CHECK(known_caa_identities("https://acme.zerossl.com/v2/DV90").front() == "sectigo.com");
  CHECK(known_caa_identities("https://dv.acme-v02.api.pki.goog/directory") == Names{"pki.goog"});
  CHECK(known_caa_identities("https://dv.acme-v02.test-api.pki.goog:443/directory") ==
        Names{"pki.goog"});
  for (const auto* other : {"https://127.0.0.1:14000/dir", "https://evilpki.goog/", "",
                            "https://ca.example/api.letsencrypt.org"}) {
    CAPTURE(other);
    CHECK(known_caa_identities(other).empty());
  }
}

}  // namespace gatehouse::acme
