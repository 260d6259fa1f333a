#include "app/quick_configuration.hpp"

#include <catch2/catch.hpp>

#include "config/load.hpp"

using gatehouse::app::quick_configuration;
using gatehouse::app::QuickOptions;
namespace config = gatehouse::config;

namespace {

QuickOptions options(std::string from, std::string to) {
  QuickOptions made;
  made.from = {std::move(from)};
  made.to = std::move(to);
  made.storage = "/tmp/gatehouse-quick";
  return made;
}

config::SnapshotPtr loaded(const QuickOptions& wanted) {
  const auto text = quick_configuration(wanted);
  REQUIRE(text.has_value());
  INFO(*text);
  auto result = config::load_text(*text, "(command line)");
  for (const auto& mistake : result.diagnostics) UNSCOPED_INFO(mistake.to_string());
  REQUIRE(result.snapshot);
  return result.snapshot;
}

}  // namespace

TEST_CASE("A host and an address are enough") {
  const auto snapshot = loaded(options("example.com", "localhost:8080"));
  REQUIRE(snapshot->sites.size() == 1);
  CHECK(snapshot->sites[0].hosts[0].text == "example.com");
  CHECK(snapshot->sites[0].upstream == "localhost:8080");
  CHECK(snapshot->sites[0].certificates == config::CertificateMode::automatic);
  CHECK(snapshot->server.https[0].text == ":443");
  CHECK(snapshot->server.http[0].text == ":80");
  CHECK(snapshot->server.storage == "/tmp/gatehouse-quick");
}

TEST_CASE("A port alone means localhost there with a certificate of our own, and no plain HTTP") {
  const auto snapshot = loaded(options(":8443", "localhost:8080"));
  CHECK(snapshot->sites[0].hosts[0].text == "localhost");
  CHECK(snapshot->sites[0].certificates == config::CertificateMode::internal);
  CHECK(snapshot->server.https[0].text == ":8443");
  CHECK(snapshot->server.http.empty());
}

TEST_CASE("Another CA is named by its directory") {
  QuickOptions wanted = options("a.example", "localhost:8080");
  wanted.ca_directory = "https://ca.internal:14000/dir";
  wanted.ca_trust = "/etc/hostname";
  const auto snapshot = loaded(wanted);
  REQUIRE(snapshot->acme.authorities.size() == 1);
  CHECK(snapshot->acme.authorities[0].directory == wanted.ca_directory);
}

TEST_CASE("Listeners can be chosen") {
  QuickOptions wanted = options("a.example", "localhost:8080");
  wanted.http = {"127.0.0.1:8000"};
  wanted.https = {"127.0.0.1:8001", "[::1]:8001"};
  const auto snapshot = loaded(wanted);
  CHECK(snapshot->server.http[0].port == 8000);
  CHECK(snapshot->server.https.size() == 2);
}

TEST_CASE("Options that contradict each other are refused") {
  QuickOptions two_ports = options(":8443", "localhost:1");
  two_ports.https = {":443"};
  CHECK(quick_configuration(two_ports).has_error());
  QuickOptions trust = options("a.example", "localhost:1");
  trust.ca_trust = "ca.pem";
  CHECK(quick_configuration(trust).has_error());
  QuickOptions local = options(":8443", "localhost:1");
  local.ca_directory = "https://ca.example/dir";
  CHECK(quick_configuration(local).has_error());
  CHECK(quick_configuration(options("a.example", "")).has_error());
}

TEST_CASE("What stands on the command line cannot become anything but a value") {
  for (const std::string& hostile :
       {std::string("a\"\n[server]\nworkers = 9"), std::string("${HOME}"), std::string("\\u0041"),
        std::string("x\x01")}) {
    const auto text = quick_configuration(options("a.example", hostile));
    REQUIRE(text.has_value());
    const auto result = config::load_text(*text, "(command line)");
    // Refused as an address, or taken for a name: nothing else of it is read.
    for (const auto& mistake : result.diagnostics) CHECK(mistake.key == "site[0].upstream");
    if (result.snapshot) CHECK(result.snapshot->server.workers == 0);
  }
}
