#include "config/environment.hpp"

#include <cstdlib>

#include <fmt/format.h>

namespace gatehouse::config {

namespace {

using Expanded = Parsed<std::string>;

constexpr size_t expanded_bytes_max = 1024 * 1024;

bool is_variable_name(std::string_view name) {
  if (name.empty() || (name.front() >= '0' && name.front() <= '9')) return false;
  for (const char c : name) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    if (!letter && !(c >= '0' && c <= '9')) return false;
  }
  return true;
}

/// `reference` is what stands between the braces.
Expanded resolve(std::string_view reference) {
  const auto separator = reference.find(":-");
  const std::string name(reference.substr(0, separator));
  if (!is_variable_name(name)) {
    return Mistake{
        fmt::format("{} is no environment variable's name: write ${{NAME}} or "
                    "${{NAME:-default}}, and $${{ for a literal ${{",
                    in_quotes(name))};
  }
  const char* value = std::getenv(name.c_str());
  const bool has_default = separator != reference.npos;
  if (has_default && (value == nullptr || *value == '\0')) {
    return Expanded(boost::system::in_place_value, reference.substr(separator + 2));
  }
  if (value == nullptr) {
    return Mistake{
        fmt::format("the environment variable {0} is not set: set it, or write "
                    "${{{0}:-default}}",
                    name)};
  }
  return Expanded(boost::system::in_place_value, value);
}

}  // namespace

Expanded expand_environment(std::string_view text) {
  std::string result;
  while (true) {
    const auto start = text.find("${");
    if (start == text.npos) break;
    if (start > 0 && text[start - 1] == '$') {
      result += text.substr(0, start - 1);
      result += "${";
      text.remove_prefix(start + 2);
      continue;
    }
    result += text.substr(0, start);
    const auto end = text.find('}', start);
    if (end == text.npos) {
      return Mistake{"a ${ lacks its }: close it, or write $${ for a literal ${"};
    }
    const auto value = resolve(text.substr(start + 2, end - start - 2));
    if (!value) return value.error();
    result += *value;
    text.remove_prefix(end + 1);
    if (result.size() > expanded_bytes_max) {
      return Mistake{
          fmt::format("with its variables the text is longer than {} bytes", expanded_bytes_max)};
    }
  }
  result += text;
  return Expanded(boost::system::in_place_value, std::move(result));
}

}  // namespace gatehouse::config
