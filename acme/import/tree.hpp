// The files of another program's folder, read with suspicion: nothing outside it, nothing huge,
// nothing that is not a plain file.
//
// Does not know what the files mean. Blocks; command line only. Symbolic links are followed as long
// as they end inside the folder.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <boost/json/object.hpp>

#include "base/error.hpp"

namespace gatehouse::acme {

inline constexpr size_t imported_file_bytes_max = 1024 * 1024;
/// Traefik keeps everything in one file.
inline constexpr size_t imported_store_bytes_max = 64 * 1024 * 1024;
inline constexpr size_t imported_folder_entries_max = 200'000;

class Tree {
 public:
  /// The folder itself may be a symbolic link.
  static base::Result<Tree> open(const std::string& folder);

  /// Errors name the file as it is below the folder. not_found only if nothing of that name is
  /// there.
  base::Result<std::string> read(const std::string& path,
                                 size_t bytes_max = imported_file_bytes_max) const;
  /// Names in a folder, sorted, without those that begin with a dot; empty if it does not exist or
  /// is no folder inside the tree.
  std::vector<std::string> list(const std::string& path) const;
  /// Names of the folders in a folder; for each that leads out of the tree, a line is added.
  std::vector<std::string> folders(const std::string& path,
                                   std::vector<std::string>& problems) const;

 private:
  explicit Tree(std::string root) : root_(std::move(root)) {}
  std::string resolved(const std::string& path) const;

  std::string root_;  // without symbolic links
};

/// One plain file, wherever it is.
base::Result<std::string> read_plain_file(const std::string& path, size_t bytes_max);

/// A JSON object of bounded depth. The error names `file`.
base::Result<boost::json::object> parse_json_object(std::string_view text, std::string_view file);
/// A string member, "" if it is missing or something else.
std::string json_text(const boost::json::object& object, std::string_view key);
/// An object member, null if it is missing or something else.
const boost::json::object* json_object(const boost::json::object& object, std::string_view key);

/// "host[:port]" of an http or https URL; empty if it is none.
std::string host_of_url(std::string_view url);

}  // namespace gatehouse::acme
