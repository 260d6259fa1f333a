#include "acme/key_maker.hpp"

#include <memory>
#include <optional>

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
  std::optional<tls::PrivateKey> key;
};

asio::awaitable<void> make(std::shared_ptr<Making> making, KeyType type) {
  auto made = co_await make_key(type);
  if (made) making->key = std::move(*made);
}

}  // namespace

TEST_CASE("whatever takes longer than a P-256 key is made while the control thread goes on") {
  const auto type = GENERATE(KeyType::p256, KeyType::p384, KeyType::rsa2048);
  asio::io_context control;
  const auto making = std::make_shared<Making>();
  bool done_before_next = false;
  asio::co_spawn(control, make(making, type), asio::detached);
  asio::post(control, [&] { done_before_next = making->key.has_value(); });
  control.run();
  REQUIRE(making->key);
  CHECK(done_before_next == (type == KeyType::p256));
}

TEST_CASE("nobody waits for a key any more when the control thread's io_context is gone") {
  std::weak_ptr<Making> first, second;
  {
    asio::io_context control;
    const auto spawn = [&control] {
      auto making = std::make_shared<Making>();
      asio::co_spawn(control, make(making, KeyType::rsa4096), asio::detached);
      return std::weak_ptr(making);
    };
    first = spawn();
    second = spawn();
    control.poll();
    CHECK_FALSE(first.expired());
  }
  CHECK(first.expired());   // it was at work
  CHECK(second.expired());  // it was in line
}

}  // namespace gatehouse::acme
