// Comma-separated lists in field values (RFC 9110 section 5.6.1). Pure, any thread.
#pragma once

#include <string_view>

namespace gatehouse::http {

inline std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// Cuts the first element off; it may be empty.
inline std::string_view next_element(std::string_view& list) {
  const size_t comma = list.find(',');
  const std::string_view element = trim(list.substr(0, comma));
  list.remove_prefix(comma == list.npos ? list.size() : comma + 1);
  return element;
}

}  // namespace gatehouse::http
