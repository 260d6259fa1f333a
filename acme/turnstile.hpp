// Many may be inside, or one may be alone: the orders at a CA, and the change of its account's key.
//
// Does not queue those who want to be alone: the second is refused. Must outlive its callers.
// Control thread.
#pragma once

#include <chrono>
#include <memory>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>

namespace gatehouse::acme {

class Turnstile {
 public:
  /// Waits while somebody is alone, or about to be. leave() once for each.
  boost::asio::awaitable<void> enter();
  void leave();

  /// Lets nobody in any more, and waits until all have left. False, and open again, if they stay
  /// longer than `patience` or if somebody else wants to be alone. open() once for each true.
  boost::asio::awaitable<bool> close(std::chrono::milliseconds patience);
  void open();

 private:
  // Events: timers that somebody else ends.
  std::shared_ptr<boost::asio::steady_timer> opened_;   // while it is closed
  std::shared_ptr<boost::asio::steady_timer> emptied_;  // while close() waits
  size_t inside_ = 0;
};

/// Leaves at the end of the scope.
class Inside {
 public:
  explicit Inside(Turnstile& turnstile) : turnstile_(turnstile) {}
  ~Inside() { turnstile_.leave(); }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  Turnstile& turnstile_;
};

/// Opens at the end of the scope.
class Alone {
 public:
  explicit Alone(Turnstile& turnstile) : turnstile_(&turnstile) {}
  ~Alone() {
    if (turnstile_ != nullptr) turnstile_->open();
  }
  Alone(const Alone&) = delete;
  Alone& operator=(const Alone&) = delete;

  /// Somebody else opens.
  void release() { turnstile_ = nullptr; }

 private:
  Turnstile* turnstile_;
};

}  // namespace gatehouse::acme
