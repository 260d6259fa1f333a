// What the tests of this folder share: a folder of files that goes with the test, and a
// configuration's mistakes as lines of text.
#pragma once

#include <filesystem>
#include <fstream>
#include <stdlib.h>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "config/load.hpp"

namespace gatehouse::config {

class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "gatehouse-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = std::filesystem::canonical(name).string();
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string write(const std::string& name, const std::string& content) const {
    const auto file = path(name);
    std::filesystem::create_directories(std::filesystem::path(file).parent_path());
    std::ofstream(file) << content;
    return file;
  }
  std::string path(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// An environment variable, restored when the test ends.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* before = ::getenv(name)) before_ = before;
    set(value);
  }
  ~Variable() { set(before_ ? before_->c_str() : nullptr); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  void set(const char* value) const {
    if (value != nullptr) {
      ::setenv(name_, value, 1);
    } else {
      ::unsetenv(name_);
    }
  }
  const char* name_;
  std::optional<std::string> before_;
};

inline std::vector<std::string> lines(const Diagnostics& diagnostics) {
  std::vector<std::string> result;
  for (const auto& diagnostic : diagnostics) result.push_back(diagnostic.to_string());
  return result;
}

/// The mistakes of a text, and no snapshot beside them.
inline std::vector<std::string> mistakes(const std::string& text) {
  const auto result = load_text(text, "t.toml");
  CHECK((result.snapshot == nullptr) == !result.diagnostics.empty());
  return lines(result.diagnostics);
}

/// The snapshot of a text without mistakes.
inline SnapshotPtr loaded(const std::string& text) {
  const auto result = load_text(text, "t.toml");
  for (const auto& line : lines(result.diagnostics)) UNSCOPED_INFO(line);
  REQUIRE(result.snapshot != nullptr);
  REQUIRE(result.diagnostics.empty());
  return result.snapshot;
}

/// A site that is well, after which a test appends its own.
inline const std::string site = "[[site]]\nhosts = ['example.com']\nupstream = 'localhost:8080'\n";

using Lines = std::vector<std::string>;

/// The one mistake of a text, without its place and key path checked apart.
inline std::string mistake(const std::string& text) {
  const auto found = mistakes(text);
  for (const auto& line : found) UNSCOPED_INFO(line);
  REQUIRE(found.size() == 1);
  return found.front();
}

}  // namespace gatehouse::config
