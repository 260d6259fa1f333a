// Bounds retries to a share of the requests, so that a failing origin is not beaten further down.
//
// Decides how many, not which (exchange). One for each upstream group on a worker.
#pragma once

#include <algorithm>

namespace gatehouse::proxy {

class RetryBudget {
 public:
  /// Retries that may come at once before the share counts.
  static constexpr double burst = 10;

  /// One request came; `share` of a retry is earned by it.
  void earn(double share) { tokens_ = std::min(burst, tokens_ + share); }
  bool spend() {
    if (tokens_ < 1) return false;
    tokens_ -= 1;
    return true;
  }

 private:
  double tokens_ = burst;
};

}  // namespace gatehouse::proxy
