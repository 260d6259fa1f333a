#include "config/suggestion.hpp"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

namespace gatehouse::config {

namespace {

constexpr size_t candidates_max = 1000;
constexpr size_t word_bytes_max = 64;

}  // namespace

std::string did_you_mean(std::string_view word, std::span<const std::string_view> candidates) {
  const auto found = nearest(word, candidates);
  return found.empty() ? std::string() : fmt::format(", did you mean '{}'?", found);
}

std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates) {
  if (word.empty() || word.size() > word_bytes_max) return {};
  // A third of the word may be wrong; of a short word, one letter.
  size_t limit = std::max<size_t>(1, word.size() / 3);
  std::string_view best;
  for (const auto candidate : candidates.first(std::min(candidates.size(), candidates_max))) {
    const auto distance = edit_distance(word, candidate, limit);
    if (distance > limit) continue;
    if (distance == 0) return candidate;
    best = candidate;
    limit = distance - 1;
    if (limit == 0) break;
  }
  return best;
}

size_t edit_distance(std::string_view a, std::string_view b, size_t most) {
  if (a.size() > b.size()) std::swap(a, b);
  if (b.size() - a.size() > most) return most + 1;
  std::vector<size_t> before(a.size() + 1);
  std::vector<size_t> last(a.size() + 1);
  std::vector<size_t> row(a.size() + 1);
  for (size_t i = 0; i <= a.size(); ++i) last[i] = i;
  for (size_t j = 1; j <= b.size(); ++j) {
    row[0] = j;
    for (size_t i = 1; i <= a.size(); ++i) {
      row[i] =
          std::min({last[i] + 1, row[i - 1] + 1, last[i - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[i] = std::min(row[i], before[i - 2] + 1);
    }
    if (*std::min_element(row.begin(), row.end()) > most) return most + 1;
    before.swap(last);
    last.swap(row);
  }
  return std::min(last[a.size()], most + 1);
}

}  // namespace gatehouse::config
