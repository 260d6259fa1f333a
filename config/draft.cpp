#include "config/draft.hpp"

#include <fmt/format.h>

namespace gatehouse::config {

bool Draft::first_time(const std::string& section, const Mark& mark) {
  const auto [entry, added] = sections.emplace(section, mark);
  if (added) return true;
  const auto place = findings.place(entry->second);
  findings.add(mark, section,
               fmt::format("given before, at {}:{}: keep one of the two", place.file, place.line));
  return false;
}

}  // namespace gatehouse::config
