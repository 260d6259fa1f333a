#include "acme/solver/tls_alpn01.hpp"

#include <boost/asio/co_spawn.hpp>
#include <catch2/catch.hpp>

#include "tests/support/await.hpp"
#include "tests/support/result.hpp"

namespace gatehouse::acme {

namespace {

constexpr const char* name = "a.example.com";
constexpr const char* proof = "token.thumbprint";

/// Workers that switch to a table at once.
struct Workers {
  AlpnTablePtr table = std::make_shared<AlpnTable>();
  int tables = 0;

  PublishAlpnCertificates publisher() {
    return [this](AlpnTablePtr next, std::function<void()> done) {
      table = std::move(next);
      ++tables;
      done();
    };
  }
};

}  // namespace

TEST_CASE("the CA asks for a name by itself, and for an address by its reverse name") {
  const auto [identifier, expected] = GENERATE(table<std::string, std::string>({
      {"a.example.com", "a.example.com"},
      {"xn--bcher-kva.example", "xn--bcher-kva.example"},
      {"localhost", "localhost"},
      {"192.0.2.255", "255.2.0.192.in-addr.arpa"},
      {"10.0.0.1", "1.0.0.10.in-addr.arpa"},
      {"::1", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa"},
      {"2001:db8::567:89ab",
       "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"},
      {"192.0.2.256", "192.0.2.256"},
      {"1.2.3", "1.2.3"},
  }));
  CHECK(challenge_server_name(identifier) == expected);
}

TEST_CASE("a presented name is answered with its certificate, any other with none") {
  boost::asio::io_context control;
  Workers workers;
  TlsAlpn01 solver(control, workers.publisher());
  CHECK(answer_alpn(*workers.table, name) == nullptr);
  REQUIRE(test::await(control, solver.present(name, proof)));
  const auto certificate = answer_alpn(*workers.table, name);
  REQUIRE(certificate);
  CHECK(certificate->names() == std::vector<std::string>{name});
  for (const char* other : {"", "b.example.com", "a.example.com.", "A.example.com", "*.example.com",
                            "x.a.example.com", "example.com"}) {
    CHECK(answer_alpn(*workers.table, other) == nullptr);
  }
}

TEST_CASE("an address is answered under its reverse name only") {
  boost::asio::io_context control;
  Workers workers;
  TlsAlpn01 solver(control, workers.publisher());
  REQUIRE(test::await(control, solver.present("192.0.2.1", proof)));
  CHECK(answer_alpn(*workers.table, "192.0.2.1") == nullptr);
  const auto certificate = answer_alpn(*workers.table, "1.2.0.192.in-addr.arpa");
  REQUIRE(certificate);
  CHECK(certificate->names() == std::vector<std::string>{"192.0.2.1"});
}

TEST_CASE("a name's newest challenge is the one that is answered") {
  boost::asio::io_context control;
  Workers workers;
  TlsAlpn01 solver(control, workers.publisher());
  REQUIRE(test::await(control, solver.present(name, "first.one")));
  const auto first = answer_alpn(*workers.table, name);
  REQUIRE(test::await(control, solver.present(name, "second.one")));
  const auto second = answer_alpn(*workers.table, name);
  CHECK(first->fingerprint() != second->fingerprint());
  CHECK(workers.table->size() == 1);
  // The order before has ended; the one that goes on still needs its answer.
  solver.retire(name);
  control.restart();
  control.poll();
  CHECK(answer_alpn(*workers.table, name) == second);
}

TEST_CASE("a retired name is still answered for a while, however often it is retired") {
  boost::asio::io_context control;
  Workers workers;
  TlsAlpn01 solver(control, workers.publisher());
  REQUIRE(test::await(control, solver.present(name, proof)));
  solver.retire(name);
  solver.retire(name);               // once too often
  solver.retire("never.presented");  // and a stranger
  control.restart();
  control.poll();
  CHECK(answer_alpn(*workers.table, name) != nullptr);
  CHECK(workers.tables == 1);
}

TEST_CASE("the CA is told ready only when every worker can answer") {
  boost::asio::io_context control;
  std::function<void()> switched;
  TlsAlpn01 solver(control,
                   [&](AlpnTablePtr, std::function<void()> done) { switched = std::move(done); });
  bool presented = false;
  boost::asio::co_spawn(control, solver.present(name, proof),
                        [&](std::exception_ptr, base::Result<void>) { presented = true; });
  control.poll();
  REQUIRE(switched);
  CHECK_FALSE(presented);
  switched();
  control.restart();
  control.poll();
  CHECK(presented);
}

TEST_CASE("what no certificate can name is not presented") {
  boost::asio::io_context control;
  Workers workers;
  TlsAlpn01 solver(control, workers.publisher());
  CHECK_FALSE(test::await(control, solver.present("no name", proof)));
  CHECK_FALSE(test::await(control, solver.present("", proof)));
  CHECK(workers.tables == 0);
}

}  // namespace gatehouse::acme
