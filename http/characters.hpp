// Which bytes may stand where in an HTTP message (RFC 9110 section 5.6, RFC 3986). Pure tables.
//
// Not the grammar itself: rules and http1_parser put the characters together. Any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace gatehouse::http::characters {

enum Class : uint8_t {
  token = 1,       // tchar, RFC 9110 section 5.6.2
  field = 2,       // VCHAR, SP, HTAB, obs-text: inside a field value
  target = 4,      // printable ASCII without '#': a target has no fragment, and nothing raw beyond
  host = 8,        // letters, digits, '-', '.', '_'
  unreserved = 16  // RFC 3986 section 2.3
};

constexpr bool is_alphanumeric(unsigned c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

constexpr uint8_t classes_of(unsigned c) {
  constexpr std::string_view token_marks = "!#$%&'*+-.^_`|~";
  const char text = static_cast<char>(c);
  unsigned found = 0;
  if (is_alphanumeric(c) || (c < 0x80 && token_marks.find(text) != token_marks.npos))
    found |= token;
  if (c == '\t' || (c >= 0x20 && c != 0x7f)) found |= field;
  if (c > 0x20 && c < 0x7f && c != '#') found |= target;
  if (is_alphanumeric(c) || c == '-' || c == '.' || c == '_') found |= host;
  if (is_alphanumeric(c) || c == '-' || c == '.' || c == '_' || c == '~') found |= unreserved;
  return static_cast<uint8_t>(found);
}

inline constexpr auto table = [] {
  std::array<uint8_t, 256> result{};
  for (unsigned c = 0; c < 256; ++c) result[c] = classes_of(c);
  return result;
}();

constexpr bool is(Class wanted, char c) {
  return table[static_cast<uint8_t>(c)] & wanted;
}

constexpr bool all(Class wanted, std::string_view text) {
  for (const char c : text) {
    if (!is(wanted, c)) return false;
  }
  return true;
}

/// 0 to 15, or -1.
constexpr int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
}

}  // namespace gatehouse::http::characters
