// TLS alerts (RFC 8446 section 6), and the plain record of one for a connection without keys.
#pragma once

#include <array>
#include <cstdint>

namespace gatehouse::tls {

/// Those that are sent or understood here.
enum class Alert : uint8_t {
  close_notify = 0,
  unexpected_message = 10,
  bad_record_mac = 20,
  record_overflow = 22,
  handshake_failure = 40,
  illegal_parameter = 47,
  decode_error = 50,
  protocol_version = 70,
  internal_error = 80,
  user_canceled = 90,
  unrecognized_name = 112,
  no_application_protocol = 120,
};

/// Content type 21, version 3.3, length 2, fatal, code.
constexpr std::array<char, 7> alert_record(Alert alert) {
  return {0x15, 3, 3, 0, 2, 2, static_cast<char>(alert)};
}

}  // namespace gatehouse::tls
