#include "proxy/access_log.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <mutex>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

#include <fmt/format.h>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "base/log.hpp"

namespace gatehouse::proxy {

namespace {

constexpr size_t batch_bytes_max = 64 * 1024;
// A pipe that says it is writable takes this much at once (pipe(7)), so the thread never blocks.
constexpr size_t pipe_write_bytes = 4096;
constexpr std::chrono::minutes complaint_interval{1};

/// Where lines go.
struct Sink {
  std::string name;
  int descriptor = -1;
  bool owned = false;
  bool never_blocks = false;  // a file, or a device such as /dev/null

  Sink() = default;
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;
  ~Sink() {
    if (owned) ::close(descriptor);
  }
};
using SinkPtr = std::shared_ptr<const Sink>;

SinkPtr open_sink(const std::string& name) {
  auto sink = std::make_shared<Sink>();
  sink->name = name;
  if (name == "stdout") {
    sink->descriptor = STDOUT_FILENO;
  } else if (name == "stderr") {
    sink->descriptor = STDERR_FILENO;
  } else {
    sink->descriptor = ::open(
        name.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
    if (sink->descriptor < 0) return nullptr;
    sink->owned = true;
  }
  struct stat status {};
  const bool known = ::fstat(sink->descriptor, &status) == 0;
  const bool device = known && S_ISCHR(status.st_mode) && ::isatty(sink->descriptor) == 0;
  sink->never_blocks = device || (known && S_ISREG(status.st_mode));
  return sink;
}

uint32_t mode_of(const config::Log& settings) {
  if (settings.access == "off") return 0;
  uint32_t mode = AccessLine::on;
  if (settings.access_format == config::AccessFormat::common) mode |= AccessLine::common;
  const auto redacted = [&](std::string_view name) {
    return std::ranges::any_of(settings.redact, [&](const std::string& field) {
      return std::ranges::equal(field, name,
                                [](char a, char b) { return (a | 0x20) == (b | 0x20); });
    });
  };
  if (redacted("referer")) mode |= AccessLine::hide_referer;
  if (redacted("user-agent")) mode |= AccessLine::hide_user_agent;
  return mode;
}

size_t whole_lines(const char* text, size_t size) {
  const void* newline = ::memrchr(text, '\n', size);
  return newline == nullptr ? 0 : static_cast<size_t>(static_cast<const char*>(newline) - text) + 1;
}

}  // namespace

struct AccessLog::State {
  State(size_t workers, base::Metrics& metrics);
  ~State();

  void run();
  bool write_batch();
  size_t fill_batch();
  void put(const Sink& sink, std::string_view text);
  bool wait_writable(int descriptor) const;
  void lose(const Sink& sink, std::string_view text, int code);
  SinkPtr current() {
    const std::lock_guard lock(mutex);
    return sink;
  }

  std::atomic<uint32_t> mode{0};
  std::deque<Shard> shards;
  int wake = -1;

  std::mutex mutex;  // guards `sink`: the control thread replaces it
  SinkPtr sink;

