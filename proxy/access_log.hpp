// One line for each finished request, written by a thread of its own.
//
// Not the program's log (base/log), and not the line's text (access_line). A worker queues lines in
// its own bounded ring and never waits for the disk: a full ring drops the line and counts it
// (access_log_dropped).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/metrics.hpp"
#include "config/snapshot.hpp"
#include "proxy/access_line.hpp"

namespace gatehouse::proxy {

class AccessLog {
 public:
  class Shard;  // one for each worker, used by that worker's thread only

  /// Starts the writing thread; the log is off until configure().
  AccessLog(size_t workers, base::Metrics& metrics);
  /// Writes what is queued, for as long as `drain_max`, then stops the thread.
  ~AccessLog();

  /// Takes effect for the lines that follow; a path is opened for appending. On failure the sink
  /// in use stays and the reason is returned; empty: well. Control thread.
  std::string configure(const config::Log& settings);
  /// Reopens a path, after a log rotation; returns as configure(). Control thread.
  std::string reopen();

  Shard& shard(size_t worker);

  static constexpr size_t ring_bytes = 1024 * 1024;
  /// A line reaches the file at the latest after this, if the file takes it.
  static constexpr std::chrono::milliseconds write_interval{100};
  static constexpr std::chrono::milliseconds drain_max{2000};

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// A worker's end of the log.
class AccessLog::Shard {
 public:
  /// False when the log is off: the caller need not build a record.
  bool enabled() const { return (mode_.load(std::memory_order_relaxed) & AccessLine::on) != 0; }
  /// Never blocks, never allocates. A line for which the ring has no room is dropped and counted.
  void write(const AccessRecord& record);

  Shard(const std::atomic<uint32_t>& mode, base::MetricShard& metrics, int wake_descriptor);

 private:
  friend class AccessLog;
  bool has_room(size_t bytes);
  void copy_in(std::string_view line);
  void wake_if_half_full();
  size_t take(char* out, size_t room);

  // The worker's.
  const std::atomic<uint32_t>& mode_;
  base::MetricShard& metrics_;
  const int wake_descriptor_;
  AccessLine line_;
  std::unique_ptr<char[]> ring_;
  size_t tail_seen_ = 0;  // tail_ when last looked at
  bool woken_ = false;    // the writing thread knows that the ring is half full
  // Shared. Positions count bytes since the start and only grow.
  alignas(64) std::atomic<size_t> head_{0};    // end of what is queued: the worker's to move
  alignas(64) std::atomic<size_t> tail_{0};    // end of what is written: the writing thread's
  alignas(64) std::atomic<uint32_t> lost_{0};  // lines that could not be written, not yet counted
};

}  // namespace gatehouse::proxy
