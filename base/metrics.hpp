// Counters, one shard for each worker and one for the control thread.
//
// The owner of a shard adds without locks or contention; the admin endpoint sums all shards.
// Values are monotonic counters, except the gauges marked so.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace gatehouse::base {

enum class Metric : uint16_t {
  connections_accepted,
  connections_open,  // gauge
  connections_refused,
  proxy_headers_refused,
  handshakes_completed,
  handshakes_resumed,
  handshakes_failed,
  handshakes_parked,  // gauge
  tls_violations,
  fallback_served,
  requests,
  requests_active,  // gauge
  responses_1xx,
  responses_2xx,
  responses_3xx,
  responses_4xx,
  responses_5xx,
  requests_refused,    // malformed or over a limit
  requests_cancelled,  // the client went away
  slow_heads,
  slow_bodies,
  slow_readers,
  tunnels,
  tunnels_active,        // gauge
  downstream_bytes_in,   // request bodies
  downstream_bytes_out,  // response bodies
  upstream_connects,
  upstream_connect_failures,
  upstream_reuses,
  upstream_retries,
  upstream_failures,
  upstream_idle,  // gauge
  downstream_timeouts,
  upstream_timeouts,
  access_log_dropped,
  accept_paused,
  http2_streams_refused,
  http2_control_floods,
  http2_header_floods,
  http2_reset_floods,
  http2_stalls,
  challenges_answered,
  ondemand_asks,
  ondemand_denied,
  ondemand_throttled,
  certificates_issued,
  certificates_renewed,
  certificate_failures,
  certificate_orders,
  certificate_orders_delayed,  // gauge
  notifications_email_sent,
  notifications_email_failed,
  notifications_email_dropped,
  notifications_webhook_sent,
  notifications_webhook_failed,
  notifications_webhook_dropped,
  notifications_exec_sent,
  notifications_exec_failed,
  notifications_exec_dropped,
  reloads,
  reload_failures,
  count_,
};

inline constexpr size_t metric_count = static_cast<size_t>(Metric::count_);

/// Upper bounds, in microseconds, of the request duration histogram; the last bucket is +Inf.
inline constexpr std::array<uint32_t, 14> duration_bounds_us = {
    500,     1'000,   2'500,   5'000,     10'000,    25'000,     50'000,
    100'000, 250'000, 500'000, 1'000'000, 2'500'000, 10'000'000, 60'000'000};

class alignas(64) MetricShard {
 public:
  /// Owner thread only: a plain load and store, no locked instruction.
  void add(Metric metric, int64_t amount = 1) {
    auto& cell = cells_[static_cast<size_t>(metric)];
    cell.store(cell.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }

  /// Owner thread only: one finished request.
  void record_duration(uint64_t microseconds);

  /// Any thread.
  int64_t value(Metric metric) const {
    return cells_[static_cast<size_t>(metric)].load(std::memory_order_relaxed);
  }
  uint64_t duration_bucket(size_t index) const {
    return buckets_[index].load(std::memory_order_relaxed);
  }
  uint64_t duration_sum_us() const { return duration_sum_.load(std::memory_order_relaxed); }

 private:
  std::array<std::atomic<int64_t>, metric_count> cells_{};
  std::array<std::atomic<uint64_t>, duration_bounds_us.size() + 1> buckets_{};
  std::atomic<uint64_t> duration_sum_{0};
};

/// All shards of the process. Shards are created at start-up on the control thread and live as
/// long as the registry.
class Metrics {
 public:
  explicit Metrics(size_t workers);
  ~Metrics();

  MetricShard& worker(size_t index);
  MetricShard& control();

  /// The Prometheus text exposition of the sums. Any thread.
  std::string prometheus() const;

  /// The sum over all shards. Any thread.
  int64_t total(Metric metric) const;

 private:
  struct Shards;
  void append_durations(std::string& out) const;
  std::unique_ptr<Shards> shards_;
};

}  // namespace gatehouse::base
