#include "acme/key_maker.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace gatehouse::acme {

namespace asio = boost::asio;
using base::Result;
using tls::PrivateKey;

namespace {

// Results of PrivateKey have no empty state, which a co_spawn across threads needs.
using Made = std::shared_ptr<Result<PrivateKey>>;

asio::awaitable<Made> generate(config::KeyType type) {
  co_return std::make_shared<Result<PrivateKey>>(PrivateKey::generate(type));
}

}  // namespace

asio::awaitable<Result<PrivateKey>> KeyMaker::make(config::KeyType type) {
  if (type == config::KeyType::p256) co_return PrivateKey::generate(type);  // tens of microseconds
  if (!thread_) thread_ = std::make_unique<asio::thread_pool>(1);
  const auto made = co_await asio::co_spawn(*thread_, generate(type), asio::use_awaitable);
  co_return *made;
}

}  // namespace gatehouse::acme
