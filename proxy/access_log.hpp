// One line for each finished request, written by a thread of its own.
//
// Not the program's log (base/log). A worker formats into its own bounded ring and never waits for
// the disk: a full ring drops the line and counts it (access_log_dropped).
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/metrics.hpp"
#include "config/snapshot.hpp"

namespace gatehouse::proxy {

struct AccessRecord {
  std::chrono::system_clock::time_point time;  // of the request's head
  std::string_view client;                     // address, without port
  std::string_view method, scheme, host, target, protocol;  // protocol: "HTTP/1.1"
  std::string_view referer, user_agent;
  std::string_view upstream;     // the endpoint as configured; empty: answered here
  std::string_view tls_version;  // "TLSv1.3"; empty: plain
  std::string_view error;        // why it failed or was refused; empty: well
  uint16_t status = 0;           // 499: the client went away before the answer
  uint8_t retries = 0;
  uint64_t bytes_in = 0, bytes_out = 0;  // of the bodies
  std::chrono::microseconds duration{0}, upstream_duration{0};
};

class AccessLog {
 public:
  class Shard;  // one for each worker, used by that worker's thread only

  /// Starts the writing thread.
  AccessLog(size_t workers, base::Metrics& metrics);
  /// Writes what is queued, then stops the thread.
  ~AccessLog();

  /// Takes effect for the lines that follow; a path is opened for appending. On failure the sink
  /// in use stays and the reason is returned; empty: well. Control thread.
  std::string configure(const config::Log& settings);
  /// Reopens a path, after a log rotation. Control thread.
  void reopen();

  Shard& shard(size_t worker);

  static constexpr size_t ring_bytes = 1024 * 1024;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class AccessLog::Shard {
 public:
  virtual ~Shard() = default;
  /// False when the log is off: the caller need not build a record.
  bool enabled() const;
  /// Never blocks, never allocates in the steady state.
  void write(const AccessRecord& record);
};

}  // namespace gatehouse::proxy
