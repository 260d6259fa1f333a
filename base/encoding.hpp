// Text encodings of bytes: hexadecimal, base64 and base64url (RFC 4648). Pure, any thread.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace gatehouse::base {

std::string hex(std::string_view bytes);

/// Without padding, as JOSE wants it (RFC 7515 section 2).
std::string base64url(std::string_view bytes);

/// Refuses padding, white space and characters outside the alphabet.
std::optional<std::string> base64url_decode(std::string_view text);

std::string base64(std::string_view bytes);
std::optional<std::string> base64_decode(std::string_view text);

}  // namespace gatehouse::base
