// The files in examples/, and the documentation's list of every key, against the real parser.

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include <catch2/catch.hpp>

#include "config/describe.hpp"
#include "tests/config/loaded.hpp"

namespace gatehouse::config {

namespace {

const std::string root = GATEHOUSE_SOURCE_DIR;

std::string content(const std::string& file) {
  std::ostringstream text;
  text << std::ifstream(root + "/" + file).rdbuf();
  REQUIRE_FALSE(text.str().empty());
  return text.str();
}

TEST_CASE("every example is a configuration without mistakes") {
  const Folder folder;
  folder.write("fullchain.pem", "x");
  folder.write("privkey.pem", "x");
  const Variable certificates("CERTIFICATE_DIR", folder.path().c_str());
  std::set<std::string> seen;
  for (const auto& entry : std::filesystem::directory_iterator(root + "/examples")) {
    if (entry.path().extension() != ".toml") continue;
    seen.insert(entry.path().filename().string());
    const auto result = load(entry.path().string());
    for (const auto& line : lines(result.diagnostics)) UNSCOPED_INFO(line);
    REQUIRE(result.snapshot != nullptr);
    CHECK_FALSE(describe(*result.snapshot).empty());
  }
  for (const auto* name :
       {"minimal.toml", "quickstart.toml", "saas-on-demand.toml", "static-certificate.toml",
        "load-balancing.toml", "behind-a-load-balancer.toml"}) {
    CHECK(seen.contains(name));
  }
}

TEST_CASE("the quickstart takes its ports, folders and CA from the environment") {
  const Folder folder;
  const auto trust = folder.write("ca.pem", "x");
  const Variable http("QUICKSTART_HTTP_PORT", "15002");
  const Variable https("QUICKSTART_HTTPS_PORT", "15443");
  const Variable storage("QUICKSTART_STORAGE", folder.path().c_str());
  const Variable admin("QUICKSTART_ADMIN_SOCKET", "/tmp/q.sock");
  const Variable directory("QUICKSTART_CA_DIRECTORY", "https://127.0.0.1:14000/dir");
  const Variable root_file("QUICKSTART_CA_TRUST", trust.c_str());
  const Variable ask("QUICKSTART_ASK", "http://127.0.0.1:1/ask");
  const Variable origin("QUICKSTART_ORIGIN", "127.0.0.1:2");
  const auto result = load(root + "/examples/quickstart.toml");
  REQUIRE(result.snapshot);
  const auto& snapshot = *result.snapshot;
  CHECK(snapshot.server.http[0].text == "127.0.0.1:15002");
  CHECK(snapshot.server.https[0].text == "127.0.0.1:15443");
  CHECK(snapshot.server.storage == folder.path());
  CHECK(snapshot.server.admin == "unix:/tmp/q.sock");
  CHECK(snapshot.acme.authorities[0].directory == "https://127.0.0.1:14000/dir");
  CHECK(snapshot.acme.authorities[0].trust == trust);
  CHECK(snapshot.on_demand.ask == "http://127.0.0.1:1/ask");
  CHECK(snapshot.sites[0].upstream == "127.0.0.1:2");
  CHECK(snapshot.sites[0].hosts[0].text == "*");
}

/// The TOML blocks of docs/configuration.md that are whole files.
std::vector<std::string> documented_files() {
  std::vector<std::string> result;
  const auto text = content("docs/configuration.md");
  const std::string start = "```toml\n";
  for (size_t at = text.find(start); at != text.npos; at = text.find(start, at)) {
    at += start.size();
    result.push_back(text.substr(at, text.find("```", at) - at));
  }
  return result;
}

TEST_CASE("every TOML block of the documentation is understood") {
  const auto files = documented_files();
  REQUIRE(files.size() >= 10);
  for (const auto& text : files) {
    INFO(text);
    // A block shows a part: it is completed by a site, and may name files that are not here.
    const bool whole = text.find("[[site]]") != text.npos;
    const auto result = load_text(whole ? text : text + site, "docs");
    for (const auto& line : lines(result.diagnostics)) {
      INFO(line);
      CHECK(line.find("No such file or directory") != std::string::npos);
    }
  }
}

TEST_CASE("every key that the parser knows is in the documentation") {
  const auto text = content("docs/configuration.md");
  for (const auto* key : {"import",
                          "http",
                          "https",
                          "workers",
                          "user",
                          "storage",
                          "admin",
                          "admin_token_file",
                          "admin_token",
                          "trusted_proxies",
                          "grace",
                          "level",
                          "format",
                          "file",
                          "access",
                          "access_format",
                          "redact",
                          "handshake",
                          "request_header",
                          "idle",
                          "body",
                          "upstream_connect",
                          "upstream_response",
                          "upstream_idle",
                          "tunnel",
                          "connections",
                          "connections_per_client",
                          "request_fields",
                          "request_body",
                          "request_body_rate",
                          "email",
                          "ca",
                          "challenges",
                          "key_type",
                          "renew_before",
                          "preferred_chain",
                          "caa",
                          "resolvers",
                          "directory",
                          "trust",
                          "profile",
                          "staging",
                          "eab",
                          "caa_identities",
                          "ask",
                          "allow",
                          "wait",
                          "on_timeout",
                          "hosts",
                          "upstream",
                          "certificates",
                          "certificate",
                          "key",
                          "fallback_certificate",
                          "fallback_key",
                          "redirect_http",
                          "hsts",
                          "tls_min",
                          "request_headers",
                          "response_headers",
                          "path",
                          "methods",
                          "headers",
                          "strip_prefix",
                          "redirect",
                          "respond",
                          "servers",
                          "balance",
                          "protocol",
                          "host",
                          "tls",
                          "retry",
                          "max_connections",
                          "h2c",
                          "proxy_protocol",
                          "client_ca",
                          "basic_auth",
                          "auth",
                          "auth_headers",
                          "passthrough",
                          "rate_limit",
                          "compress",
                          "acme.dns",
                          "webhook",
                          "exec",
                          "events",
                          "max_reminders",
                          "password_file",
                          "secret_file",
                          "health",
                          "outlier",
                          "http2_streams"}) {
    INFO(key);
    CHECK(text.find("`" + std::string(key) + "`") != std::string::npos);
  }
}

}  // namespace

}  // namespace gatehouse::config
