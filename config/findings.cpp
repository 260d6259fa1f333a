#include "config/findings.hpp"

#include <algorithm>
#include <tuple>

#include <fmt/format.h>

namespace gatehouse::config {

uint32_t Findings::add_source(std::string name, std::string folder) {
  sources_.push_back({std::move(name), std::move(folder)});
  return static_cast<uint32_t>(sources_.size() - 1);
}

void Findings::add(const Mark& mark, std::string key, std::string text) {
  if (full()) {
    ++dropped_;
    return;
  }
  // A diagnostic is one line, whatever a path or a parser's words hold.
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  found_.push_back({mark, std::move(key), std::move(text)});
}

Place Findings::place(const Mark& mark) const {
  return Place{sources_[mark.file].name, mark.line, mark.column};
}

Diagnostics Findings::take() {
  std::stable_sort(found_.begin(), found_.end(), [](const Found& a, const Found& b) {
    return std::tie(a.mark.file, a.mark.line, a.mark.column) <
           std::tie(b.mark.file, b.mark.line, b.mark.column);
  });
  Diagnostics result;
  result.reserve(found_.size() + 1);
  for (auto& found : found_) {
    result.push_back({place(found.mark), std::move(found.key), std::move(found.text)});
  }
  if (dropped_ > 0) {
    result.push_back({place({}), "", fmt::format("{} more mistakes are not shown", dropped_)});
  }
  found_.clear();
  dropped_ = 0;
  return result;
}

std::string Diagnostic::to_string() const {
  std::string result = place.file;
  if (place.line > 0) result += fmt::format(":{}:{}", place.line, place.column);
  if (!key.empty()) result += ": " + key;
  return result + ": " + text;
}

}  // namespace gatehouse::config
