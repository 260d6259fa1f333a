// "did you mean 'upstream'?": the nearest of the known words. Pure, any thread.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace gatehouse::config {

/// Insertions, deletions, changes and swaps of neighbours that turn one word into the other; stops
/// counting above `most` and returns most + 1.
size_t edit_distance(std::string_view a, std::string_view b, size_t most);

/// The nearest candidate that is close enough to be meant, or empty. Looks at the first 1,000.
std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates);

/// ", did you mean 'x'?" or empty.
std::string did_you_mean(std::string_view word, std::span<const std::string_view> candidates);

}  // namespace gatehouse::config
