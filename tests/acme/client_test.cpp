#include "acme/client.hpp"

#include <map>

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <catch2/catch.hpp>

#include "base/encoding.hpp"
#include "tests/support/await.hpp"
#include "tests/support/memory_storage.hpp"
#include "tests/support/scripted_server.hpp"

namespace gatehouse::acme {

namespace {

using namespace std::chrono_literals;
using Catch::Contains;
using test::ScriptedReply;
using test::ScriptedRequest;
using Fault = ScriptedReply::Fault;

/// The faults a real CA cannot be made to show: a server of scripted answers.
struct FaultyCa {
  FaultyCa() {
    authority.name = "faulty";
    authority.directory = server.url("/dir");
    auto key = tls::PrivateKey::generate(config::KeyType::p256);
    account = std::make_shared<const Account>(
        Account{*key, server.url("/acct/1"), server.url("/orders"), "thumbprint"});
    errand.attempt.names = "a.example";
    errand.attempt.authority = "faulty";
    errand.deadline = base::Monotonic::now() + 20s;
  }

  ScriptedReply answer(const ScriptedRequest& request) {
    ScriptedReply reply;
    if (request.target == "/dir") {
      reply.body = fmt::format(R"({{"newNonce":"{0}/nonce","newAccount":"{0}/account",)"
                               R"("newOrder":"{0}{1}"}})",
                               base, order_path);
      if (directory) reply = directory(request);
    } else if (request.target == "/nonce") {
      reply.fields = {{"Replay-Nonce", fmt::format("nonce-{}", ++nonces)}};
      if (nonce) reply = nonce(request);
    } else {
      reply = post(request);
    }
    return reply;
  }

  /// newOrder as the script answers it.
  Outcome<Reply<OrderObject>> order() {
    return test::await(control, client.new_order(account, {"a.example"}, "", errand));
  }

  size_t count(const std::string& target) const {
    size_t found = 0;
    for (const auto& request : server.requests()) found += request.target == target ? 1 : 0;
    return found;
  }

  /// A member of the protected header of the n-th request to a path.
  std::string header(const std::string& target, size_t n, const char* member) const {
    for (const auto& request : server.requests()) {
      if (request.target != target || n-- > 0) continue;
      const auto jws = boost::json::parse(request.body);
      const auto text = base::base64url_decode(jws.at("protected").as_string());
      return std::string(boost::json::parse(*text).at(member).as_string());
    }
    return {};
  }

  boost::asio::io_context control;
  std::function<ScriptedReply(const ScriptedRequest&)> directory, nonce, post;
  std::string order_path = "/order";
  int nonces = 0;
  test::ScriptedServer server{control,
                              [this](const ScriptedRequest& request) { return answer(request); }};
  std::string base = server.url("");
  config::CertificateAuthority authority;
  test::MemoryStorage storage;
  base::Fetcher fetcher{control};
  AccountPtr account;
  Errand errand;
  Client client{fetcher, storage, base::real_clock(), with_directory()};

