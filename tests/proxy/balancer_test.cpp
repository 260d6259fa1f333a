#include "proxy/balancer.hpp"

#include <catch2/catch.hpp>

using namespace gatehouse;
using config::Balance;
using proxy::BalancedEndpoint;
using proxy::BalanceTurn;
using proxy::EndpointState;

namespace {

constexpr Balance policies[] = {Balance::least_requests, Balance::round_robin, Balance::random_two,
                                Balance::hash_client, Balance::hash_uri};

struct Group {
  explicit Group(std::vector<uint32_t> weights) : states(weights.size()) {
    for (size_t i = 0; i < weights.size(); ++i) {
      endpoints.push_back({&states[i], weights[i], false, 1000 + i});
    }
  }
  std::optional<size_t> pick(Balance policy, std::string_view input = "k", uint64_t tried = 0) {
    return proxy::pick(endpoints, policy, input, tried, turn);
  }
  std::vector<int> counts(Balance policy, int rounds) {
    std::vector<int> result(endpoints.size());
    for (int i = 0; i < rounds; ++i) {
      const auto index = pick(policy, "key" + std::to_string(i));
      REQUIRE(index);
      ++result[*index];
    }
    return result;
  }

  std::vector<EndpointState> states;
  std::vector<BalancedEndpoint> endpoints;
  BalanceTurn turn;
};

}  // namespace

TEST_CASE("no policy picks from nothing, the unhealthy or the tried") {
  for (const Balance policy : policies) {
    CAPTURE(int(policy));
    Group none({});
    CHECK_FALSE(none.pick(policy));

    Group one({1});
    CHECK(one.pick(policy) == 0);
    CHECK_FALSE(one.pick(policy, "k", 1));
    one.states[0].healthy = false;
    CHECK_FALSE(one.pick(policy));

    Group three({1, 5, 1});
    three.states[1].healthy = false;
    for (int i = 0; i < 50; ++i) {
      const auto index = three.pick(policy, std::to_string(i), 0b001);
      REQUIRE(index == 2);
    }
    CHECK_FALSE(three.pick(policy, "k", 0b101));
    CHECK_FALSE(three.pick(policy, "k", ~uint64_t{0}));
  }
}

TEST_CASE("backups are used only when no other server is left") {
  for (const Balance policy : policies) {
    CAPTURE(int(policy));
    Group group({1, 1, 1});
    group.endpoints[0].backup = true;
    for (int i = 0; i < 30; ++i) CHECK(group.pick(policy, std::to_string(i)) != 0);
    group.states[1].healthy = false;
    CHECK(group.pick(policy) == 2);
    CHECK(group.pick(policy, "k", 0b100) == 0);
    group.states[2].healthy = false;
    CHECK(group.pick(policy) == 0);
    CHECK_FALSE(group.pick(policy, "k", 0b001));
  }
}

TEST_CASE("least_requests follows the load, for the weights") {
  Group group({1, 1, 4});
  group.states[0].in_flight = 3;
  group.states[1].in_flight = 1;
  group.states[2].in_flight = 9;
  CHECK(group.pick(Balance::least_requests) == 1);
  group.states[1].in_flight = 5;
  CHECK(group.pick(Balance::least_requests) == 2);
  group.states[2].in_flight = 20;
  CHECK(group.pick(Balance::least_requests) == 0);

  // Requests that stay are spread as the weights say.
  Group filling({1, 2, 5});
  for (int i = 0; i < 80; ++i) {
    const auto index = filling.pick(Balance::least_requests);
    REQUIRE(index);
    ++filling.states[*index].in_flight;
  }
  CHECK(filling.states[0].in_flight == 10);
  CHECK(filling.states[1].in_flight == 20);
  CHECK(filling.states[2].in_flight == 50);
}

TEST_CASE("least_requests spreads an idle group") {
  const auto counts = Group({1, 1, 1, 1}).counts(Balance::least_requests, 4000);
  for (const int count : counts) CHECK(count > 800);
}

TEST_CASE("round_robin is exact and smooth") {
  Group even({1, 1, 1});
  std::string order;
  for (int i = 0; i < 6; ++i) order += std::to_string(*even.pick(Balance::round_robin));
  CHECK(order == "012012");

  Group weighted({5, 1, 1});
  order.clear();
  for (int i = 0; i < 7; ++i) order += std::to_string(*weighted.pick(Balance::round_robin));
  CHECK(order == "0010200");

  Group changing({1, 1});
  changing.states[0].healthy = false;
  for (int i = 0; i < 100; ++i) CHECK(changing.pick(Balance::round_robin) == 1);
  changing.states[0].healthy = true;
  const auto counts = changing.counts(Balance::round_robin, 100);
  CHECK(counts[0] == 50);
}

TEST_CASE("random_two avoids the busy one and honours weights") {
  Group group({1, 1, 1});
  group.states[1].in_flight = 1000;
  const auto counts = group.counts(Balance::random_two, 3000);
  CHECK(counts[1] == 0);
  CHECK(counts[0] > 1000);
  CHECK(counts[2] > 1000);

  Group pair({1, 1});
  pair.states[0].in_flight = 1;
  for (int i = 0; i < 100; ++i) CHECK(pair.pick(Balance::random_two) == 1);
}

TEST_CASE("hashing keeps a key where it was, whatever happens to the others") {
  for (const Balance policy : {Balance::hash_client, Balance::hash_uri}) {
    Group group({1, 1, 1, 1});
    std::vector<size_t> before;
    for (int i = 0; i < 1000; ++i) before.push_back(*group.pick(policy, std::to_string(i)));
    group.states[2].healthy = false;
    int moved = 0;
    for (int i = 0; i < 1000; ++i) {
      const size_t now = *group.pick(policy, std::to_string(i));
      if (before[size_t(i)] == 2) {
        CHECK(now != 2);
        ++moved;
      } else {
        CHECK(now == before[size_t(i)]);
      }
    }
    CHECK(moved > 180);
    CHECK(moved < 320);
  }
}

TEST_CASE("hashing spreads keys as the weights say") {
  const auto counts = Group({1, 3}).counts(Balance::hash_client, 8000);
  CHECK(counts[0] > 1800);
  CHECK(counts[0] < 2200);
}

TEST_CASE("groups of more than 64 servers work") {
  for (const Balance policy : policies) {
    Group group(std::vector<uint32_t>(100, 1));
    for (size_t i = 0; i < 99; ++i) group.states[i].healthy = false;
    CHECK(group.pick(policy, "k", ~uint64_t{0}) == 99);
  }
}
