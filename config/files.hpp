// The files a configuration is made of, and those it names: read, found, checked.
//
// Not storage (acme/) and nothing is ever written. Control thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/values.hpp"

namespace gatehouse::config {

inline constexpr size_t file_bytes_max = 16 * 1024 * 1024;
inline constexpr size_t secret_bytes_max = 64 * 1024;

/// The whole file, at most `bytes_max`. A pipe is read only if `regular_only` is false.
Parsed<std::string> read_file(const std::string& path, size_t bytes_max, bool regular_only = true);

/// Empty if the file can be opened for reading and is a regular file; otherwise what is wrong with
/// it and the way out.
std::string unreadable(const std::string& path);

/// Absolute, from `folder` (empty: the working directory), without "." and "..".
std::string resolve_path(std::string_view path, const std::string& folder);

/// The folder that holds the file.
std::string folder_of(const std::string& path);

/// True if the pattern holds * ? or [.
bool is_pattern(std::string_view path);

/// Files that match, in order of name; none is no mistake. `folder` is taken literally.
Parsed<std::vector<std::string>> matching_files(const std::string& pattern,
                                                const std::string& folder, size_t files_max);

/// One text for all names of one file, links followed.
std::string file_identity(const std::string& path);

}  // namespace gatehouse::config
