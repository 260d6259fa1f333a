#include "tls/certificate_table.hpp"

#include <catch2/catch.hpp>

#include "tls/certificate.hpp"

using namespace gatehouse::tls;
using Match = CertificateTable::Match;

namespace {

CertificatePtr fresh() {
  return make_self_signed({"test.example"}, std::chrono::hours(1)).value();
}

const CertificatePtr& one() {
  static const CertificatePtr certificate = fresh();
  return certificate;
}
const CertificatePtr& other() {
  static const CertificatePtr certificate = fresh();
  return certificate;
}
const CertificatePtr& third() {
  static const CertificatePtr certificate = fresh();
  return certificate;
}

void check(const CertificateTablePtr& table, std::string_view name, Match match,
           const CertificatePtr& certificate) {
  INFO(name);
  const auto found = table->find(name);
  CHECK(found.match == match);
  REQUIRE((found.certificate == nullptr) == (certificate == nullptr));
  if (certificate) CHECK(*found.certificate == certificate);
}

}  // namespace

TEST_CASE("an empty table finds nothing") {
  const auto table = CertificateTable::empty();
  check(table, "example.com", Match::none, nullptr);
  check(table, "", Match::none, nullptr);
  CHECK(table->size() == 0);
  CHECK(table->default_certificate() == nullptr);
}

TEST_CASE("an exact name goes before a wildcard, a wildcard before a fallback") {
  const auto table = CertificateTable::empty()
                         ->with("www.example.com", one())
                         ->with("*.example.com", other())
                         ->with_fallback("example.com", third());
  check(table, "www.example.com", Match::exact, one());
  check(table, "api.example.com", Match::wildcard, other());
  check(table, "example.com", Match::fallback, third());
  CHECK(table->size() == 2);
}

TEST_CASE("a wildcard stands for exactly one label") {
  const auto table = CertificateTable::empty()->with("*.example.com", one());
  check(table, "a.example.com", Match::wildcard, one());
  check(table, "a.b.example.com", Match::none, nullptr);
  check(table, "example.com", Match::none, nullptr);
  check(table, "aexample.com", Match::none, nullptr);
  check(table, "com", Match::none, nullptr);
  check(table, "example.com.", Match::none, nullptr);
}

TEST_CASE("a zone's fallback serves the zone and one label below") {
  const auto table = CertificateTable::empty()->with_fallback("example.com", one());
  check(table, "example.com", Match::fallback, one());
  check(table, "a.example.com", Match::fallback, one());
  check(table, "b.a.example.com", Match::none, nullptr);
  check(table, "com", Match::none, nullptr);
  const auto without = table->with_fallback("example.com", nullptr);
  check(without, "example.com", Match::none, nullptr);
}

TEST_CASE("the nearer zone's fallback goes first") {
  const auto table = CertificateTable::empty()
                         ->with_fallback("example.com", one())
                         ->with_fallback("a.example.com", other());
  check(table, "a.example.com", Match::fallback, other());
  check(table, "b.example.com", Match::fallback, one());
  check(table, "x.a.example.com", Match::fallback, other());
}

TEST_CASE("a changed copy leaves the table it came from alone") {
  const auto before = CertificateTable::empty()->with("a.example", one());
  const auto replaced = before->with("a.example", other());
  const auto removed = before->without("a.example");
  const auto more = before->with("b.example", other());
  check(before, "a.example", Match::exact, one());
  check(before, "b.example", Match::none, nullptr);
  check(replaced, "a.example", Match::exact, other());
  check(removed, "a.example", Match::none, nullptr);
  check(more, "a.example", Match::exact, one());
  CHECK(before->size() == 1);
  CHECK(replaced->size() == 1);
  CHECK(removed->size() == 0);
  CHECK(more->size() == 2);
  CHECK(CertificateTable::empty()->size() == 0);
}

TEST_CASE("removing a name removes neither its wildcard nor what was never there") {
  const auto table =
      CertificateTable::empty()->with("example.com", one())->with("*.example.com", other());
  check(table->without("*.example.com"), "example.com", Match::exact, one());
  check(table->without("example.com"), "a.example.com", Match::wildcard, other());
  CHECK(table->without("nothing.example")->size() == 2);
  CHECK(table->without("*.nothing.example")->size() == 2);
}

TEST_CASE("names are kept in lower case") {
  const auto table = CertificateTable::empty()->with("WWW.Example.com", one());
  check(table, "www.example.com", Match::exact, one());
}

TEST_CASE("the default certificate is served apart from the names") {
  const auto table = CertificateTable::empty()->with_default(one());
  CHECK(table->default_certificate() == one());
  check(table, "example.com", Match::none, nullptr);
  CHECK(table->with("a.example", other())->default_certificate() == one());
  CHECK(table->with_default(nullptr)->default_certificate() == nullptr);
}

TEST_CASE("twenty thousand names are all found, and gone when removed") {
  constexpr int count = 20'000;
  auto table = CertificateTable::empty();
  for (int i = 0; i < count; ++i) {
    table = table->with("site-" + std::to_string(i) + ".example.com", i % 2 ? one() : other());
  }
  REQUIRE(table->size() == count);
  for (int i = 0; i < count; ++i) {
    const auto found = table->find("site-" + std::to_string(i) + ".example.com");
    REQUIRE(found.match == Match::exact);
    REQUIRE(*found.certificate == (i % 2 ? one() : other()));
  }
  for (int i = 0; i < count; i += 2) {
    table = table->without("site-" + std::to_string(i) + ".example.com");
  }
  CHECK(table->size() == count / 2);
  check(table, "site-2.example.com", Match::none, nullptr);
  check(table, "site-3.example.com", Match::exact, one());
}
