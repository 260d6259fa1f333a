// Where accounts, orders, certificates and limits are kept: seven verbs over paths.
//
// Not the meaning of what is stored (manager, client). Called on the control thread; an
// implementation does its blocking work elsewhere (file: a storage thread) and resumes there.
// Layout: CERTIFICATES section 9 in docs/architecture.md.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "base/error.hpp"

namespace gatehouse::acme {

/// File name → bytes of one folder.
using FileSet = std::map<std::string, std::string>;

class Storage {
 public:
  virtual ~Storage() = default;

  /// not_found, or corrupt (fails its recorded checksum), or io.
  virtual boost::asio::awaitable<base::Result<std::string>> load(std::string path) = 0;
  /// Replaces one file whole and durably, or changes nothing.
  virtual boost::asio::awaitable<base::Result<void>> store(std::string path, std::string bytes) = 0;
  /// A new generation of a folder's files, which change together: `<folder>/<generation>/…`, then
  /// `<folder>/current` points to it. The previous generation is kept.
  virtual boost::asio::awaitable<base::Result<void>> store_set(std::string folder,
                                                               FileSet files) = 0;
  /// The current generation; if it is damaged, it is moved to quarantine/ (logged, named) and the
  /// previous one is returned; not_found when none is whole.
  virtual boost::asio::awaitable<base::Result<FileSet>> load_set(std::string folder) = 0;
  /// Moves a file or folder, replacing none: archive and quarantine. `to` empty: removes it.
  virtual boost::asio::awaitable<base::Result<void>> move(std::string from, std::string to) = 0;
  /// Names in a folder, sorted; empty if it does not exist.
  virtual boost::asio::awaitable<base::Result<std::vector<std::string>>> list(
      std::string folder) = 0;
  /// The name of each folder's current generation, empty where there is none. Reads no file, so
  /// that it can be asked of thousands.
  virtual boost::asio::awaitable<std::vector<std::string>> current(
      std::vector<std::string> folders) = 0;
};

}  // namespace gatehouse::acme
