#include "acme/on_demand.hpp"

#include <catch2/catch.hpp>

#include "acme/names.hpp"
#include "tests/support/manual_clock.hpp"

using namespace gatehouse;
using namespace gatehouse::acme;

TEST_CASE("Names that may be asked for") {
  for (const char* name : {"a.example", "example.com", "xn--bcher-kva.example", "a-b.c-d.example",
                           "1.example", "localhost", "a.b.c.d.e.f.g.h.i.j", "a.a.example"})
    CHECK(plausible_name(name));
}

TEST_CASE("Names that no order may be placed for") {
  const std::vector<std::string> names{"",
                                       ".",
                                       "a.",
                                       ".a",
                                       "a..b",
                                       "192.0.2.1",
                                       "2001:db8::1",
                                       "[::1]",
                                       "1.2.3",
                                       "a.123",
                                       "*.example.com",
                                       "a_b.example",
                                       "-a.example",
                                       "a-.example",
                                       "A.example",
                                       "b\xc3\xbc.example",
                                       "ab--cd.example",
                                       "a b.example",
                                       "a/b.example",
                                       "..",
                                       "a.a.a.example",
                                       "a.b.c.d.e.f.g.h.i.j.k",
                                       std::string("a\0.example", 10),
                                       std::string(64, 'a') + ".example",
                                       "a." + std::string(260, 'b')};
  for (const auto& name : names) {
    INFO(name);
    CHECK_FALSE(plausible_name(name));
  }
}

TEST_CASE("Denied hosts go before allowed ones, and before the question") {
  boost::asio::io_context control;
  base::Fetcher fetcher(control);
  base::Metrics metrics{1};
  test::ManualClock clock;
  Ask ask(control, fetcher, clock, metrics.control());
  Permission permission(ask);
  config::OnDemand settings;
  settings.allow = {{"*.shops.example"}, {"exact.example"}};
  settings.deny = {{"admin.shops.example"}, {"exact.example"}, {"*.inside.example"}};
  for (const char* url : {"", "http://127.0.0.1:1/"}) {
    settings.ask = url;
    permission.configure(settings);
    CHECK(permission.known("a.shops.example") == Answer::allowed);
    CHECK(permission.known("admin.shops.example") == Answer::denied);
    CHECK(permission.known("exact.example") == Answer::denied);
    CHECK(permission.known("a.inside.example") == Answer::denied);
    CHECK(permission.known("b.a.shops.example").has_value() == settings.ask.empty());
    std::optional<Answer> given;
    permission.request("admin.shops.example", "192.0.2.1", [&](Answer one) { given = one; });
    CHECK(given == Answer::denied);
  }
  CHECK(metrics.total(base::Metric::ondemand_asks) == 0);
  settings.deny = {{"*"}};
  permission.configure(settings);
  CHECK(permission.known("a.shops.example") == Answer::denied);
}

TEST_CASE("256 handshakes wait for a name, 4096 in all") {
  Parking parking;
  for (size_t number = 0; number < Parking::per_name_max; ++number)
    CHECK(parking.enter("a.example", "127.0.0.1"));
  CHECK_FALSE(parking.enter("a.example", "127.0.0.1"));
  parking.leave("a.example", "127.0.0.1");
  CHECK(parking.enter("a.example", "127.0.0.1"));
  size_t number = 0;
  while (parking.enter("n" + std::to_string(number % 100) + ".example",
                       "10.0." + std::to_string(number / 250) + "." + std::to_string(number % 250)))
    ++number;
  CHECK(parking.total() == Parking::total_max);
}

TEST_CASE("16 handshakes wait for one client; an IPv6 client is its /64") {
  Parking parking;
  const auto fill = [&](const std::string& client, const std::string& last) {
    for (size_t number = 0; number < Parking::per_client_max; ++number)
      CHECK(parking.enter("n" + std::to_string(number) + ".example", client));
    CHECK_FALSE(parking.enter("more.example", last));
  };
  fill("192.0.2.1", "192.0.2.1");
  fill("::ffff:192.0.2.2", "192.0.2.2");
  fill("2001:db8:0:1::1", "2001:db8:0:1:ffff::9");
  CHECK(parking.enter("more.example", "2001:db8:0:2::1"));
  CHECK(parking.enter("more.example", "192.0.2.3"));
  fill("not an address", "not an address");
}

TEST_CASE("Loopback is a balancer, not a client") {
  CHECK(Parking::client_key("127.0.0.1").empty());
  CHECK(Parking::client_key("127.9.9.9").empty());
  CHECK(Parking::client_key("::1").empty());
  CHECK(Parking::client_key("::ffff:127.0.0.1").empty());
}

TEST_CASE("Parking leaves nothing behind") {
  Parking parking;
  for (int round = 0; round < 3; ++round) {
    for (int number = 0; number < 1000; ++number)
      REQUIRE(
          parking.enter("n" + std::to_string(number), "10.1.0." + std::to_string(number % 200)));
    for (int number = 0; number < 1000; ++number)
      parking.leave("n" + std::to_string(number), "10.1.0." + std::to_string(number % 200));
    CHECK(parking.total() == 0);
  }
}
