#include "acme/times.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>

#include <fmt/format.h>

namespace gatehouse::acme {

namespace {

// What is later counts as this: a time point ends in 2262, and a few months are left for what is
// added to it.
constexpr std::chrono::sys_days latest{std::chrono::year(2262) / 1 / 1};

/// Reads text piece by piece; `good` turns false at the first piece that does not fit.
struct Cursor {
  std::string_view rest;
  bool good = true;

  int digits(size_t count) {
    int value = 0;
    if (rest.size() < count) good = false;
    for (size_t i = 0; good && i < count; ++i) {
      if (rest[i] < '0' || rest[i] > '9') good = false;
      value = value * 10 + (rest[i] - '0');
    }
    if (good) rest.remove_prefix(count);
    return good ? value : 0;
  }

  bool skip(std::string_view literal) {
    if (!rest.starts_with(literal)) return good = false;
    rest.remove_prefix(literal.size());
    return good;
  }

  int month() {
    constexpr std::array<std::string_view, 12> months = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    for (size_t i = 0; i < months.size(); ++i) {
      if (rest.starts_with(months[i])) {
        rest.remove_prefix(3);
        return static_cast<int>(i) + 1;
      }
    }
    good = false;
    return 1;
  }
};

struct Fields {
  int year = 1970, month = 1, day = 1, hour = 0, minute = 0, second = 0;
};

std::optional<WallTime> instant(const Fields& at) {
  using namespace std::chrono;
  const year_month_day date{year(at.year), month(static_cast<unsigned>(at.month)),
                            day(static_cast<unsigned>(at.day))};
  // A leap second (60) is the next minute's first second.
  if (!date.ok() || at.year < 1970 || at.hour > 23 || at.minute > 59 || at.second > 60) {
    return std::nullopt;
  }
  const auto time = sys_days(date) + hours(at.hour) + minutes(at.minute) + seconds(at.second);
  return std::min<sys_seconds>(time, latest);
}

void read_clock(Cursor& cursor, Fields& at) {
  at.hour = cursor.digits(2);
  cursor.skip(":");
  at.minute = cursor.digits(2);
  cursor.skip(":");
  at.second = cursor.digits(2);
}

void read_date(Cursor& cursor, Fields& at) {
  at.year = cursor.digits(4);
  cursor.skip("-");
  at.month = cursor.digits(2);
  cursor.skip("-");
  at.day = cursor.digits(2);
}

/// "Sun, 06 Nov 1994 08:49:37 GMT"
std::optional<WallTime> parse_fixed_date(std::string_view text) {
  Cursor cursor{text.substr(std::min<size_t>(text.size(), 3))};
  Fields at;
  cursor.skip(", ");
  at.day = cursor.digits(2);
  cursor.skip(" ");
  at.month = cursor.month();
  cursor.skip(" ");
  at.year = cursor.digits(4);
  cursor.skip(" ");
  read_clock(cursor, at);
  cursor.skip(" GMT");
  return cursor.good && cursor.rest.empty() ? instant(at) : std::nullopt;
}

/// "Sunday, 06-Nov-94 08:49:37 GMT"
std::optional<WallTime> parse_old_date(std::string_view text) {
  const size_t comma = text.find(", ");
  if (comma == std::string_view::npos) return std::nullopt;
  Cursor cursor{text.substr(comma + 2)};
  Fields at;
  at.day = cursor.digits(2);
  cursor.skip("-");
  at.month = cursor.month();
  cursor.skip("-");
  const int two_digits = cursor.digits(2);
  at.year = two_digits + (two_digits < 70 ? 2000 : 1900);
  cursor.skip(" ");
  read_clock(cursor, at);
  cursor.skip(" GMT");
  return cursor.good && cursor.rest.empty() ? instant(at) : std::nullopt;
}

/// "Sun Nov  6 08:49:37 1994"
std::optional<WallTime> parse_asctime_date(std::string_view text) {
  Cursor cursor{text.substr(std::min<size_t>(text.size(), 3))};
  Fields at;
  cursor.skip(" ");
  at.month = cursor.month();
  cursor.skip(" ");
  const bool one_digit = cursor.rest.starts_with(' ');
  if (one_digit) cursor.skip(" ");
  at.day = cursor.digits(one_digit ? 1 : 2);
  cursor.skip(" ");
  read_clock(cursor, at);
  cursor.skip(" ");
  at.year = cursor.digits(4);
  return cursor.good && cursor.rest.empty() ? instant(at) : std::nullopt;
}

}  // namespace

std::optional<WallTime> parse_timestamp(std::string_view text) {
  Cursor cursor{text};
  Fields at;
  read_date(cursor, at);
  if (!cursor.rest.starts_with('T') && !cursor.rest.starts_with('t')) return std::nullopt;
  cursor.rest.remove_prefix(1);
  read_clock(cursor, at);
  if (cursor.rest.starts_with('.')) {
    cursor.rest.remove_prefix(1);
    cursor.digits(1);
    while (!cursor.rest.empty() && cursor.rest[0] >= '0' && cursor.rest[0] <= '9') {
      cursor.rest.remove_prefix(1);
    }
  }
  std::chrono::minutes offset{0};
  if (cursor.rest.starts_with('+') || cursor.rest.starts_with('-')) {
    const int sign = cursor.rest[0] == '-' ? -1 : 1;
    cursor.rest.remove_prefix(1);
    const int hours = cursor.digits(2);
    cursor.skip(":");
    const int minutes = cursor.digits(2);
    if (hours > 23 || minutes > 59) return std::nullopt;
    offset = std::chrono::minutes(sign * (hours * 60 + minutes));
  } else if (cursor.rest.starts_with('Z') || cursor.rest.starts_with('z')) {
    cursor.rest.remove_prefix(1);
  } else {
    return std::nullopt;
  }
  const auto time = instant(at);
  if (!cursor.good || !cursor.rest.empty() || !time) return std::nullopt;
  return std::min<WallTime>(*time - offset, latest);
}

std::string timestamp(WallTime time) {
  using namespace std::chrono;
  const auto whole_days = floor<days>(time);
  const year_month_day date(whole_days);
  const hh_mm_ss clock(floor<seconds>(time - whole_days));
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count());
}

