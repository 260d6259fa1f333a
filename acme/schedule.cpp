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
constexpr std::chrono::hours suggestion_rest_max{6};
constexpr milliseconds window_pause_default = 6h;
constexpr milliseconds window_pause_min = 1min;
constexpr milliseconds window_pause_max = 24h;
constexpr unsigned window_salt = 0x61726900;

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
                                  std::optional<config::Duration> renew_before, std::string_view id,
                                  std::optional<Suggestion> suggested) {
  const auto life = std::max(lifetime.length(), WallClock::duration::zero());
  const double share = life < short_life ? 1.0 / 2.0 : 2.0 / 3.0;
  const auto part = [&](double of) {
    return WallClock::duration(static_cast<int64_t>(static_cast<double>(life.count()) * of));
  };
  const auto earliest = lifetime.not_before + part(1.0 / 3.0);
  auto due = std::max(lifetime.not_before + part(share + 0.05 * spread(id, 0)), earliest);
  if (suggested) {
    const auto rest = std::min<WallClock::duration>(part(0.1), suggestion_rest_max);
    due = std::max({suggested->instant, lifetime.not_before, suggested->heeded + rest});
    due = std::min(due, lifetime.not_before + part(4.0 / 5.0));
  }
  if (renew_before) due = std::min(due, std::max(lifetime.not_after - *renew_before, earliest));
  return due;
}

std::optional<WallClock::time_point> instant_in(const RenewalWindow& offered,
                                                const RenewalWindow& before,
                                                WallClock::time_point kept, double chance) {
  if (offered.end <= offered.start) return std::nullopt;
  if (offered == before && kept >= offered.start && kept <= offered.end) return kept;
  // As numbers of seconds: the dates are the CA's, and may be absurd.
  const double length = std::chrono::duration<double>(offered.end - offered.start).count();
  const auto into =
      std::chrono::seconds(static_cast<int64_t>(length * std::clamp(chance, 0.0, 1.0)));
  return std::min(offered.start + into, offered.end);
}

milliseconds window_pause(std::optional<milliseconds> retry_after, std::string_view id) {
  if (!retry_after) return jittered(window_pause_default, id, window_salt);
  return std::clamp(*retry_after, window_pause_min, window_pause_max);
}

unsigned expiry_stage(const Lifetime& lifetime, WallClock::time_point now) {
  unsigned stage = 0;
  while (stage < stages_max && now >= stage_begins(lifetime, stage + 1)) ++stage;
  return stage;
}

WallClock::time_point stage_begins(const Lifetime& lifetime, unsigned stage) {
  const auto life = std::max(lifetime.length(), WallClock::duration::zero());
  switch (stage) {
    case 1:
      return lifetime.not_after - life / 4;
    case 2:
      return lifetime.not_after - life / 10;
    case 3:
      return lifetime.not_after - life / 20;
    default:
      return lifetime.not_after;
  }
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
