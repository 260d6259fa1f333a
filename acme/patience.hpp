// The pauses between two looks at something the CA works on.
//
// Does not look (issuer, validation). One for each thing waited for. Control thread.
#pragma once

#include <chrono>
#include <optional>

#include <boost/asio/awaitable.hpp>

#include "base/clock.hpp"

namespace gatehouse::acme {

class Patience {
 public:
  Patience(const base::Clock& clock, base::Monotonic::time_point deadline);

  /// Pauses for `retry_after` as the CA says, else a short while first, then 100 ms, growing by
  /// half up to 3 s. False, at once, if the deadline would pass meanwhile.
  boost::asio::awaitable<bool> wait(std::optional<std::chrono::milliseconds> retry_after);

 private:
  const base::Clock& clock_;
  base::Monotonic::time_point deadline_;
  std::chrono::milliseconds next_;
};

}  // namespace gatehouse::acme
