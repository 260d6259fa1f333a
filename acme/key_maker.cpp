#include "acme/key_maker.hpp"

#include <memory>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace gatehouse::acme {

namespace asio = boost::asio;
using base::Result;
using tls::PrivateKey;

namespace {

/// The thread of one io_context, from the first key on that is not P-256. Part of the io_context:
/// whoever waits for a key belongs to the thread meanwhile, and would come home to nowhere.
class KeyThread final : public asio::execution_context::service {
 public:
  using key_type = KeyThread;
  explicit KeyThread(asio::execution_context& context)
      : service(context), pool_(std::make_unique<asio::thread_pool>(1)) {}

  asio::thread_pool& pool() { return *pool_; }

 private:
  void shutdown() override { pool_.reset(); }  // waits for the key at work, forgets the others

  std::unique_ptr<asio::thread_pool> pool_;
};

// Results of PrivateKey have no empty state, which a co_spawn across threads needs.
using Made = std::shared_ptr<Result<PrivateKey>>;

asio::awaitable<Made> generate(config::KeyType type) {
  co_return std::make_shared<Result<PrivateKey>>(PrivateKey::generate(type));
}

}  // namespace

asio::awaitable<Result<PrivateKey>> make_key(config::KeyType type) {
  if (type == config::KeyType::p256) co_return PrivateKey::generate(type);  // tens of microseconds
  const auto executor = co_await asio::this_coro::executor;
  auto& thread = asio::use_service<KeyThread>(asio::query(executor, asio::execution::context));
  const auto made = co_await asio::co_spawn(thread.pool(), generate(type), asio::use_awaitable);
  co_return *made;
}

}  // namespace gatehouse::acme
