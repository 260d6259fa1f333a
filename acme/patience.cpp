#include "acme/patience.hpp"

#include <algorithm>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace gatehouse::acme {

namespace asio = boost::asio;
using std::chrono::milliseconds;

namespace {

// Much of what a CA does takes only milliseconds; this one look is nearly free.
constexpr milliseconds first_pause{15};
constexpr milliseconds second_pause{100};
constexpr milliseconds longest_pause{3000};

}  // namespace

Patience::Patience(const base::Clock& clock, base::Monotonic::time_point deadline)
    : clock_(clock), deadline_(deadline), next_(first_pause) {}

asio::awaitable<bool> Patience::wait(std::optional<milliseconds> retry_after) {
  // Retry-After: 0, which is also a date that our clock has passed, is no leave to ask without end.
  const bool told = retry_after && *retry_after > milliseconds(0);
  const milliseconds pause = told ? std::max(*retry_after, first_pause) : next_;
  if (!told) {
    next_ = next_ == first_pause ? second_pause : std::min(next_ * 3 / 2, longest_pause);
  }
  if (clock_.monotonic() + pause > deadline_) co_return false;
  asio::steady_timer timer(co_await asio::this_coro::executor);
  timer.expires_after(pause);
  co_await timer.async_wait(asio::use_awaitable);
  co_return true;
}

}  // namespace gatehouse::acme
