// One storage folder on a local disk: durable writes, checksums, generations, quarantine, the lock.
//
// Blocks, and so lives on the storage threads (FileStorage) or in a command line; does not know
// what it stores. Any thread, but one at a time for each folder of the stored. Layout and
// guarantees: CERTIFICATES section 9 in docs/architecture.md.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "acme/storage/storage.hpp"
#include "base/error.hpp"

namespace gatehouse::acme {

/// Larger files are refused on both ways.
inline constexpr size_t stored_file_bytes_max = 32 * 1024 * 1024;
/// Files in one set.
inline constexpr size_t stored_set_files_max = 32;

class Disk {
 public:
  enum class Access : uint8_t {
    exclusive,  // locks the folder, creates what is missing
    read_only,  // beside a running gatehouse: changes nothing, not even what is damaged
  };

  /// Opens the folder; `exclusive` creates it (0700). The lock ends with this object or, however it
  /// ends, with the process. Errors name the folder and the way out.
  static base::Result<std::unique_ptr<Disk>> open(std::string root, Access access);
  ~Disk();
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;

  // The verbs of Storage. `load` moves a damaged file to quarantine/ before it says `corrupt`.
  base::Result<std::string> load(const std::string& path);
  base::Result<void> store(const std::string& path, const std::string& bytes);
  base::Result<void> store_set(const std::string& folder, const FileSet& files);
  base::Result<FileSet> load_set(const std::string& folder);
  base::Result<void> move(const std::string& from, const std::string& to);
  base::Result<std::vector<std::string>> list(const std::string& folder) const;
  std::string current(const std::string& folder) const;

 private:
  Disk(std::string root, Access access);
  base::Result<void> prepare();
  base::Result<void> take_lock();
  base::Result<void> check_version();
  base::Result<void> make_folder(const std::string& folder);
  void clear_the_way(const std::string& folder);
  base::Result<void> point_to(const std::string& folder, const std::string& generation);
  base::Result<void> write_new_set(const std::string& temporary, const FileSet& files);
  base::Result<FileSet> read_generation(const std::string& folder, const std::string& generation);
  void prune(const std::string& folder, const std::string& current, const std::string& previous);
  std::string quarantine(const std::string& path);
  void discard(const std::string& path);
  std::string full(const std::string& path) const { return root_ + "/" + path; }
  std::string temporary();

  std::string root_;
  Access access_;
  int lock_ = -1;
  std::atomic<unsigned> temporaries_ = 0;
};

}  // namespace gatehouse::acme
