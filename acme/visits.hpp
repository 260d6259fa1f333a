// When each on-demand name was last visited: what keeps its certificate among those that renew.
//
// Not when it renews (ledger). Pure; the state goes out as JSON for whoever keeps it. Control
// thread.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>

#include "base/clock.hpp"

namespace gatehouse::acme {

class Visits {
 public:
  using Time = base::WallClock::time_point;
  static constexpr std::chrono::hours remembered{24 * 30};
  static constexpr size_t count_max = 200'000;

  /// To the hour: a name that is busy does not make work each time.
  void seen(const std::string& name, Time now);
  /// Counts as a visit of a name that is not known yet, and of no other.
  void first(const std::string& name, Time now);
  void forget(const std::string& name);
  /// Visited in the last 30 days.
  bool recent(const std::string& name, Time now) const;

  /// Changed since the last to_json().
  bool changed() const { return changed_; }
  /// Leaves out what is not recent.
  std::string to_json(Time now);
  static Visits from_json(std::string_view text, Time now);

 private:
  std::unordered_map<std::string, Time> visits_;
  bool changed_ = false;
};

}  // namespace gatehouse::acme
