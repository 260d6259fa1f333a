// Which certificate a server shows for a name, and whether a client of this machine would take it.
//
// For people who look for a fault, not for proxied connections (stream). Blocks the calling thread,
// `wait` at the most: command line only.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "base/error.hpp"
#include "tls/certificate_description.hpp"

namespace gatehouse::tls {

struct Presented {
  ChainLink leaf;
  std::string fingerprint;  // SHA-256, hexadecimal
  bool self_signed = false;
  std::string objection;  // why a client refuses it, in OpenSSL's words; empty: it is taken
};

/// A handshake with `server_name` at an IP address. `more_roots`: PEM, trusted besides the
/// system's. Errors: refused, timeout, reset, tls (the server ended the handshake), io.
base::Result<Presented> look_at_certificate(const std::string& address, uint16_t port,
                                            const std::string& server_name,
                                            const std::string& more_roots,
                                            std::chrono::milliseconds wait);

}  // namespace gatehouse::tls
