#include "base/log.hpp"

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>

#include <fmt/chrono.h>
#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include "base/json_escape.hpp"

namespace gatehouse::base::log {

namespace {

using SinkPtr = std::shared_ptr<spdlog::sinks::sink>;

/// A single line, however long its cause: past this the text is cut.
constexpr size_t line_bytes_max = 8 * 1024;

struct Target {
  std::mutex mutex;  // guards `sink`: a line is written by one thread at a time
  SinkPtr sink;
  std::atomic<Level> level{Level::info};
  std::atomic<bool> json{false};
};

SinkPtr open(const std::string& file) {
  SinkPtr sink;
  if (file == "stderr") {
    sink = std::make_shared<spdlog::sinks::stderr_sink_st>();
  } else if (file == "stdout") {
    sink = std::make_shared<spdlog::sinks::stdout_sink_st>();
  } else {
    sink = std::make_shared<spdlog::sinks::basic_file_sink_st>(file);
  }
  sink->set_formatter(std::make_unique<spdlog::pattern_formatter>("%v"));
  return sink;
}

// Never destroyed: threads and destructors of statics may still log while the program ends.
Target& target() {
  static Target* const instance = [] {
    auto* made = new Target;
    made->sink = open("stderr");
    return made;
  }();
  return *instance;
}

std::string_view name(Level level) {
  switch (level) {
    case Level::trace:
      return "trace";
    case Level::debug:
      return "debug";
    case Level::info:
      return "info";
    case Level::warn:
      return "warn";
    case Level::error:
      return "error";
  }
  return "info";
}

std::string timestamp() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
  const auto seconds = static_cast<std::time_t>(milliseconds / 1000);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(seconds), milliseconds % 1000);
}

std::string line_of(Level level, std::string_view text, bool json) {
  std::string line;
  if (json) {
    line = fmt::format(R"({{"time":"{}","level":"{}","message":")", timestamp(), name(level));
    append_json_escaped(line, text);
    line += "\"}";
  } else {
    line = fmt::format("{} {:<5} ", timestamp(), name(level));
    append_harmless(line, text);
  }
  return line;
}

}  // namespace

std::string configure(const Settings& settings) {
  SinkPtr sink;
  try {
    sink = open(settings.file);
  } catch (const std::exception& problem) {
    return fmt::format("log.file {}: {}; make its folder writable or use \"stderr\"", settings.file,
                       problem.what());
  }
  Target& to = target();
  const std::lock_guard lock(to.mutex);
  to.sink = std::move(sink);
  to.level.store(settings.level, std::memory_order_relaxed);
  to.json.store(settings.json, std::memory_order_relaxed);
  return {};
}

bool enabled(Level level) {
  return level >= target().level.load(std::memory_order_relaxed);
}

void write(Level level, std::string_view text) {
  if (!enabled(level)) return;
  Target& to = target();
  const std::string line =
      line_of(level, text.substr(0, line_bytes_max), to.json.load(std::memory_order_relaxed));
  const spdlog::details::log_msg message(spdlog::string_view_t{}, spdlog::level::info,
                                         spdlog::string_view_t(line.data(), line.size()));
  const std::lock_guard lock(to.mutex);
  try {
    to.sink->log(message);
    to.sink->flush();
  } catch (const std::exception&) {
    // A full disk must not stop the proxy, and there is nowhere left to say it.
  }
}

}  // namespace gatehouse::base::log
