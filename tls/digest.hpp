// SHA-256 and SHA-1 of bytes already in memory (FIPS 180-4), and HMAC (FIPS 198-1). Pure, any
// thread.
//
// Not for passwords. A digest is a checksum against damage and a stable name; HMAC says who wrote a
// message. SHA-1 only where a protocol demands it.
#pragma once

#include <string>
#include <string_view>

namespace gatehouse::tls {

/// 32 raw bytes.
std::string sha256(std::string_view bytes);

/// 20 raw bytes.
std::string sha1(std::string_view bytes);

/// HMAC with SHA-256 (RFC 2104): 32 raw bytes. The key may have any length.
std::string hmac_sha256(std::string_view key, std::string_view bytes);

}  // namespace gatehouse::tls
