// Log lines for people: one sentence that names the thing and the way out.
//
// Not the access log (proxy/access_log). Any thread; a line is written whole. Never give it a
// private key, a token or an authorization field.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/clock.hpp"

namespace gatehouse::base::log {

enum class Level { trace, debug, info, warn, error };

struct Settings {
  Level level = Level::info;
  bool json = false;
  std::string file = "stderr";  // "stderr", "stdout" or a path
};

/// Takes effect at once for every thread. On failure (a path that cannot be opened) the sink in
/// use stays and the reason is returned; empty: well.
std::string configure(const Settings& settings);

bool enabled(Level level);

/// For what may happen a thousand times a second: one line of it does. Any thread.
class Throttle {
 public:
  bool allows(Monotonic::time_point now) {
    const int64_t second = now.time_since_epoch() / std::chrono::seconds(1);
    return last_.exchange(second, std::memory_order_relaxed) != second;
  }

 private:
  std::atomic<int64_t> last_{0};
};

/// Writes one line. Prefer the functions below.
void write(Level level, std::string_view text);

template <class... A>
void trace(fmt::format_string<A...> format, A&&... arguments) {
  if (enabled(Level::trace))
    write(Level::trace, fmt::format(format, std::forward<A>(arguments)...));
}
template <class... A>
void debug(fmt::format_string<A...> format, A&&... arguments) {
  if (enabled(Level::debug))
    write(Level::debug, fmt::format(format, std::forward<A>(arguments)...));
}
template <class... A>
void info(fmt::format_string<A...> format, A&&... arguments) {
  if (enabled(Level::info)) write(Level::info, fmt::format(format, std::forward<A>(arguments)...));
}
template <class... A>
void warn(fmt::format_string<A...> format, A&&... arguments) {
  if (enabled(Level::warn)) write(Level::warn, fmt::format(format, std::forward<A>(arguments)...));
}
template <class... A>
void error(fmt::format_string<A...> format, A&&... arguments) {
  if (enabled(Level::error))
    write(Level::error, fmt::format(format, std::forward<A>(arguments)...));
}

}  // namespace gatehouse::base::log
