#include "acme/solver/http01.hpp"

#include <boost/asio/co_spawn.hpp>
#include <catch2/catch.hpp>

#include "tests/support/await.hpp"

namespace gatehouse::acme {

namespace {

constexpr const char* token = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";

std::string path_of(const std::string& t) {
  return "/.well-known/acme-challenge/" + t;
}

/// Workers that switch to a table when the test says so.
struct Workers {
  ChallengeTablePtr table = std::make_shared<ChallengeTable>();
  std::vector<std::function<void()>> waiting;

  PublishChallenges publisher() {
    return [this](ChallengeTablePtr next, std::function<void()> done) {
      table = std::move(next);
      waiting.push_back(std::move(done));
    };
  }
  void switch_all() {
    for (auto& done : std::exchange(waiting, {})) done();
  }
};

}  // namespace

TEST_CASE("a known token is answered with exactly its key authorization") {
  const ChallengeTable table{{token, Challenge{"example.com", "body"}}};
  const auto* body = answer_challenge(table, "example.com", path_of(token));
  REQUIRE(body != nullptr);
  CHECK(*body == "body");
}

TEST_CASE("anything but the exact path, token and host falls through to the site") {
  const ChallengeTable table{{token, Challenge{"example.com", "body"}}};
  const auto [host, target] = GENERATE(Catch::Generators::table<std::string, std::string>({
      {"example.com", path_of("")},
      {"example.com", path_of("unknown")},
      {"example.com", path_of(std::string(token) + "x")},
      {"example.com", path_of(std::string(token) + "?a=b")},
      {"example.com", path_of(std::string(token) + "#a")},
      {"example.com", path_of(std::string(token) + "/")},
      {"example.com", path_of("../acme-challenge/" + std::string(token))},
      {"example.com", path_of("/" + std::string(token))},
      {"example.com", path_of(std::string(100'000, 'a'))},
      {"example.com", "/.well-known/acme-challenge"},
      {"example.com", "/.Well-Known/acme-challenge/" + std::string(token)},
      {"example.com", "http://example.com" + path_of(token)},
      {"example.com", " " + path_of(token)},
      {"example.com", ""},
      {"", path_of(token)},
      {"www.example.com", path_of(token)},
      {"example.com.", path_of(token)},
      {"example.com:80", path_of(token)},
      {"[example.com]x", path_of(token)},
  }));
  CHECK(answer_challenge(table, host, target) == nullptr);
  CHECK(answer_challenge(ChallengeTable(), host, target) == nullptr);
}

TEST_CASE("an IPv6 identifier is asked for in brackets") {
  const ChallengeTable table{{token, Challenge{"2001:db8::1", "body"}}};
  CHECK(answer_challenge(table, "[2001:db8::1]", path_of(token)) != nullptr);
  CHECK(answer_challenge(table, "[2001:db8:0:0::1]", path_of(token)) != nullptr);
  CHECK(answer_challenge(table, "2001:db8::1", path_of(token)) != nullptr);
  for (const char* other : {"[2001:db8::2]", "[::1]", "[2001:db8::1%eth0]", "[2001:db8::1::]",
                            "[:]", "2001", "", "[]"}) {
    CHECK(answer_challenge(table, other, path_of(token)) == nullptr);
  }
}

TEST_CASE("an IPv4 identifier is asked for as it is") {
  const ChallengeTable table{{token, Challenge{"192.0.2.1", "body"}}};
  CHECK(answer_challenge(table, "192.0.2.1", path_of(token)) != nullptr);
  CHECK(answer_challenge(table, "192.0.2.2", path_of(token)) == nullptr);
  CHECK(answer_challenge(table, "[::ffff:192.0.2.1]", path_of(token)) == nullptr);
}

TEST_CASE("a challenge is presented only when every worker has switched") {
  boost::asio::io_context control;
  Workers workers;
  Http01 http01(control, workers.publisher());
  bool presented = false;
  boost::asio::co_spawn(control, http01.present(token, Challenge{"example.com", "body"}),
                        [&](std::exception_ptr) { presented = true; });
  control.poll();
  CHECK(workers.table->size() == 1);
  CHECK_FALSE(presented);
  workers.switch_all();
  control.restart();
  control.poll();
  CHECK(presented);
}

TEST_CASE("workers that switch at once, before the wait, are not missed") {
  boost::asio::io_context control;
  ChallengeTablePtr table;
  Http01 http01(control, [&](ChallengeTablePtr next, std::function<void()> done) {
    table = std::move(next);
    done();
  });
  test::await(control, http01.present(token, Challenge{"example.com", "body"}),
              std::chrono::seconds(5));
  CHECK(table->contains(token));
}

TEST_CASE("several challenges stand side by side, and tables given out never change") {
  boost::asio::io_context control;
  std::vector<ChallengeTablePtr> tables;
  Http01 http01(control, [&](ChallengeTablePtr next, std::function<void()> done) {
    tables.push_back(std::move(next));
    done();
  });
  for (const char* name : {"a", "b", "c"}) {
    test::await(control, http01.present(std::string("token-") + name, Challenge{name, name}));
  }
  REQUIRE(tables.size() == 3);
  CHECK(tables[0]->size() == 1);
  CHECK(tables[2]->size() == 3);
}

TEST_CASE("a table of many rows is copied and changed without changing the one before") {
  NoticeTable<int> table;
  for (int i = 0; i < 5000; ++i) table.set("key-" + std::to_string(i), i);
  CHECK(table.size() == 5000);
  NoticeTable<int> next = table;
  for (int i = 0; i < 5000; i += 2) next.erase("key-" + std::to_string(i));
  next.erase("never there");
  next.set("key-1", -1);
  CHECK(next.size() == 2500);
  CHECK(table.size() == 5000);
  for (int i = 0; i < 5000; ++i) {
    const std::string key = "key-" + std::to_string(i);
    REQUIRE(table.find(key) != nullptr);
    REQUIRE(*table.find(key) == i);
    REQUIRE(next.contains(key) == (i % 2 == 1));
  }
  CHECK(*next.find("key-1") == -1);
  CHECK(NoticeTable<int>().empty());
  CHECK(NoticeTable<int>().find("") == nullptr);
}

TEST_CASE("a retired challenge is still answered: CAs ask several times, and late") {
  boost::asio::io_context control;
  Workers workers;
  Http01 http01(control, [&](ChallengeTablePtr next, std::function<void()> done) {
    workers.table = std::move(next);
    done();
  });
  test::await(control, http01.present(token, Challenge{"example.com", "body"}));
  http01.retire(token);
  http01.retire(token);            // once too often
  http01.retire("never present");  // and a stranger
  control.restart();
  control.poll();
  CHECK(answer_challenge(*workers.table, "example.com", path_of(token)) != nullptr);
}

TEST_CASE("a solver that goes away while a challenge waits does no harm") {
  boost::asio::io_context control;
  Workers workers;
  {
    Http01 http01(control, workers.publisher());
    boost::asio::co_spawn(control, http01.present(token, Challenge{"example.com", "body"}),
                          [](std::exception_ptr) {});
    control.poll();
    http01.retire(token);
  }
  workers.switch_all();
  control.restart();
  control.run_for(std::chrono::milliseconds(20));
}

}  // namespace gatehouse::acme
