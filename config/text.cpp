#include "config/text.hpp"

#include <algorithm>

namespace gatehouse::config {

namespace {

constexpr size_t quoted_bytes_max = 80;

bool is_token_character(char c) {  // RFC 9110 section 5.6.2
  const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  static constexpr std::string_view others = "!#$%&'*+-.^_`|~";
  return letter || (c >= '0' && c <= '9') || others.find(c) != others.npos;
}

}  // namespace

std::string lower_case(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_token_character);
}

bool is_field_value(std::string_view text) {
  if (text.empty()) return true;
  if (text.front() == ' ' || text.front() == '\t') return false;
  if (text.back() == ' ' || text.back() == '\t') return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte == '\t' || (byte >= 0x20 && byte != 0x7f);
  });
}

std::string in_quotes(std::string_view text) {
  std::string result = "'";
  for (const char c : text.substr(0, quoted_bytes_max)) {
    const auto byte = static_cast<unsigned char>(c);
    result += byte < 0x20 || byte == 0x7f ? '?' : c;
  }
  if (text.size() > quoted_bytes_max) result += "…";
  return result += '\'';
}

}  // namespace gatehouse::config
