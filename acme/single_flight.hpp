// Work that many want and one does: the others wait and get the same outcome.
//
// Does not keep the outcome (whoever runs the work does). Control thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace gatehouse::acme {

template <class T>
class SingleFlight {
 public:
  /// Runs `work`, or waits for the run that is under way. If that one is abandoned half-way, one
  /// of those waiting takes over with its own `work`. Must outlive its callers.
  boost::asio::awaitable<T> join(std::function<boost::asio::awaitable<T>()> work) {
    const auto executor = co_await boost::asio::this_coro::executor;
    while (const auto flight = flight_) {
      boost::system::error_code ignored;
      co_await flight->landed.async_wait(
          boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
      if (flight->outcome) co_return *flight->outcome;
    }
    const auto flight = std::make_shared<Flight>(executor);
    flight_ = flight;
    const Landing landing(*this, flight);
    T outcome = co_await work();
    flight->outcome = outcome;
    co_return outcome;
  }

 private:
  struct Flight {
    explicit Flight(const boost::asio::any_io_executor& executor) : landed(executor) {
      landed.expires_at(boost::asio::steady_timer::time_point::max());
    }
    boost::asio::steady_timer landed;  // an event: cancelled at the end
    std::optional<T> outcome;
  };

  struct Landing {
    Landing(SingleFlight& o, std::shared_ptr<Flight> f) : owner(o), flight(std::move(f)) {}
    Landing(const Landing&) = delete;
    Landing& operator=(const Landing&) = delete;
    ~Landing() {
      if (owner.flight_ == flight) owner.flight_.reset();
      flight->landed.expires_at(boost::asio::steady_timer::time_point::min());
    }
    SingleFlight& owner;
    std::shared_ptr<Flight> flight;
  };

  std::shared_ptr<Flight> flight_;
};

}  // namespace gatehouse::acme
