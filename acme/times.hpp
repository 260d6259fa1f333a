// Instants as the web writes them: RFC 3339, HTTP dates, Retry-After, and the one hidden in a rate
// limit's prose.
//
// Not a clock (base/clock). Years up to 9999 are read; what is later than a WallTime can hold
// counts as its end, in 2262. Pure, any thread.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"

namespace gatehouse::acme {

using WallTime = base::WallClock::time_point;

/// The furthest that a CA's Retry-After is believed; what is beyond counts as this.
inline constexpr std::chrono::hours retry_after_believed_max{31 * 24};

/// RFC 3339, as in an order's "expires"; fractions of a second are dropped.
std::optional<WallTime> parse_timestamp(std::string_view text);

/// RFC 3339 in UTC, to the second.
std::string timestamp(WallTime time);

/// One of the three HTTP dates (RFC 9110 section 5.6.7).
std::optional<WallTime> parse_http_date(std::string_view text);

/// Retry-After, seconds or an HTTP date, as the time to wait from `now`: never negative, at most
/// retry_after_believed_max.
std::optional<std::chrono::milliseconds> parse_retry_after(std::string_view text, WallTime now);

/// "retry after 2026-01-02 03:04:05 UTC" (or in RFC 3339) inside a rate limit's detail.
std::optional<WallTime> parse_retry_time(std::string_view detail);

}  // namespace gatehouse::acme
