// When each on-demand name was last visited, and when its certificate is to be renewed: what a
// restart must know without reading 100,000 certificates.
//
// Not the certificates (vault). Pure; the state goes out as JSON for whoever keeps it. Control
// thread.
#pragma once

#include <functional>
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

  struct Visit {
    Time seen{};
    Time renew_at{};
  };

  /// To the hour: a name that is busy does not make work each time.
  void seen(const std::string& name, Time now);
  void renew_at(const std::string& name, Time due, Time now);
  void forget(const std::string& name);
  /// Visited in the last 30 days.
  bool recent(const std::string& name, Time now) const;
  void each(const std::function<void(const std::string& name, const Visit&)>& look) const;

  /// Changed since the last to_json().
  bool changed() const { return changed_; }
  /// Leaves out what is not recent.
  std::string to_json(Time now);
  static Visits from_json(std::string_view text, Time now);

 private:
  Visit* place(const std::string& name);

  std::unordered_map<std::string, Visit> visits_;
  bool changed_ = false;
};

}  // namespace gatehouse::acme
