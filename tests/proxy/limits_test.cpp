#include "proxy/limits.hpp"

#include <catch2/catch.hpp>

#include "proxy/retry_budget.hpp"

namespace gatehouse::proxy {

namespace {

boost::asio::ip::address address(const char* text) {
  return boost::asio::ip::make_address(text);
}

}  // namespace

TEST_CASE("connections are admitted up to the limit, and again when others left") {
  ConnectionLimits limits;
  config::Limits settings;
  settings.connections = 3;
  for (int i = 0; i < 3; ++i) CHECK(limits.admit(settings));
  CHECK_FALSE(limits.admit(settings));
  CHECK_FALSE(limits.admit(settings));
  limits.leave();
  CHECK(limits.admit(settings));
}

TEST_CASE("one client's limit leaves the others alone, and the count of all") {
  ConnectionLimits limits;
  config::Limits settings;
  settings.connections = 1;
  settings.connections_per_client = 2;
  CHECK(limits.admit_client(address("192.0.2.1"), settings));
  CHECK(limits.admit_client(address("192.0.2.1"), settings));
  CHECK_FALSE(limits.admit_client(address("192.0.2.1"), settings));
  CHECK(limits.admit_client(address("192.0.2.2"), settings));
  limits.leave_client(address("192.0.2.1"));
  CHECK(limits.admit_client(address("192.0.2.1"), settings));
  CHECK(limits.admit(settings));
}

TEST_CASE("IPv6 clients count by their /64, and mapped IPv4 addresses as IPv4") {
  ConnectionLimits limits;
  config::Limits settings;
  settings.connections_per_client = 1;
  CHECK(limits.admit_client(address("2001:db8::1"), settings));
  CHECK_FALSE(limits.admit_client(address("2001:db8::2"), settings));
  CHECK(limits.admit_client(address("2001:db8:0:1::1"), settings));
  CHECK(limits.admit_client(address("192.0.2.1"), settings));
  CHECK_FALSE(limits.admit_client(address("::ffff:192.0.2.1"), settings));
}

TEST_CASE("retries are bounded to a share of the requests, after a small burst") {
  RetryBudget budget;
  int spent = 0;
  while (budget.spend()) ++spent;
  CHECK(spent == static_cast<int>(RetryBudget::burst));
  for (int i = 0; i < 100; ++i) {
    budget.earn(0.2);
    if (budget.spend()) ++spent;
  }
  CHECK(spent <= static_cast<int>(RetryBudget::burst) + 20);
  CHECK(spent >= static_cast<int>(RetryBudget::burst) + 19);
}

}  // namespace gatehouse::proxy
