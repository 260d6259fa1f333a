// A configuration file's text: it gives a snapshot or at least one mistake, each mistake is one
// line that names its place in the text, and the same text always says the same.
#include <algorithm>
#include <filesystem>
#include <stdlib.h>
#include <string>

#include "config/describe.hpp"
#include "config/load.hpp"
#include "tests/fuzz/target.hpp"

namespace gatehouse {

namespace config {

namespace {

constexpr const char* name = "fuzz.toml";

/// In an empty folder: relative paths lead nowhere.
void leave_this_folder() {
  std::string folder = std::filesystem::temp_directory_path() / "gatehouse-fuzz-XXXXXX";
  ASSERT(::mkdtemp(folder.data()) != nullptr);
  std::filesystem::current_path(folder);
  std::filesystem::remove(folder);
}

/// It may read the machine's files: those are not part of the input. The key may be spelled with
/// escapes.
bool reaches_outside(std::string_view text) {
  const auto holds = [text](std::string_view part) { return text.find(part) != text.npos; };
  const bool imports = holds("import") || holds("\\u") || holds("\\U") || holds("\\x");
  return imports && holds("/");
}

bool is_one_line(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

void check_mistakes(const Diagnostics& mistakes, std::string_view text) {
  const auto lines = static_cast<uint32_t>(std::count(text.begin(), text.end(), '\n')) + 1;
  for (const auto& mistake : mistakes) {
    ASSERT(!mistake.text.empty());
    ASSERT(mistake.place.file == name);
    ASSERT(mistake.place.line <= lines);
    ASSERT(is_one_line(mistake.to_string()));
  }
}

std::string text_of(const LoadResult& result) {
  if (result.snapshot) return describe(*result.snapshot) + describe_json(*result.snapshot);
  std::string text;
  for (const auto& mistake : result.diagnostics) text += mistake.to_string() + "\n";
  return text;
}

}  // namespace

}  // namespace config

void fuzz(std::string_view input) {
  static const bool away = (config::leave_this_folder(), true);
  if (!away || config::reaches_outside(input)) return;
  const std::string text(input);
  const auto result = config::load_text(text, config::name);
  ASSERT((result.snapshot == nullptr) == !result.diagnostics.empty());
  config::check_mistakes(result.diagnostics, text);
  const auto words = config::text_of(result);
  ASSERT(!words.empty());
  ASSERT(config::text_of(config::load_text(text, config::name)) == words);
}

}  // namespace gatehouse
