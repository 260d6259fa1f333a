// SHA-256 of bytes already in memory (FIPS 180-4). Pure, any thread.
//
// Not for passwords or message authentication: a checksum against damage, and a stable name.
#pragma once

#include <string>
#include <string_view>

namespace gatehouse::tls {

/// 32 raw bytes.
std::string sha256(std::string_view bytes);

}  // namespace gatehouse::tls
