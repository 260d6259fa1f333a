#include "acme/notify_ways.hpp"

#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <boost/asio/io_context.hpp>
#include <boost/json.hpp>
#include <catch2/catch.hpp>

#include "base/encoding.hpp"
#include "tests/support/await.hpp"
#include "tests/support/scripted_server.hpp"
#include "tls/digest.hpp"

namespace gatehouse::acme {

namespace {

namespace asio = boost::asio;
using test::ScriptedReply;
using test::ScriptedRequest;
using test::ScriptedServer;

Notice notice() {
  return test_notice(WallTime(std::chrono::seconds(1'700'000'000)));
}

std::string field(const std::string& head, const std::string& name) {
  const auto found = head.find("\r\n" + name + ": ");
  if (found == std::string::npos) return "(absent)";
  const auto begin = found + name.size() + 4;
  return head.substr(begin, head.find("\r\n", begin) - begin);
}

ScriptedReply answer(int status) {
  ScriptedReply reply;
  reply.status = status;
  return reply;
}

}  // namespace

TEST_CASE("A webhook's signature covers its time and its body") {
  // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key
  CHECK(signature_of("key", "1700000000", R"({"a":1})") ==
        "sha256=" + base::hex(tls::hmac_sha256("key", R"(1700000000.{"a":1})")));
  CHECK(signature_of("key", "1", "b") != signature_of("key", "2", "b"));
  CHECK(signature_of("key", "1", "b") != signature_of("other", "1", "b"));
}

TEST_CASE("A webhook gets JSON, signed if there is a secret") {
  asio::io_context control;
  ScriptedServer server(control, [](const ScriptedRequest&) { return answer(204); });
  base::Fetcher fetcher(control);
  config::Notify settings;
  settings.webhook.emplace();
  settings.webhook->url = server.url("/hook/T0PSECRET");
  settings.webhook->secret = "s3cret";
  auto senders = make_senders(settings, fetcher);
  CHECK_FALSE(senders.of(Way::email));
  CHECK_FALSE(senders.of(Way::exec));
  auto sent = test::await(control, senders.of(Way::webhook)(notice()));
  REQUIRE(sent.has_value());
  const auto& seen = server.requests().at(0);
  CHECK(seen.method == "POST");
  CHECK(seen.target == "/hook/T0PSECRET");
  CHECK(field(seen.head, "Content-Type") == "application/json");
  CHECK(boost::json::parse(seen.body).as_object().at("event") == "test");
  const auto timestamp = field(seen.head, "X-Gatehouse-Timestamp");
  CHECK(std::abs(std::atoll(timestamp.c_str()) - std::time(nullptr)) < 60);
  CHECK(field(seen.head, "X-Gatehouse-Signature") == signature_of("s3cret", timestamp, seen.body));

  settings.webhook->secret.clear();
  senders = make_senders(settings, fetcher);
  sent = test::await(control, senders.of(Way::webhook)(notice()));
  REQUIRE(sent.has_value());
  CHECK(field(server.requests().at(1).head, "X-Gatehouse-Signature") == "(absent)");
}

TEST_CASE("A webhook that does not take the message fails without its path being told") {
  asio::io_context control;
  int status = 500;
  ScriptedServer server(control, [&](const ScriptedRequest&) {
    auto reply = answer(status);
    reply.fields = {{"Location", "/elsewhere"}};
    return reply;
  });
  base::Fetcher fetcher(control);
  config::Notify settings;
  settings.webhook.emplace();
  settings.webhook->url = server.url("/hook/T0PSECRET");
  settings.webhook->secret = "s3cret";
  for (const int each : {500, 404, 302, 429}) {
    status = each;
    const auto senders = make_senders(settings, fetcher);
    const auto sent = test::await(control, senders.of(Way::webhook)(notice()));
    REQUIRE(sent.has_error());
    CHECK(sent.error().context.find("answered " + std::to_string(each)) != std::string::npos);
    CHECK(sent.error().context.find("T0PSECRET") == std::string::npos);
  }
  settings.webhook->url = "http://127.0.0.1:1/T0PSECRET";
  const auto sent =
      test::await(control, make_senders(settings, fetcher).of(Way::webhook)(notice()));
  REQUIRE(sent.has_error());
  CHECK(sent.error().context.find("T0PSECRET") == std::string::npos);
  CHECK(sent.error().context.find("s3cret") == std::string::npos);
}

TEST_CASE("A command gets the message in its environment and on its input") {
  asio::io_context control;
  base::Fetcher fetcher(control);
  char folder[] = "/tmp/gatehouse-notify-XXXXXX";
  REQUIRE(::mkdtemp(folder) != nullptr);
  const std::string file = std::string(folder) + "/told";
  config::Notify settings;
  settings.exec = {"/bin/sh", "-c", "{ env; echo; cat; } > \"$1\"", "tell", file};
  const auto senders = make_senders(settings, fetcher);
  const auto sent = test::await(control, senders.of(Way::exec)(notice()));
  REQUIRE(sent.has_value());
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  CHECK(text.str().find("GATEHOUSE_EVENT=test\n") != std::string::npos);
  CHECK(text.str().find("GATEHOUSE_TEXT=This is a test") != std::string::npos);
  CHECK(text.str().find("\n{\"version\":1,") != std::string::npos);
  std::filesystem::remove_all(folder);
}

TEST_CASE("A command that fails is told with what it said last") {
  asio::io_context control;
  base::Fetcher fetcher(control);
  const auto failure = [&](const std::string& script) {
    config::Notify settings;
    settings.exec = {"/bin/sh", "-c", script};
    const auto senders = make_senders(settings, fetcher);
    const auto sent = test::await(control, senders.of(Way::exec)(notice()));
    REQUIRE(sent.has_error());
    return sent.error().context;
  };
  CHECK(failure("echo no luck >&2; exit 7") == "/bin/sh ended with status 7; it said: no luck");
  CHECK(failure("exit 1") == "/bin/sh ended with status 1, and said nothing");
  CHECK(failure("kill -KILL $$") == "/bin/sh was ended by signal 9, and said nothing");
  const auto flood = failure("head -c 100000 /dev/zero | tr '\\0' x; printf '\\033[2J'; exit 1");
  CHECK(flood.size() < 600);
  CHECK(flood.find('\x1b') == std::string::npos);
  config::Notify settings;
  settings.exec = {"/none/such"};
  const auto sent = test::await(control, make_senders(settings, fetcher).of(Way::exec)(notice()));
  REQUIRE(sent.has_error());
  CHECK(sent.error().context.find("cannot run /none/such") != std::string::npos);
}

}  // namespace gatehouse::acme
