// A real ACME CA for tests: Debian's pebble with its DNS server, on free loopback ports.
//
// Every name resolves to 127.0.0.1 there. Ends with the object; throws if pebble is missing.
#pragma once

#include <cstdint>
#include <string>
#include <sys/types.h>
#include <utility>
#include <vector>

namespace gatehouse::test {

/// A loopback port that nobody uses, and that no other test process is given.
uint16_t free_port();

struct PebbleSettings {
  uint16_t http_port = 0;  // where it looks for HTTP-01 answers; 0: some free port
  uint16_t tls_port = 0;   // and for TLS-ALPN-01
  int nonce_rejections_percent = 0;
  int authorization_reuse_percent = 0;
  bool always_valid = false;
  int alternate_roots = 0;
  bool binding_required = false;  // external accounts "kid-1" and "kid-2"
};

/// The key of "kid-1", as the CA hands it out.
inline constexpr const char* pebble_binding_key =
    "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

class Pebble {
 public:
  explicit Pebble(PebbleSettings settings = {});
  ~Pebble();
  Pebble(const Pebble&) = delete;
  Pebble& operator=(const Pebble&) = delete;

  std::string directory() const;                              // URL
  std::string root() const { return folder_ + "/cert.pem"; }  // trusts its HTTPS
  /// Where it looks for HTTP-01 answers.
  uint16_t http_port() const { return http_port_; }
  /// Its log so far.
  std::string log() const;
  /// All state is lost; the ports stay.
  void restart();

 private:
  void write_settings() const;
  void start();
  void stop();
  pid_t spawn(const std::vector<std::string>& command, const std::string& log) const;

  PebbleSettings settings_;
  std::string folder_;
  uint16_t acme_port_, management_port_, http_port_, tls_port_, dns_port_, dns_control_port_;
  pid_t pebble_ = -1;
  pid_t dns_ = -1;
};

}  // namespace gatehouse::test
