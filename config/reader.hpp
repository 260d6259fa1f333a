// A cursor over one table of the configuration: typed values, and a mistake with key path and place
// for each that does not fit. What nobody asked for is an unknown key.
//
// Knows no section and no default: a value that is absent or wrong leaves the target as it is.
// Control thread.
#pragma once

#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/document.hpp"
#include "config/findings.hpp"
#include "config/snapshot.hpp"
#include "config/values.hpp"

namespace gatehouse::config {

/// A word that a key accepts, and what it stands for.
template <class T>
struct Choice {
  std::string_view word;
  T value;
};

class Reader {
 public:
  /// `table` and `findings` outlive the reader; names of keys passed to it are literals.
  Reader(const Value& table, std::string path, Findings& findings);
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  /// Every key that was never asked for becomes a diagnostic. Call once, last.
  void finish();

  bool has(std::string_view key) { return find(key) != nullptr; }
  /// The key is there and does not say "off": false, 0, "", an empty list or table.
  bool given(std::string_view key);
  /// Where the value stands; without it, where the table does.
  Mark mark(std::string_view key);
  const Mark& mark() const { return table_.mark; }
  /// "site[0].upstream"
  std::string path(std::string_view key) const;
  const std::string& path() const { return path_; }
  Findings& findings() { return findings_; }

  /// A mistake in the value of the key.
  void refuse(std::string_view key, std::string text);

  // Each returns true if the key is there and its value was taken.
  bool read(std::string_view key, std::string& target);
  bool read(std::string_view key, bool& target);
  bool read(std::string_view key, uint32_t& target, uint32_t least, uint32_t most);
  bool read(std::string_view key, double& target, double least, double most);
  bool read(std::string_view key, Duration& target, Duration least, Duration most);
  bool read_size(std::string_view key, uint64_t& target, uint64_t least, uint64_t most);
  bool read(std::string_view key, std::vector<std::string>& target);
  bool read(std::string_view key, std::vector<Network>& target);
  bool read(std::string_view key, std::vector<HostGlob>& target);

  /// A file that must be there and readable; the target becomes its absolute path. "" is absent.
  bool read_file_path(std::string_view key, std::string& target);
  /// A path that need not exist; the target becomes absolute.
  bool read_path(std::string_view key, std::string& target);
  /// The value itself, or with "file:PATH" what the file holds without its final newline.
  bool read_secret(std::string_view key, std::string& target);
  /// As read_secret, from a key that names the file.
  bool read_secret_file(std::string_view key, std::string& target);

  /// One of the words. `later` says which other words exist, but not in this version.
  using Later = bool (*)(std::string_view word);
  template <class T>
  bool choose(std::string_view key, T& target, std::initializer_list<Choice<T>> choices,
              Later later = nullptr) {
    std::string word;
    if (!read(key, word)) return false;
    std::vector<std::string_view> words;
    for (const auto& choice : choices) {
      if (choice.word == word) {
        target = choice.value;
        return true;
      }
      words.push_back(choice.word);
    }
    refuse_word(key, word, words, later);
    return false;
  }

  /// Calls `each` with every string of the list.
  using EachString = std::function<void(const std::string&, const Mark&, const std::string& path)>;
  bool each_string(std::string_view key, const EachString& each);
  /// Calls `each` with every entry of the list.
  using EachValue = std::function<void(const Value&, const std::string& path)>;
  bool each_value(std::string_view key, const EachValue& each);
  /// Calls `each` with every table of the list.
  bool each_table(std::string_view key, const EachValue& each);
  /// The table under the key, or nullptr.
  const Value* table(std::string_view key);

  /// A key that later versions know and this one lacks: refused, unless its value says "off".
  void unsupported(std::string_view key);

  /// The string with its variables replaced; false: a diagnostic was added.
  bool expand(const Value& value, const std::string& path, std::string& target);

  /// "expected a string, such as …": the value has the wrong kind.
  void refuse_kind(const Value& value, const std::string& path, std::string_view expected);

 private:
  const Value* find(std::string_view key);
  const Value* find(std::string_view key, ValueKind kind, std::string_view expected);
  void refuse_word(std::string_view key, const std::string& word,
                   std::span<const std::string_view> words, Later later);
  bool is_off(const Value& value) const;
  bool take_secret(std::string_view key, const std::string& file, std::string& target);

  const Value& table_;
  std::string path_;
  Findings& findings_;
  std::vector<std::string_view> known_;
};

}  // namespace gatehouse::config
