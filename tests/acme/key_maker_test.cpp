#include "acme/key_maker.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <catch2/catch.hpp>

namespace gatehouse::acme {

namespace {

namespace asio = boost::asio;
using config::KeyType;

struct Making {
  KeyMaker maker;
  std::optional<tls::PrivateKey> key;
};

asio::awaitable<void> make(Making* making, KeyType type) {
  auto made = co_await making->maker.make(type);
  if (made) making->key = std::move(*made);
}

}  // namespace

TEST_CASE("whatever takes longer than a P-256 key is made while the control thread goes on") {
  const auto type = GENERATE(KeyType::p256, KeyType::p384, KeyType::rsa2048);
  asio::io_context control;
  Making making;
  bool done_before_next = false;
  asio::co_spawn(control, make(&making, type), asio::detached);
  asio::post(control, [&] { done_before_next = making.key.has_value(); });
  control.run();
  REQUIRE(making.key);
  CHECK(done_before_next == (type == KeyType::p256));
}

}  // namespace gatehouse::acme
