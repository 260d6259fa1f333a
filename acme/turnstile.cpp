#include "acme/turnstile.hpp"

#include <utility>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace gatehouse::acme {

namespace asio = boost::asio;
using asio::steady_timer;

asio::awaitable<void> Turnstile::enter() {
  boost::system::error_code ignored;
  while (const auto opened = opened_) {
    co_await opened->async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  ++inside_;
}

void Turnstile::leave() {
  // Moved into the past rather than cancelled: that also wakes who is only about to wait.
  if (--inside_ == 0 && emptied_) emptied_->expires_at(steady_timer::time_point::min());
}

asio::awaitable<bool> Turnstile::close(std::chrono::milliseconds patience) {
  if (opened_) co_return false;
  const auto executor = co_await asio::this_coro::executor;
  opened_ = std::make_shared<steady_timer>(executor, steady_timer::time_point::max());
  // However this coroutine ends: a closed turnstile that nobody opens would stop everything.
  Alone closed(*this);
  if (inside_ > 0) {
    boost::system::error_code ignored;
    const auto emptied = std::make_shared<steady_timer>(executor);
    emptied->expires_after(patience);
    emptied_ = emptied;
    co_await emptied->async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  if (inside_ > 0) co_return false;
  emptied_.reset();
  closed.release();  // the caller does
  co_return true;
}

void Turnstile::open() {
  emptied_.reset();
  const auto opened = std::exchange(opened_, nullptr);
  if (opened) opened->expires_at(steady_timer::time_point::min());
}

}  // namespace gatehouse::acme
