// One finished request as one line of text: JSON, or the Common Log Format.
//
// Pure formatting into a buffer of its own; queueing and writing are access_log's. Whatever a
// client sent, the line is one line, valid JSON in its format, and shows no password of a URL. One
// thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string_view>

namespace gatehouse::proxy {

struct AccessRecord {
  std::chrono::system_clock::time_point time;               // of the request's head
  std::string_view client;                                  // address, without port
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

class AccessLine {
 public:
  /// What a line shows, as bits.
  enum Mode : uint32_t { on = 1, common = 2, hide_referer = 4, hide_user_agent = 8 };

  // Longer fields are cut; so a line, with every byte escaped, has a known bound.
  static constexpr size_t target_bytes_max = 4096;
  static constexpr size_t referer_bytes_max = 1024;
  static constexpr size_t user_agent_bytes_max = 512;
  static constexpr size_t field_bytes_max = 256;
  static constexpr size_t line_bytes_max = 48 * 1024;

  AccessLine() : buffer_(new char[line_bytes_max]) {}

  /// With its newline; valid until the next call. No allocation.
  std::string_view format(const AccessRecord& record, uint32_t mode);

 private:
  void update_second(std::chrono::system_clock::time_point time);
  char* format_json(char* out, const AccessRecord& record, uint32_t mode);
  char* format_common(char* out, const AccessRecord& record);

  std::unique_ptr<char[]> buffer_;
  int64_t second_ = INT64_MIN;  // what the two texts below stand for
  char iso_[32];                // "2026-11-21T01:56:09"
  char clf_[32];                // "21/Nov/2026:01:56:09 +0000"
};

}  // namespace gatehouse::proxy
