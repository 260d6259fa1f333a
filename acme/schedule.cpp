#include "acme/schedule.hpp"

#include <algorithm>
#include <array>
#include <span>

namespace gatehouse::acme {

using base::Monotonic;
using base::WallClock;
using namespace std::chrono_literals;
using std::chrono::milliseconds;

namespace {

constexpr std::chrono::hours short_life{10 * 24};
constexpr std::chrono::hours retry_after_max{1};

constexpr std::array<milliseconds, 6> breaker_pauses{15s, 30s, 1min, 2min, 5min, 15min};
constexpr std::array<milliseconds, 6> validation_waits{1min, 10min, 100min, 6h, 12h, 24h};
constexpr milliseconds blocked_wait = 24h;

/// In [-1, 1], always the same for the same text (FNV-1a).
double spread(std::string_view text, unsigned salt) {
  uint64_t hash = 14695981039346656037ULL ^ salt;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  hash ^= hash >> 32;
  return static_cast<double>(hash % 20001) / 10000.0 - 1.0;
}

milliseconds jittered(milliseconds wait, std::string_view id, unsigned salt) {
  const double factor = 1.0 + 0.1 * spread(id, salt);
  return milliseconds(static_cast<int64_t>(static_cast<double>(wait.count()) * factor));
}

milliseconds step(std::span<const milliseconds> steps, unsigned number) {
  return steps[std::min<size_t>(std::max(number, 1U) - 1, steps.size() - 1)];
}

}  // namespace

WallClock::time_point renewal_due(const Lifetime& lifetime,
                                  std::optional<config::Duration> renew_before,
                                  std::string_view id) {
  const auto life = std::max(lifetime.length(), WallClock::duration::zero());
  const double share = life < short_life ? 1.0 / 2.0 : 2.0 / 3.0;
  const auto part = [&](double of) {
    return WallClock::duration(static_cast<int64_t>(static_cast<double>(life.count()) * of));
  };
  auto due = lifetime.not_before + part(share + 0.05 * spread(id, 0));
  if (renew_before) due = std::min(due, lifetime.not_after - *renew_before);
  return std::max(due, lifetime.not_before + part(1.0 / 3.0));
}

milliseconds retry_wait(FailureClass kind, unsigned failures, std::string_view id) {
  switch (kind) {
    case FailureClass::validation:
      return jittered(step(validation_waits, failures), id, failures);
    case FailureClass::policy:
    case FailureClass::account:
      return jittered(blocked_wait, id, failures);
    default:
      return jittered(step(breaker_pauses, failures), id, failures);
  }
}

milliseconds shortened(milliseconds wait, const Lifetime& lifetime, WallClock::time_point now) {
  const auto life = std::chrono::duration_cast<milliseconds>(lifetime.length());
  const auto left = std::chrono::duration_cast<milliseconds>(lifetime.not_after - now);
  if (left > life / 4) return std::min(wait, std::max<milliseconds>(left - life / 4, 1s));
  const milliseconds most = life < short_life ? milliseconds(10min) : milliseconds(1h);
  return std::min(wait, std::min(most, std::max<milliseconds>(life / 20, 1s)));
}

void Breaker::trip(Time now, std::optional<Time> until) {
  open_ = true;
  on_trial_ = throttled_ = false;
  ++level_;
  since_ = now;
  not_before_ = until ? std::min<Time>(*until, now + retry_after_max) : now;
}

void Breaker::throttle(Time now) {
  trip(now);
  throttled_ = true;
}

void Breaker::probe_failed(Time now) {
  if (!open_) return;
  ++level_;
  since_ = now;
}

void Breaker::close() {
  on_trial_ = throttled_;
  open_ = throttled_ = false;
}

void Breaker::reset() {
  open_ = on_trial_ = throttled_ = false;
  level_ = 0;
}

Breaker::Time Breaker::probe_at(bool wanted, std::string_view id) const {
  const milliseconds pause = wanted ? breaker_pauses.front() : step(breaker_pauses, level_);
  // Earlier by the jitter, never later: the first pause is a promise to those who wait.
  const auto early =
      static_cast<int64_t>(static_cast<double>(pause.count()) * 0.05 * (1.0 + spread(id, level_)));
  return std::max<Time>(since_ + pause - milliseconds(early), not_before_);
}

}  // namespace gatehouse::acme
