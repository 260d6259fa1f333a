#include "base/json_escape.hpp"

#include <array>
#include <cstdint>
#include <cstring>

namespace gatehouse::base {

namespace {

// Bytes that stand for themselves: printable ASCII but for the quote and the backslash.
constexpr std::array<bool, 256> plain_table = [] {
  std::array<bool, 256> table{};
  for (int c = 0x20; c < 0x7f; ++c) table[static_cast<size_t>(c)] = c != '"' && c != '\\';
  return table;
}();

bool plain(char c) {
  return plain_table[static_cast<unsigned char>(c)];
}

constexpr uint64_t every(uint8_t byte) {
  return 0x0101010101010101ull * byte;
}

// Whether all eight bytes stand for themselves: the usual case, tested at once.
bool all_plain(uint64_t word) {
  const auto has_zero = [](uint64_t w) { return (w - every(1)) & ~w & every(0x80); };
  const uint64_t high = word & every(0x80);
  const uint64_t low = (word - every(0x20)) & ~word & every(0x80);
  const uint64_t special =
      has_zero(word ^ every('"')) | has_zero(word ^ every('\\')) | has_zero(word ^ every(0x7f));
  return (high | low | special) == 0;
}

uint8_t byte_at(std::string_view text, size_t index) {
  return index < text.size() ? static_cast<uint8_t>(text[index]) : 0;
}

bool continues(uint8_t byte) {
  return (byte & 0xc0) == 0x80;
}

// The length of the well-formed UTF-8 sequence at `at` (Unicode table 3-7); 0: there is none.
size_t sequence_length(std::string_view text, size_t at) {
  const uint8_t a = byte_at(text, at);
  const uint8_t b = byte_at(text, at + 1);
  if (a >= 0xc2 && a <= 0xdf) return continues(b) ? 2 : 0;
  if (a >= 0xe0 && a <= 0xef) {
    const bool second = continues(b) && !(a == 0xe0 && b < 0xa0) && !(a == 0xed && b > 0x9f);
    return second && continues(byte_at(text, at + 2)) ? 3 : 0;
  }
  if (a >= 0xf0 && a <= 0xf4) {
    const bool second = continues(b) && !(a == 0xf0 && b < 0x90) && !(a == 0xf4 && b > 0x8f);
    return second && continues(byte_at(text, at + 2)) && continues(byte_at(text, at + 3)) ? 4 : 0;
  }
  return 0;
}

char* put(char* out, std::string_view text) {
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

char* put_code(char* out, uint8_t code) {
  constexpr char digits[] = "0123456789abcdef";
  out = put(out, "\\u00");
  *out++ = digits[code >> 4];
  *out++ = digits[code & 15];
  return out;
}

char* put_ascii(char* out, char c) {
  switch (c) {
    case '"':
      return put(out, "\\\"");
    case '\\':
      return put(out, "\\\\");
    case '\n':
      return put(out, "\\n");
    case '\r':
      return put(out, "\\r");
    case '\t':
      return put(out, "\\t");
    default:
      return put_code(out, static_cast<uint8_t>(c));
  }
}

}  // namespace

char* json_escape(char* out, std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    while (text.size() - at >= sizeof(uint64_t)) {
      uint64_t word;
      std::memcpy(&word, text.data() + at, sizeof(word));
      if (!all_plain(word)) break;
      std::memcpy(out, &word, sizeof(word));
      out += sizeof(word);
      at += sizeof(word);
    }
    if (at == text.size()) break;
    const char c = text[at];
    if (plain(c)) {
      *out++ = c;
      ++at;
    } else if (static_cast<uint8_t>(c) < 0x80) {
      out = put_ascii(out, c);
      ++at;
    } else if (const size_t length = sequence_length(text, at); length == 0) {
      out = put(out, "\\ufffd");
      ++at;
    } else if (static_cast<uint8_t>(c) == 0xc2 && byte_at(text, at + 1) < 0xa0) {
      out = put_code(out, byte_at(text, at + 1));  // C1: terminals take some of these for commands
      at += length;
    } else {
      out = put(out, text.substr(at, length));
      at += length;
    }
  }
  return out;
}

void append_json_escaped(std::string& out, std::string_view text) {
  const size_t before = out.size();
  out.resize(before + json_escape_growth * text.size());
  char* const begin = out.data() + before;
  out.resize(before + static_cast<size_t>(json_escape(begin, text) - begin));
}

void append_harmless(std::string& out, std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    while (end < text.size() && text[end] != '"' && text[end] != '\\') ++end;
    append_json_escaped(out, text.substr(at, end - at));
    if (end < text.size()) out += text[end++];
    at = end;
  }
}

}  // namespace gatehouse::base
