// Runs one coroutine of the control thread to its end, from a test's plain code.
#pragma once

#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

namespace gatehouse::test {

/// Throws if it is not done within `limit`. Whatever else the io_context holds runs meanwhile.
template <class T>
T await(boost::asio::io_context& control, boost::asio::awaitable<T> work,
        std::chrono::seconds limit = std::chrono::seconds(60)) {
  // On the heap: a coroutine given up here may still end later.
  struct Ending {
    std::exception_ptr error;
    std::optional<T> value;
    bool done = false;
  };
  auto ending = std::make_shared<Ending>();
  boost::asio::co_spawn(control, std::move(work), [ending](std::exception_ptr e, T value) {
    ending->error = e;
    if (!e) ending->value.emplace(std::move(value));
    ending->done = true;
  });
  const auto deadline = std::chrono::steady_clock::now() + limit;
  control.restart();
  while (!ending->done && std::chrono::steady_clock::now() < deadline) {
    if (control.run_one_until(deadline) == 0 && control.stopped()) control.restart();
  }
  if (!ending->done) throw std::runtime_error("a coroutine did not end in time");
  if (ending->error) std::rethrow_exception(ending->error);
  return std::move(*ending->value);
}

inline boost::asio::awaitable<bool> true_after(boost::asio::awaitable<void> work) {
  co_await std::move(work);
  co_return true;
}

inline void await(boost::asio::io_context& control, boost::asio::awaitable<void> work,
                  std::chrono::seconds limit = std::chrono::seconds(60)) {
  await(control, true_after(std::move(work)), limit);
}

}  // namespace gatehouse::test
