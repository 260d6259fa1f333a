// SHA-256 and SHA-1 of bytes already in memory (FIPS 180-4). Pure, any thread.
//
// Not for passwords or message authentication: a checksum against damage, and a stable name. SHA-1
// only where a protocol demands it.
#pragma once

#include <string>
#include <string_view>

namespace gatehouse::tls {

/// 32 raw bytes.
std::string sha256(std::string_view bytes);

/// 20 raw bytes.
std::string sha1(std::string_view bytes);

}  // namespace gatehouse::tls