std::optional<WallTime> parse_http_date(std::string_view text) {
  if (auto time = parse_fixed_date(text)) return time;
  if (auto time = parse_old_date(text)) return time;
  return parse_asctime_date(text);
}

std::optional<std::chrono::milliseconds> parse_retry_after(std::string_view text, WallTime now) {
  using std::chrono::duration_cast;
  using std::chrono::milliseconds;
  if (text.empty()) return std::nullopt;
  const bool number =
      std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (number) {
    uint64_t seconds = 0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), seconds);
    const auto most = static_cast<uint64_t>(std::chrono::seconds(retry_after_believed_max).count());
    if (read.ec != std::errc() || seconds > most) return retry_after_believed_max;
    return std::chrono::seconds(seconds);
  }
  const auto time = parse_http_date(text);
  if (!time) return std::nullopt;
  return std::clamp(duration_cast<milliseconds>(*time - now), milliseconds(0),
                    milliseconds(retry_after_believed_max));
}

std::optional<WallTime> parse_retry_time(std::string_view detail) {
  constexpr std::string_view marker = "retry after ";
  const size_t found = detail.find(marker);
  if (found == std::string_view::npos) return std::nullopt;
  Cursor cursor{detail.substr(found + marker.size())};
  Fields at;
  read_date(cursor, at);
  if (!cursor.skip(cursor.rest.starts_with('T') ? "T" : " ")) return std::nullopt;
  read_clock(cursor, at);
  cursor.skip(cursor.rest.starts_with('Z') ? "Z" : " UTC");
  return cursor.good ? instant(at) : std::nullopt;
}

}  // namespace gatehouse::acme
