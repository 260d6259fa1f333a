#include "app/certificate_list.hpp"

#include <catch2/catch.hpp>

#include "admin/certificate_json.hpp"
#include "app/stored_certificates.hpp"

using gatehouse::acme::CertificateStatus;
using gatehouse::app::certificate_table;
using gatehouse::app::stored_certificates;

TEST_CASE("The table has a row for each certificate, columns aligned") {
  CertificateStatus good, bad;
  good.name = "a-rather-long-name.example";
  good.state = "active";
  good.issuer = "Some CA";
  good.not_after = std::chrono::system_clock::from_time_t(86'400);
  bad.name = "b.example";
  bad.state = "backoff";
  bad.last_error = "port 80 is closed";
  bad.next_attempt = std::chrono::system_clock::from_time_t(2 * 86'400);
  const auto table = certificate_table(gatehouse::admin::certificates_json({good, bad}));
  REQUIRE(table.has_value());
  CHECK(
      *table ==
      "NAME                        STATE    ISSUER   EXPIRES     RENEWS\n"
      "a-rather-long-name.example  active   Some CA  1970-01-02  -\n"
      "b.example                   backoff  -        -           -       port 80 is closed · next "
      "attempt 1970-01-03T00:00:00Z\n");
}

TEST_CASE("No certificates are said to be none") {
  const auto table = certificate_table(gatehouse::admin::certificates_json({}));
  REQUIRE(table.has_value());
  CHECK(std::string_view(*table) == "no certificates yet\n");
}

TEST_CASE("An answer that is no list is an error") {
  for (const std::string text : {"", "{", "[]", "{}", R"({"certificates":1})"})
    CHECK(certificate_table(text).has_error());
  CHECK(certificate_table(R"({"certificates":[1,null,{"name":3}]})").has_value());
}

TEST_CASE("A storage folder that is not there is named") {
  const auto outcome = stored_certificates("/no/such/storage");
  REQUIRE(outcome.has_error());
  CHECK(outcome.error().context.find("/no/such/storage") != std::string::npos);
}
