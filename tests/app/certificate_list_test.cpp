#include "app/certificate_list.hpp"

#include <algorithm>

#include <catch2/catch.hpp>

#include "admin/certificate_json.hpp"
#include "app/stored_certificates.hpp"

using gatehouse::acme::CertificateStatus;
using gatehouse::app::certificate_sheet;
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

TEST_CASE("What others wrote forges no line and reaches no terminal as a command") {
  CertificateStatus hostile;
  hostile.name = "a.example";
  hostile.state = "active";
  hostile.issuer = "CA\x1b[31m\nforged.example  active";
  hostile.last_error = "it said\r\xc2\x9b";
  const auto table = certificate_table(gatehouse::admin::certificates_json({hostile}));
  REQUIRE(table.has_value());
  CHECK(std::count(table->begin(), table->end(), '\n') == 2);
  gatehouse::acme::CertificateDetails details;
  details.status = hostile;
  details.names = {"a.example\nstate          well"};
  gatehouse::tls::ChainLink link;
  link.subject = link.issuer = hostile.issuer;
  details.chain = {link};
  const auto sheet = certificate_sheet(gatehouse::admin::details_json(details));
  REQUIRE(sheet.has_value());
  for (const std::string& text : {*table, *sheet}) {
    INFO(text);
    CHECK(text.find_first_of("\x1b\r") == std::string::npos);
    CHECK(text.find("\xc2\x9b") == std::string::npos);
    CHECK(text.find("\nforged") == std::string::npos);
    CHECK(text.find("\nstate          well") == std::string::npos);
  }
}

TEST_CASE("A sheet says when the CA wants it renewed, and why") {
  gatehouse::acme::CertificateDetails details;
  details.status.name = "a.example";
  details.window = {std::chrono::system_clock::from_time_t(86'400),
                    std::chrono::system_clock::from_time_t(2 * 86'400)};
  const auto silent = certificate_sheet(gatehouse::admin::details_json(details));
  REQUIRE(silent.has_value());
  CHECK(silent->find("CA suggests    1970-01-02T00:00:00Z to 1970-01-03T00:00:00Z\n") !=
        std::string::npos);
  CHECK(silent->find("because") == std::string::npos);
  details.explanation = "https://ca.test/incident-7";
  const auto sheet = certificate_sheet(gatehouse::admin::details_json(details));
  REQUIRE(sheet.has_value());
  CHECK(sheet->find("because        https://ca.test/incident-7\n") != std::string::npos);
}