  config::CertificateAuthority with_directory() {
    config::CertificateAuthority result;
    result.name = "faulty";
    result.directory = server.url("/dir");
    return result;
  }
};

ScriptedReply problem(int status, const std::string& type, const std::string& detail = "why") {
  ScriptedReply reply;
  reply.status = status;
  reply.fields = {{"Content-Type", "application/problem+json"}};
  reply.body =
      fmt::format(R"({{"type":"urn:ietf:params:acme:error:{}","detail":"{}"}})", type, detail);
  return reply;
}

ScriptedReply good_order(const std::string& base) {
  ScriptedReply reply;
  reply.status = 201;
  reply.fields = {{"Location", base + "/order/1"}, {"Replay-Nonce", "from-order"}};
  reply.body =
      fmt::format(R"({{"status":"pending","identifiers":[{{"type":"dns","value":"a.example"}}],)"
                  R"("authorizations":["{0}/authz/1"],"finalize":"{0}/finalize/1"}})",
                  base);
  return reply;
}

}  // namespace

TEST_CASE("an order is asked for with a signed message, and its address comes back") {
  FaultyCa ca;
  ca.post = [&](const ScriptedRequest&) { return good_order(ca.base); };
  const auto reply = ca.order();
  REQUIRE(reply.has_value());
  CHECK(reply->location == ca.base + "/order/1");
  CHECK(ca.header("/order", 0, "url") == ca.base + "/order");
  CHECK(ca.header("/order", 0, "kid") == ca.account->url);
  CHECK(ca.header("/order", 0, "nonce") == "nonce-1");
  CHECK(ca.server.requests().back().head.find("application/jose+json") != std::string::npos);
  REQUIRE(ca.order().has_value());
  CHECK(ca.header("/order", 1, "nonce") == "from-order");
  CHECK(ca.count("/dir") == 1);
  CHECK(ca.count("/nonce") == 1);
}

TEST_CASE("badNonce is tried again with the nonce of the error") {
  FaultyCa ca;
  int refusals = 3;
  ca.post = [&](const ScriptedRequest&) {
    if (refusals-- <= 0) return good_order(ca.base);
    auto reply = problem(400, "badNonce");
    reply.fields.emplace_back("Replay-Nonce", fmt::format("error-{}", refusals));
    return reply;
  };
  REQUIRE(ca.order().has_value());
  CHECK(ca.header("/order", 1, "nonce") == "error-2");
  CHECK(ca.header("/order", 3, "nonce") == "error-0");
  CHECK(ca.count("/nonce") == 1);
}

TEST_CASE("a storm of badNonce ends after ten tries, with or without new nonces") {
  FaultyCa ca;
  const bool with_nonce = GENERATE(true, false);
  ca.post = [&](const ScriptedRequest&) {
    auto reply = problem(400, "badNonce");
    if (with_nonce) reply.fields.emplace_back("Replay-Nonce", "again");
    return reply;
  };
  const auto reply = ca.order();
  REQUIRE(reply.has_error());
  CHECK(reply.error().kind == FailureClass::transport);
  CHECK(ca.count("/order") == 10);
}

TEST_CASE("every kind of trouble becomes a transport failure that names name and CA") {
  FaultyCa ca;
  const int kind = GENERATE(range(0, 9));
  ca.post = [&](const ScriptedRequest&) {
    ScriptedReply reply;
    switch (kind) {
      case 0:
        return problem(500, "serverInternal");
      case 1:
        reply.status = 502;
        reply.body = "<html>";
        break;
      case 2:
        reply.fault = Fault::cut_off;
        break;
      case 3:
        reply.fault = Fault::endless_body;
        break;
      case 4:
        reply.body = "{\"status\":";
        break;
      case 5:
        reply.body = "[]";
        break;
      case 6:
        reply.status = 302;
        reply.fields = {{"Location", "/elsewhere"}};
        break;
      case 7:
        reply.fault = Fault::raw;
        reply.bytes = "HTTP/1.1 999\r\n\r\n";
        break;
      default:
        reply.body = std::string(2 * 1024 * 1024, '[');
        break;
    }
    return reply;
  };
  const auto reply = ca.order();
  REQUIRE(reply.has_error());
  INFO(reply.error().sentence);
  CHECK(reply.error().kind == FailureClass::transport);
  CHECK_THAT(reply.error().sentence, Contains("a.example") && Contains("faulty"));
  CHECK(ca.count("/order") == 1);
  CHECK(ca.count("/elsewhere") == 0);
}

TEST_CASE("a hanging CA is left at the deadline, and its request is not sent again") {
  FaultyCa ca;
  ca.errand.deadline = base::Monotonic::now() + 300ms;
  ca.post = [&](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.fault = Fault::hang;
    return reply;
  };
  const auto begun = base::Monotonic::now();
  const auto reply = ca.order();
  REQUIRE(reply.has_error());
  CHECK(reply.error().kind == FailureClass::transport);
  CHECK(base::Monotonic::now() - begun < 5s);
  CHECK(ca.count("/order") == 1);
  const auto late = ca.order();
  CHECK_THAT(late.error().sentence, Contains("ran out"));
  CHECK(ca.count("/order") == 1);
}

TEST_CASE("a kept connection that breaks under newOrder does not send it twice") {
  FaultyCa ca;
  ca.post = [&](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.fault = Fault::cut_off;
    return reply;
  };
  CHECK(ca.order().has_error());
  CHECK(ca.count("/order") == 1);
}

TEST_CASE("429 carries its end, as seconds or as a date") {
  FaultyCa ca;
  ca.post = [&](const ScriptedRequest&) {
    auto reply = problem(429, "rateLimited", "too many");
    reply.fields.emplace_back("Retry-After", "30");
    return reply;
  };
  const auto before = base::WallClock::now();
  const auto reply = ca.order();
  REQUIRE(reply.has_error());
  CHECK(reply.error().kind == FailureClass::rate_limit);
  CHECK(reply.error().retry_at.value() >= before + 30s);
  CHECK(reply.error().retry_at.value() <= base::WallClock::now() + 30s);
}

TEST_CASE("a directory whose addresses are gone is fetched again, once") {
  FaultyCa ca;
  ca.post = [&](const ScriptedRequest& request) {
    if (request.target == "/order") {
      ca.order_path = "/moved";
      return problem(404, "malformed");
    }
    return good_order(ca.base);
  };
  CHECK(ca.order().has_value());
  CHECK(ca.count("/dir") == 2);
  ca.post = [](const ScriptedRequest&) { return problem(404, "malformed"); };
  CHECK(ca.order().has_error());
  CHECK(ca.count("/dir") == 3);
}

TEST_CASE("the directory survives a restart for a day, and only its own") {
  FaultyCa ca;
  ca.post = [&](const ScriptedRequest&) { return good_order(ca.base); };
  REQUIRE(ca.order().has_value());
  auto& stored = ca.storage.files.at("issuers/faulty/directory.json");
  size_t expected = 1;
  SECTION("fresh") {}
  SECTION("a day old") {
    const size_t at = stored.find("\"fetched\":\"") + 11;
    stored.replace(at, 4, "2020");
    expected = 2;
  }
  SECTION("of another address") {
    const size_t at = stored.find("/dir");
    stored.replace(at, 4, "/old");
    expected = 2;
  }
  SECTION("nonsense") {
    stored = GENERATE(as<std::string>{}, "", "{", "[]", "{\"url\":1}");
    expected = 2;
  }
  Client second(ca.fetcher, ca.storage, base::real_clock(), ca.with_directory());
  const auto reply =
      test::await(ca.control, second.new_order(ca.account, {"a.example"}, "", ca.errand));
  CHECK(reply.has_value());
  CHECK(ca.count("/dir") == expected);
}

TEST_CASE("a directory or nonce that makes no sense is told as such") {
  FaultyCa ca;
  ca.post = [&](const ScriptedRequest&) { return good_order(ca.base); };
  SECTION("directory") {
    ca.directory = [](const ScriptedRequest&) {
      ScriptedReply reply;
      reply.body = "<html>hello</html>";
      return reply;
    };
    CHECK_THAT(ca.order().error().sentence, Contains("a directory at"));
  }
  SECTION("no nonce") {
    ca.nonce = [](const ScriptedRequest&) { return ScriptedReply(); };
    CHECK_THAT(ca.order().error().sentence, Contains("nonce"));
  }
  SECTION("a nonce that would break the header") {
    ca.nonce = [](const ScriptedRequest&) {
      ScriptedReply reply;
      reply.fields = {{"Replay-Nonce", "a\"b"}};
      return reply;
    };
    CHECK(ca.order().has_error());
  }
  CHECK(ca.count("/order") == 0);
}

TEST_CASE("an unusable Location is no location, and an account without one is refused") {
  FaultyCa ca;
  ca.post = [&](const ScriptedRequest& request) {
    auto reply = good_order(ca.base);
    reply.fields = {{"Location", "file:///etc/passwd"}};
    if (request.target == "/account") reply.body = "{}";
    return reply;
  };
  CHECK(ca.order()->location.empty());
  auto key = tls::PrivateKey::generate(config::KeyType::p256);
  const auto account = test::await(ca.control, ca.client.new_account(*key, ca.errand));
  REQUIRE(account.has_error());
  CHECK_THAT(account.error().sentence, Contains("an account without its address"));
}

TEST_CASE("pages of orders and alternates of a certificate are told by their links") {
  FaultyCa ca;
  ca.post = [&](const ScriptedRequest& request) {
    ScriptedReply reply;
    if (request.target == "/orders") {
      reply.fields = {{"Link", fmt::format("<{}/orders?page=2>;rel=\"next\"", ca.base)}};
      reply.body = fmt::format(R"({{"orders":["{}/order/1"]}})", ca.base);
    } else {
      for (int i = 0; i < 20; ++i) {
        reply.fields.emplace_back("Link", fmt::format("<{}/c/{}>;rel=\"alternate\"", ca.base, i));
      }
      reply.body = "PEM";
    }
    return reply;
  };
  const auto page =
      test::await(ca.control, ca.client.orders(ca.account, ca.base + "/orders", ca.errand));
  REQUIRE(page.has_value());
  CHECK(page->orders == std::vector<std::string>{ca.base + "/order/1"});
  CHECK(page->next == ca.base + "/orders?page=2");
  const auto chain =
      test::await(ca.control, ca.client.certificate(ca.account, ca.base + "/cert", ca.errand));
  REQUIRE(chain.has_value());
  CHECK(chain->pem == "PEM");
  CHECK(chain->alternates.size() == 8);
}

TEST_CASE("nonces are kept newest first, sixteen at most, and prefetched once") {
  FaultyCa ca;
  int sent = 0;
  ca.post = [&](const ScriptedRequest&) {
    auto reply = good_order(ca.base);
    reply.fields = {{"Replay-Nonce", fmt::format("kept-{}", ++sent)}};
    return reply;
  };
  test::await(ca.control, ca.client.transport().prefetch_nonce());
  test::await(ca.control, ca.client.transport().prefetch_nonce());
  int done = 0;
  for (int i = 0; i < 30; ++i) {
    boost::asio::co_spawn(ca.control, ca.client.new_order(ca.account, {"a.example"}, "", ca.errand),
                          [&](std::exception_ptr, Outcome<Reply<OrderObject>>) { ++done; });
  }
  while (done < 30 && ca.control.run_one_for(20s) > 0) {
  }
  CHECK(done == 30);
  const auto fetched = ca.count("/nonce");
  CHECK(ca.count("/dir") == 1);
  REQUIRE(ca.order().has_value());
  CHECK(ca.count("/nonce") == fetched);
  CHECK(ca.header("/order", 30, "nonce").starts_with("kept-"));
}

}  // namespace gatehouse::acme
