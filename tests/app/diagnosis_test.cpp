#include "app/diagnosis.hpp"

#include <boost/json.hpp>
#include <catch2/catch.hpp>

using namespace gatehouse::app;
using gatehouse::tls::Presented;
namespace json = boost::json;

namespace {

using Wall = gatehouse::base::WallClock::time_point;
const Wall now = gatehouse::base::WallClock::from_time_t(1'800'000'000);

Presented shown(const std::string& fingerprint = "f1") {
  Presented made;
  made.leaf.subject = "a.example";
  made.leaf.issuer = "Some CA";
  made.leaf.not_after = now + std::chrono::hours(24 * 60);
  made.fingerprint = fingerprint;
  return made;
}

/// Everything as it should be.
Findings well() {
  Findings f;
  f.host = "a.example";
  CertificateFinding certificate;
  certificate.state = "active";
  certificate.authority = "letsencrypt";
  certificate.fingerprint = "f1";
  certificate.not_after = "2027-03-16T08:00:00Z";
  certificate.renew_at = "2027-02-14T08:00:00Z";
  f.certificate = certificate;
  AddressFinding address;
  address.address = "192.0.2.1";
  address.of_this_machine = true;
  address.http = Answerer::ourselves;
  address.shown = shown();
  f.addresses.push_back(address);
  return f;
}

bool has(const Diagnosis& diagnosis, Mark mark, const std::string& words) {
  UNSCOPED_INFO(diagnosis_text(diagnosis));
  for (const auto& line : diagnosis.lines)
    if (line.mark == mark && line.text.find(words) != std::string::npos) return true;
  return false;
}

void check_trouble(const Findings& findings, const std::string& words) {
  const Diagnosis diagnosis = diagnose(findings, now);
  INFO(diagnosis_text(diagnosis));
  CHECK(!diagnosis.well);
  CHECK(diagnosis.verdict.find(words) != std::string::npos);
}

}  // namespace

TEST_CASE("A host where all is as it should be is well") {
  const Diagnosis diagnosis = diagnose(well(), now);
  CHECK(diagnosis.well);
  CHECK(diagnosis.verdict ==
        "a.example is well, its certificate is renewed at "
        "2027-02-14T08:00:00Z");
  for (const auto& line : diagnosis.lines) CHECK(line.mark == Mark::well);
}

TEST_CASE("An address of another machine is a note: a local view may mislead") {
  Findings f = well();
  f.addresses[0].of_this_machine = false;
  const Diagnosis diagnosis = diagnose(f, now);
  CHECK(diagnosis.well);
  CHECK(has(diagnosis, Mark::note, "none of these is an address of this machine"));
}

TEST_CASE("A host without an address cannot be reached") {
  Findings f = well();
  f.addresses.clear();
  f.dns_problem = "a.example has no address";
  check_trouble(f, "no address");
}

TEST_CASE("A host that no site has is not served") {
  Findings f = well();
  f.certificate.reset();
  f.unknown = "there is no certificate for a.example, did you mean 'b.example'?";
  check_trouble(f, "did you mean 'b.example'");
}

TEST_CASE("Without a certificate the verdict is the last error and the next attempt") {
  Findings f = well();
  f.certificate->state = "backoff";
  f.certificate->fingerprint.clear();
  f.certificate->not_after.clear();
  f.certificate->last_error = "the CA could not reach port 80 at 192.0.2.1";
  f.certificate->next_attempt = "2027-01-15T09:00:00Z";
  f.certificate->failures = 2;
  f.addresses[0].shown->self_signed = true;
  f.addresses[0].shown->objection = "self-signed certificate";
  check_trouble(f,
                "has no certificate yet: the CA could not reach port 80 at 192.0.2.1; next "
                "attempt at 2027-01-15T09:00:00Z");
}

TEST_CASE("Without an error, a port 80 that leads elsewhere is the reason") {
  Findings f = well();
  f.certificate->state = "waiting";
  f.certificate->fingerprint.clear();
  f.certificate->not_after.clear();
  f.addresses[0].shown->self_signed = true;
  f.addresses[0].shown->objection = "self-signed certificate";
  f.addresses[0].http = Answerer::another;
  f.addresses[0].http_problem = "status 404";
  check_trouble(f, "port 80 of 192.0.2.1 does not lead to this gatehouse");
  f.http_challenge = false;
  const Diagnosis without = diagnose(f, now);
  CHECK(has(without, Mark::note, "answered by another server (status 404)"));
  CHECK(without.verdict.find("port 80") == std::string::npos);
}

TEST_CASE("A CAA record that forbids the CA is the reason before all others") {
  Findings f = well();
  f.certificate->state = "blocked";
  f.certificate->fingerprint.clear();
  f.certificate->not_after.clear();
  f.certificate->last_error = "another error";
  f.addresses[0].shown->self_signed = true;
  f.addresses[0].shown->objection = "self-signed certificate";
  f.caa.push_back({"letsencrypt", false, "the CAA record of example forbids letsencrypt"});
  check_trouble(f, "the CAA record of example forbids letsencrypt");
}

TEST_CASE("A valid certificate whose renewals fail is trouble") {
  Findings f = well();
  f.certificate->failures = 3;
  f.certificate->last_error = "the CA says no";
  check_trouble(f, "is served, but its certificate cannot be renewed: the CA says no");
  Findings caa = well();
  caa.caa.push_back({"letsencrypt", false, "the CAA record forbids it"});
  check_trouble(caa, "cannot be renewed: the CAA record forbids it");
}

TEST_CASE("An HTTPS port that does not answer is named with its address") {
  Findings f = well();
  AddressFinding second;
  second.address = "2001:db8::1";
  second.http = Answerer::nobody;
  second.http_problem = "no answer";
  second.https_problem = "cannot connect to [2001:db8::1]:443: Connection refused";
  f.addresses.push_back(second);
  check_trouble(f, "not reached on HTTPS at 2001:db8::1");
}

TEST_CASE("Another server's certificate is noticed, a good one and a bad one") {
  Findings f = well();
  f.addresses[0].shown = shown("other");
  check_trouble(f, "not with the one of this gatehouse");
  f.addresses[0].shown->objection = "self-signed certificate";
  f.addresses[0].shown->self_signed = true;
  check_trouble(f, "shows another certificate");
}

TEST_CASE("An expired certificate and one that clients refuse are trouble") {
  Findings f = well();
  f.addresses[0].shown->leaf.not_after = now - std::chrono::hours(1);
  f.addresses[0].shown->objection = "certificate has expired";
  f.certificate->state = "expired";
  check_trouble(f, "expired certificate");
  Findings refused = well();
  refused.addresses[0].shown->objection = "unable to get local issuer certificate";
  check_trouble(refused, "unable to get local issuer certificate: add the intermediate");
}

TEST_CASE("Without a running gatehouse it says what it could not look at") {
  Findings f = well();
  f.not_running = "no gatehouse runs here";
  f.addresses[0].http = Answerer::not_asked;
  const Diagnosis diagnosis = diagnose(f, now);
  CHECK(!diagnosis.well);
  CHECK(has(diagnosis, Mark::unseen, "port 80 was not asked"));
  CHECK(has(diagnosis, Mark::unseen, "its budget, last error and next attempt are not known"));
  CHECK(diagnosis.verdict.find("no gatehouse runs here that would renew it") != std::string::npos);
  f.certificate.reset();
  f.unknown = "there is no certificate for a.example";
  CHECK(!diagnose(f, now).well);
}

TEST_CASE("A diagnosis is JSON with a verdict and a line for each finding") {
  const auto out = json::parse(diagnosis_json("a.example", diagnose(well(), now)));
  CHECK(out.at("well").as_bool());
  CHECK(out.at("host").as_string() == "a.example");
  CHECK(!out.at("findings").as_array().empty());
  CHECK(out.at("findings").as_array().at(0).at("mark").as_string() == "well");
}

TEST_CASE("The words of another server forge no line") {
  Findings f = well();
  f.addresses[0].shown->leaf.issuer = "CA\x1b[2J\nwell     HTTPS";
  f.addresses[0].shown->objection = "no\nroot";
  const std::string text = diagnosis_text(diagnose(f, now));
  INFO(text);
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(text.find("\nwell     HTTPS ") == std::string::npos);
  CHECK(text.find("\nroot") == std::string::npos);
}

TEST_CASE("A certificate of the user's own is said to be that") {
  for (const char* const source : {"file", "custom"}) {
    Findings f = well();
    f.certificate->state = f.certificate->authority = source;
    CHECK(has(diagnose(f, now), Mark::well, std::string(source) + ", your own, valid until"));
  }
}