  std::atomic<bool> stopping{false};
  std::atomic<base::Monotonic::time_point> stop_deadline{};
  base::Monotonic::time_point complained{};
  std::unique_ptr<char[]> batch{new char[batch_bytes_max]};
  std::thread thread;
};

AccessLog::State::State(size_t workers, base::Metrics& metrics) {
  wake = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  ASSERT(wake >= 0);
  for (size_t i = 0; i < workers; ++i) shards.emplace_back(mode, metrics.worker(i), wake);
  thread = std::thread([this] { run(); });
}

AccessLog::State::~State() {
  stop_deadline.store(base::Monotonic::now() + drain_max);
  stopping.store(true);
  ::eventfd_write(wake, 1);
  thread.join();
  ::close(wake);
}

void AccessLog::State::run() {
  ::pthread_setname_np(::pthread_self(), "access-log");
  for (;;) {
    const bool last_round = stopping.load();
    pollfd waiting{wake, POLLIN, 0};
    // With the log off nobody queues: sleeps until configure() or the end calls.
    const int idle = mode.load() == 0 ? -1 : static_cast<int>(write_interval.count());
    const int interval = last_round ? 0 : idle;
    if (::poll(&waiting, 1, interval) > 0) {
      eventfd_t ignored;
      ::eventfd_read(wake, &ignored);
    }
    while (write_batch()) {
      if (stopping.load() && base::Monotonic::now() > stop_deadline.load()) return;
    }
    if (last_round) return;
  }
}

// False when nothing was queued.
bool AccessLog::State::write_batch() {
  const size_t size = fill_batch();
  if (size == 0) return false;
  if (const SinkPtr to = current()) put(*to, {batch.get(), size});
  return true;
}

size_t AccessLog::State::fill_batch() {
  size_t size = 0;
  for (Shard& shard : shards) size += shard.take(batch.get() + size, batch_bytes_max - size);
  return size;
}

void AccessLog::State::put(const Sink& to, std::string_view text) {
  while (!text.empty()) {
    size_t size = text.size();
    if (!to.never_blocks) {
      if (!wait_writable(to.descriptor)) return lose(to, text, ETIMEDOUT);
      if (size > pipe_write_bytes) {
        const size_t lines = whole_lines(text.data(), pipe_write_bytes);
        size = lines != 0 ? lines : pipe_write_bytes;
      }
    }
    const ssize_t written = ::write(to.descriptor, text.data(), size);
    if (written >= 0) {
      text.remove_prefix(static_cast<size_t>(written));
    } else if (errno != EINTR && errno != EAGAIN) {
      return lose(to, text, errno);
    }
  }
}

// Waits for a slow reader of a pipe for as long as the program runs; false at its end.
bool AccessLog::State::wait_writable(int descriptor) const {
  for (;;) {
    pollfd waiting{descriptor, POLLOUT, 0};
    if (::poll(&waiting, 1, static_cast<int>(write_interval.count())) > 0) return true;
    if (stopping.load() && base::Monotonic::now() > stop_deadline.load()) return false;
  }
}

void AccessLog::State::lose(const Sink& to, std::string_view text, int code) {
  shards.front().lost_.fetch_add(static_cast<uint32_t>(std::ranges::count(text, '\n')),
                                 std::memory_order_relaxed);
  const auto now = base::Monotonic::now();
  if (complained != base::Monotonic::time_point{} && now - complained < complaint_interval) return;
  complained = now;
  base::log::warn("log.access {}: {}; lines are lost until it can be written again", to.name,
                  std::strerror(code));
}

AccessLog::AccessLog(size_t workers, base::Metrics& metrics)
    : state_(std::make_unique<State>(workers, metrics)) {}
AccessLog::~AccessLog() = default;

std::string AccessLog::configure(const config::Log& settings) {
  const uint32_t mode = mode_of(settings);
  if (mode != 0) {
    SinkPtr opened = open_sink(settings.access);
    if (!opened) {
      return fmt::format(
          "log.access {}: {}; make its folder writable, or use \"stdout\" or \"off\"",
          settings.access, std::strerror(errno));
    }
    const std::lock_guard lock(state_->mutex);
    state_->sink.swap(opened);
  }
  state_->mode.store(mode);
  ::eventfd_write(state_->wake, 1);
  return {};
}

std::string AccessLog::reopen() {
  const SinkPtr before = state_->current();
  if (!before || !before->owned) return {};
  SinkPtr opened = open_sink(before->name);
  if (!opened) {
    return fmt::format("log.access {}: {}; the file in use stays open", before->name,
                       std::strerror(errno));
  }
  const std::lock_guard lock(state_->mutex);
  state_->sink.swap(opened);
  return {};
}

AccessLog::Shard& AccessLog::shard(size_t worker) {
  ASSERT(worker < state_->shards.size());
  return state_->shards[worker];
}

AccessLog::Shard::Shard(const std::atomic<uint32_t>& mode, base::MetricShard& metrics,
                        int wake_descriptor)
    : mode_(mode),
      metrics_(metrics),
      wake_descriptor_(wake_descriptor),
      ring_(new char[ring_bytes]) {}

void AccessLog::Shard::write(const AccessRecord& record) {
  const uint32_t mode = mode_.load(std::memory_order_relaxed);
  if ((mode & AccessLine::on) == 0) return;
  if (lost_.load(std::memory_order_relaxed) != 0) [[unlikely]]
    metrics_.add(base::Metric::access_log_dropped, lost_.exchange(0, std::memory_order_relaxed));
  const std::string_view line = line_.format(record, mode);
  if (!has_room(line.size())) return metrics_.add(base::Metric::access_log_dropped);
  copy_in(line);
  wake_if_half_full();
}

// Looks at the other thread's position only when what is known of it does not suffice.
bool AccessLog::Shard::has_room(size_t bytes) {
  const size_t head = head_.load(std::memory_order_relaxed);
  if (head - tail_seen_ + bytes <= ring_bytes) return true;
  tail_seen_ = tail_.load(std::memory_order_acquire);
  return head - tail_seen_ + bytes <= ring_bytes;
}

void AccessLog::Shard::copy_in(std::string_view line) {
  const size_t head = head_.load(std::memory_order_relaxed);
  const size_t at = head % ring_bytes;
  const size_t first = std::min(line.size(), ring_bytes - at);
  std::memcpy(ring_.get() + at, line.data(), first);
  std::memcpy(ring_.get(), line.data() + first, line.size() - first);
  head_.store(head + line.size(), std::memory_order_release);
}

// The writing thread comes by itself every write_interval; under load it is called once a half.
void AccessLog::Shard::wake_if_half_full() {
  const size_t head = head_.load(std::memory_order_relaxed);
  if (head - tail_seen_ < ring_bytes / 2) return;
  tail_seen_ = tail_.load(std::memory_order_acquire);
  if (head - tail_seen_ < ring_bytes / 2) {
    woken_ = false;
  } else if (!woken_) {
    woken_ = true;
    ::eventfd_write(wake_descriptor_, 1);
  }
}

// Writing thread: moves whole lines out of the ring, as many as fit.
size_t AccessLog::Shard::take(char* out, size_t room) {
  const size_t tail = tail_.load(std::memory_order_relaxed);
  const size_t queued = head_.load(std::memory_order_acquire) - tail;
  size_t size = std::min(queued, room);
  const size_t at = tail % ring_bytes;
  const size_t first = std::min(size, ring_bytes - at);
  std::memcpy(out, ring_.get() + at, first);
  std::memcpy(out + first, ring_.get(), size - first);
  if (size < queued) size = whole_lines(out, size);
  tail_.store(tail + size, std::memory_order_release);
  return size;
}

}  // namespace gatehouse::proxy
