// When: the moment to renew, the wait after a failure, and the breaker of a CA that is down.
//
// Decides nothing else, keeps no timers and reads no clock: times come in and go out. Pure; the
// numbers are those of CERTIFICATES sections 4 and 5. Any thread.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

#include "acme/failure.hpp"
#include "base/clock.hpp"
#include "config/snapshot.hpp"

namespace gatehouse::acme {

struct Lifetime {
  base::WallClock::time_point not_before, not_after;
  base::WallClock::duration length() const { return not_after - not_before; }
};

/// When the CA wants a certificate renewed.
struct Suggestion {
  base::WallClock::time_point instant{};
  base::WallClock::time_point heeded{};  // when one before it was last followed
};

/// notBefore + 2/3 of the lifetime (1/2 under 10 d) ± 5 % by `id`, or `renew_before` its end,
/// whichever is earlier, but never in the first third: a renewal would follow the other.
/// `suggested`: the instant in the CA's window takes the place of the share, except when a fifth
/// of the lifetime is left, and except within 6 h (or a tenth of the lifetime) of a renewal that
/// was made for the same reason: a CA that is mad may cost four renewals a day and no more.
base::WallClock::time_point renewal_due(const Lifetime& lifetime,
                                        std::optional<config::Duration> renew_before,
                                        std::string_view id,
                                        std::optional<Suggestion> suggested = std::nullopt);

/// The window in which a CA wants a certificate renewed (RFC 9773 section 4.2).
struct RenewalWindow {
  base::WallClock::time_point start{}, end{};
  bool operator==(const RenewalWindow&) const = default;
};

/// The instant to renew at: `kept` while the window stands, else a new one in it by `chance` (0 to
/// 1). A window that does not begin before it ends is no answer.
std::optional<base::WallClock::time_point> instant_in(const RenewalWindow& offered,
                                                      const RenewalWindow& before,
                                                      base::WallClock::time_point kept,
                                                      double chance);

/// The pause until the CA is asked for its window again: as it said, in [1 min, 1 d], else 6 h
/// ± 10 % by `id`.
std::chrono::milliseconds window_pause(std::optional<std::chrono::milliseconds> retry_after,
                                       std::string_view id);

/// How near a certificate's end is: 0 more than 25 % left; 1, 2, 3: at most 25, 10, 5 %; 4: over.
inline constexpr unsigned stages_max = 4;
unsigned expiry_stage(const Lifetime& lifetime, base::WallClock::time_point now);
/// When that stage (1 to 4) begins.
base::WallClock::time_point stage_begins(const Lifetime& lifetime, unsigned stage);

/// The wait after the `failures`-th failure in a row (1: the first), ± 10 % by `id`.
std::chrono::milliseconds retry_wait(FailureClass kind, unsigned failures, std::string_view id);

/// The same for a name that has a certificate: at the latest when a quarter of its life is left,
/// and from then on at most 1 h (10 min under 10 d, a 20th of the life if that is shorter).
std::chrono::milliseconds shortened(std::chrono::milliseconds wait, const Lifetime& lifetime,
                                    base::WallClock::time_point now);

/// Waits between the tries of one attempt after a transport failure.
inline constexpr std::chrono::milliseconds try_waits[] = {
    std::chrono::milliseconds(250), std::chrono::seconds(1), std::chrono::seconds(3)};

/// One CA's breaker: open while the CA does not answer, with growing pauses between two probes.
/// While somebody waits the pause is never more than the first one, so that a CA that recovers is
/// noticed within 15 s.
class Breaker {
 public:
  using Time = base::Monotonic::time_point;

  bool open() const { return open_; }
  /// Half-open after "too many requests": the next order is the probe, one at a time.
  bool on_trial() const { return on_trial_; }
  bool throttled() const { return throttled_; }

  /// The CA failed beyond its tries: opens, with the next longer pause. `until`: not before (503
  /// with Retry-After), at most 1 h ahead.
  void trip(Time now, std::optional<Time> until = std::nullopt);
  /// The CA said 429 and not until when: opens; the probe is an order.
  void throttle(Time now);
  /// A probe failed: the next longer pause.
  void probe_failed(Time now);
  /// A probe was answered, or it is time for an order on trial: closes.
  void close();
  /// An order was answered sensibly: forgets how long it had been.
  void reset();

  /// When to probe; only while open.
  Time probe_at(bool wanted, std::string_view id) const;

 private:
  bool open_ = false;
  bool on_trial_ = false;
  bool throttled_ = false;
  unsigned level_ = 0;
  Time since_{};  // the last failure
  Time not_before_{};
};

}  // namespace gatehouse::acme
