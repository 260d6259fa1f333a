#include "base/metrics.hpp"

#include <algorithm>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "base/error.hpp"

namespace gatehouse::base {

namespace {

enum class Type : uint8_t { counter, gauge };

/// How a Metric is shown. Rows of one family follow each other; the first carries the help text.
struct Row {
  Metric metric;
  Type type;
  std::string_view family;
  std::string_view label;  // `name="value"`, or empty
  std::string_view help;
};

constexpr Row rows[] = {
    {Metric::connections_accepted, Type::counter, "connections_accepted_total", "",
     "Client connections accepted."},
    {Metric::connections_open, Type::gauge, "connections_open", "", "Client connections open now."},
    {Metric::connections_refused, Type::counter, "connections_refused_total", "",
     "Client connections closed at once because a limit was reached."},
    {Metric::proxy_headers_refused, Type::counter, "proxy_headers_refused_total", "",
     "Connections of trusted proxies closed because their PROXY header was malformed, missing or "
     "late."},
    {Metric::handshakes_completed, Type::counter, "tls_handshakes_total", "",
     "TLS handshakes completed, resumed ones included."},
    {Metric::handshakes_resumed, Type::counter, "tls_handshakes_resumed_total", "",
     "TLS handshakes resumed from a session ticket."},
    {Metric::handshakes_failed, Type::counter, "tls_handshakes_failed_total", "",
     "TLS handshakes that failed or were refused."},
    {Metric::handshakes_parked, Type::gauge, "tls_handshakes_parked", "",
     "TLS handshakes waiting for a certificate now."},
    {Metric::tls_violations, Type::counter, "tls_violations_total", "",
     "TLS connections ended after their handshake because of records that break the rules, or of "
     "an alert."},
    {Metric::fallback_served, Type::counter, "tls_fallback_served_total", "",
     "TLS handshakes answered with a self-signed fallback certificate."},
    {Metric::requests, Type::counter, "requests_total", "", "Requests whose head was complete."},
    {Metric::requests_active, Type::gauge, "requests_active", "", "Requests under way now."},
    {Metric::responses_1xx, Type::counter, "responses_total", R"(class="1xx")",
     "Responses sent to clients, by class of status."},
    {Metric::responses_2xx, Type::counter, "responses_total", R"(class="2xx")", ""},
    {Metric::responses_3xx, Type::counter, "responses_total", R"(class="3xx")", ""},
    {Metric::responses_4xx, Type::counter, "responses_total", R"(class="4xx")", ""},
    {Metric::responses_5xx, Type::counter, "responses_total", R"(class="5xx")", ""},
    {Metric::requests_refused, Type::counter, "requests_refused_total", "",
     "Requests refused as malformed or over a limit."},
    {Metric::requests_cancelled, Type::counter, "requests_cancelled_total", "",
     "Requests whose client went away before the answer."},
    {Metric::slow_heads, Type::counter, "slow_clients_total", R"(kind="head")",
     "Requests ended because their client sent its head or its body too slowly, or took its "
     "answer too slowly, by kind."},
    {Metric::slow_bodies, Type::counter, "slow_clients_total", R"(kind="body")", ""},
    {Metric::slow_readers, Type::counter, "slow_clients_total", R"(kind="reader")", ""},
    {Metric::tunnels, Type::counter, "tunnels_total", "",
     "Requests that became tunnels (WebSocket)."},
    {Metric::tunnels_active, Type::gauge, "tunnels_active", "", "Tunnels open now."},
    {Metric::downstream_bytes_in, Type::counter, "request_body_bytes_total", "",
     "Bytes of request bodies received from clients."},
    {Metric::downstream_bytes_out, Type::counter, "response_body_bytes_total", "",
     "Bytes of response bodies sent to clients."},
    {Metric::upstream_connects, Type::counter, "upstream_connects_total", "",
     "Connections opened to upstream servers."},
    {Metric::upstream_connect_failures, Type::counter, "upstream_connect_failures_total", "",
     "Connections to upstream servers that could not be opened."},
    {Metric::upstream_reuses, Type::counter, "upstream_reuses_total", "",
     "Requests sent on an upstream connection kept from an earlier one."},
    {Metric::upstream_retries, Type::counter, "upstream_retries_total", "",
     "Requests sent to an upstream once more."},
    {Metric::upstream_failures, Type::counter, "upstream_failures_total", "",
     "Requests an upstream failed to answer."},
    {Metric::upstream_idle, Type::gauge, "upstream_idle_connections", "",
     "Upstream connections kept idle now."},
    {Metric::downstream_timeouts, Type::counter, "timeouts_total", R"(side="downstream")",
     "Waits that ran out, by side."},
    {Metric::upstream_timeouts, Type::counter, "timeouts_total", R"(side="upstream")", ""},
    {Metric::access_log_dropped, Type::counter, "access_log_dropped_total", "",
     "Access log lines lost because the log could not be written fast enough, or at all."},
    {Metric::accept_paused, Type::counter, "accept_paused_total", "",
     "Times a listener paused because descriptors or memory ran out."},
    {Metric::http2_streams_refused, Type::counter, "http2_streams_refused_total", "",
     "HTTP/2 streams refused because a connection had too many."},
    {Metric::http2_control_floods, Type::counter, "http2_floods_total", R"(kind="control")",
     "HTTP/2 connections ended because their client did nothing but cost, by kind."},
    {Metric::http2_header_floods, Type::counter, "http2_floods_total", R"(kind="headers")", ""},
    {Metric::http2_reset_floods, Type::counter, "http2_floods_total", R"(kind="resets")", ""},
    {Metric::http2_stalls, Type::counter, "http2_stalls_total", "",
     "HTTP/2 streams and connections ended because their peer took nothing."},
    {Metric::challenges_answered, Type::counter, "acme_challenges_answered_total", "",
     "HTTP-01 requests and TLS-ALPN-01 handshakes answered."},
    {Metric::ondemand_asks, Type::counter, "ondemand_asks_total", "",
     "Questions sent to the on_demand.ask URL."},
    {Metric::ondemand_denied, Type::counter, "ondemand_denied_total", "",
     "Names refused a certificate on demand."},
    {Metric::ondemand_throttled, Type::counter, "ondemand_throttled_total", "",
     "First handshakes turned away by an on-demand limit."},
    {Metric::certificates_issued, Type::counter, "certificates_issued_total", "",
     "Certificates obtained for names that had none."},
    {Metric::certificates_renewed, Type::counter, "certificates_renewed_total", "",
     "Certificates renewed."},
    {Metric::certificate_failures, Type::counter, "certificate_failures_total", "",
     "Attempts to obtain or renew a certificate that failed."},
    {Metric::certificate_orders, Type::counter, "certificate_orders_total", "",
     "Orders placed with certificate authorities."},
    {Metric::certificate_orders_delayed, Type::gauge, "certificate_orders_delayed", "",
     "Certificates whose order waits for a limit of the authority now."},
    {Metric::notifications_email_sent, Type::counter, "notifications_total",
     R"(way="email",result="sent")", "Messages to people about certificates, by way and result."},
    {Metric::notifications_email_failed, Type::counter, "notifications_total",
     R"(way="email",result="failed")", ""},
    {Metric::notifications_email_dropped, Type::counter, "notifications_total",
     R"(way="email",result="dropped")", ""},
    {Metric::notifications_webhook_sent, Type::counter, "notifications_total",
     R"(way="webhook",result="sent")", ""},
    {Metric::notifications_webhook_failed, Type::counter, "notifications_total",
     R"(way="webhook",result="failed")", ""},
    {Metric::notifications_webhook_dropped, Type::counter, "notifications_total",
     R"(way="webhook",result="dropped")", ""},
    {Metric::notifications_exec_sent, Type::counter, "notifications_total",
     R"(way="exec",result="sent")", ""},
    {Metric::notifications_exec_failed, Type::counter, "notifications_total",
     R"(way="exec",result="failed")", ""},
    {Metric::notifications_exec_dropped, Type::counter, "notifications_total",
     R"(way="exec",result="dropped")", ""},
    {Metric::reloads, Type::counter, "reloads_total", "",
     "Reloads of the configuration that took effect."},
    {Metric::reload_failures, Type::counter, "reload_failures_total", "",
     "Reloads refused; the running configuration stayed."},
};

// One row for each metric, in the order of the enumeration: nothing is counted and not shown.
constexpr bool complete() {
  if (std::size(rows) != metric_count) return false;
  for (size_t i = 0; i < metric_count; ++i)
    if (rows[i].metric != static_cast<Metric>(i)) return false;
  return true;
}
static_assert(complete());

void append_row(std::string& out, const Row& row, int64_t value) {
  auto to = std::back_inserter(out);
  if (!row.help.empty()) {
    fmt::format_to(to, "# HELP gatehouse_{} {}\n# TYPE gatehouse_{} {}\n", row.family, row.help,
                   row.family, row.type == Type::gauge ? "gauge" : "counter");
  }
  if (row.label.empty()) {
    fmt::format_to(to, "gatehouse_{} {}\n", row.family, value);
  } else {
    fmt::format_to(to, "gatehouse_{}{{{}}} {}\n", row.family, row.label, value);
  }
}

}  // namespace

void MetricShard::record_duration(uint64_t microseconds) {
  const auto bound = std::lower_bound(duration_bounds_us.begin(), duration_bounds_us.end(),
                                      microseconds, [](uint32_t a, uint64_t b) { return a < b; });
  auto& bucket = buckets_[static_cast<size_t>(bound - duration_bounds_us.begin())];
  bucket.store(bucket.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  duration_sum_.store(duration_sum_.load(std::memory_order_relaxed) + microseconds,
                      std::memory_order_relaxed);
}

struct Metrics::Shards {
  explicit Shards(size_t workers) : all(workers + 1) {}
  std::vector<MetricShard> all;  // the control thread's last
};

Metrics::Metrics(size_t workers) : shards_(std::make_unique<Shards>(workers)) {}
Metrics::~Metrics() = default;

MetricShard& Metrics::worker(size_t index) {
  ASSERT(index + 1 < shards_->all.size());
  return shards_->all[index];
}

MetricShard& Metrics::control() {
  return shards_->all.back();
}

int64_t Metrics::total(Metric metric) const {
  int64_t sum = 0;
  for (const MetricShard& shard : shards_->all) sum += shard.value(metric);
  return sum;
}

std::string Metrics::prometheus() const {
  std::string out;
  out.reserve(8 * 1024);
  fmt::format_to(std::back_inserter(out),
                 "# HELP gatehouse_build_info The version that runs.\n"
                 "# TYPE gatehouse_build_info gauge\n"
                 "gatehouse_build_info{{version=\"{}\"}} 1\n",
                 GATEHOUSE_VERSION);
  for (const Row& row : rows) append_row(out, row, total(row.metric));
  append_durations(out);
  return out;
}

void Metrics::append_durations(std::string& out) const {
  auto to = std::back_inserter(out);
  out +=
      "# HELP gatehouse_request_duration_seconds Time from a request's head to the end of its "
      "response.\n# TYPE gatehouse_request_duration_seconds histogram\n";
  uint64_t count = 0, sum_us = 0;
  for (size_t i = 0; i <= duration_bounds_us.size(); ++i) {
    for (const MetricShard& shard : shards_->all) count += shard.duration_bucket(i);
    const std::string bound = i < duration_bounds_us.size()
                                  ? fmt::format("{}", duration_bounds_us[i] / 1e6)
                                  : std::string("+Inf");
    fmt::format_to(to, "gatehouse_request_duration_seconds_bucket{{le=\"{}\"}} {}\n", bound, count);
  }
  for (const MetricShard& shard : shards_->all) sum_us += shard.duration_sum_us();
  fmt::format_to(to,
                 "gatehouse_request_duration_seconds_sum {}.{:06}\n"
                 "gatehouse_request_duration_seconds_count {}\n",
                 sum_us / 1'000'000, sum_us % 1'000'000, count);
}

}  // namespace gatehouse::base
