#include "acme/client.hpp"

#include <catch2/catch.hpp>

#include "tests/acme/faulty_ca.hpp"
#include "tests/support/manual_clock.hpp"

namespace gatehouse::acme {

namespace {

using namespace std::chrono_literals;
using Catch::Contains;
using test::FaultyCa;
using test::good_order;
using test::problem;
using test::ScriptedReply;
using test::ScriptedRequest;
using Fault = ScriptedReply::Fault;

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

TEST_CASE("after a timeout the next try is signed anew, with another nonce") {
  FaultyCa ca;
  bool hanging = true;
  ca.post = [&](const ScriptedRequest&) {
    auto reply = good_order(ca.base);
    if (hanging) reply.fault = Fault::hang;
    return reply;
  };
  ca.errand.deadline = base::Monotonic::now() + 300ms;
  REQUIRE(ca.order().has_error());
  hanging = false;
  ca.errand.deadline = base::Monotonic::now() + 20s;
  REQUIRE(ca.order().has_value());
  CHECK(ca.header("/order", 0, "nonce") != ca.header("/order", 1, "nonce"));
  CHECK(ca.server.requests().front().head.find("User-Agent: gatehouse/") != std::string::npos);
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
  const auto reply = test::await(ca.control, second.new_order(ca.account, ca.request(), ca.errand));
  CHECK(reply.has_value());
  CHECK(ca.count("/dir") == expected);
}

TEST_CASE("the directory in memory is a day's, and a clock set back does not make it eternal") {
  test::ManualClock clock;
  FaultyCa ca(clock);
  ca.post = [&](const ScriptedRequest&) { return good_order(ca.base); };
  const auto order = [&] {
    ca.errand.deadline = clock.monotonic() + 20s;
    return ca.order().has_value();
  };
  REQUIRE(order());
  clock.advance(23h);
  REQUIRE(order());
  CHECK(ca.count("/dir") == 1);
  clock.advance(2h);
  REQUIRE(order());
  CHECK(ca.count("/dir") == 2);
  clock.set_wall(clock.wall() - 48h);
  REQUIRE(order());
  CHECK(ca.count("/dir") == 3);
}

TEST_CASE("a nonce is used for five minutes, and no longer") {
  test::ManualClock clock;
  FaultyCa ca(clock);
  ca.post = [&](const ScriptedRequest&) { return good_order(ca.base); };
  const auto order = [&] {
    ca.errand.deadline = clock.monotonic() + 20s;
    return ca.order().has_value();
  };
  REQUIRE(order());
  clock.advance(5min);
  REQUIRE(order());
  CHECK(ca.header("/order", 1, "nonce") == "from-order");
  CHECK(ca.count("/nonce") == 1);
  clock.advance(5min + 1s);
  REQUIRE(order());
  CHECK(ca.header("/order", 2, "nonce") == "nonce-2");
  CHECK(ca.count("/nonce") == 2);
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
    boost::asio::co_spawn(ca.control, ca.client.new_order(ca.account, ca.request(), ca.errand),
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
