// Storage in a folder of the local disk: the Disk on threads of its own.
//
// Not the layout or the guarantees of the files (disk). Called on the control thread; every call
// resumes on the executor it was made from, which outlives the object. Calls for one folder are
// done one at a time, in their order; those for different certificates side by side, because the
// disk syncs them together.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>

#include "acme/storage/disk.hpp"
#include "acme/storage/storage.hpp"

namespace gatehouse::acme {

class FileStorage final : public Storage {
 public:
  /// Blocks; at start. The folder is locked for this process until the object ends
  /// (Disk::Access::exclusive), or opened beside a running gatehouse (read_only).
  static base::Result<std::unique_ptr<FileStorage>> open(
      std::string root, Disk::Access access = Disk::Access::exclusive);
  /// Finishes what was asked for.
  ~FileStorage() override;

  boost::asio::awaitable<base::Result<std::string>> load(std::string path) override;
  boost::asio::awaitable<base::Result<void>> store(std::string path, std::string bytes) override;
  boost::asio::awaitable<base::Result<void>> store_set(std::string folder, FileSet files) override;
  boost::asio::awaitable<base::Result<FileSet>> load_set(std::string folder) override;
  boost::asio::awaitable<base::Result<void>> move(std::string from, std::string to) override;
  boost::asio::awaitable<base::Result<std::vector<std::string>>> list(std::string folder) override;
  boost::asio::awaitable<std::vector<std::string>> current(
      std::vector<std::string> folders) override;

 private:
  explicit FileStorage(std::unique_ptr<Disk> disk);

  using Lane = boost::asio::strand<boost::asio::thread_pool::executor_type>;
  Lane& lane_of(const std::string& path);

  static constexpr size_t threads = 8;
  static constexpr size_t lanes = 64;
  std::unique_ptr<Disk> disk_;
  boost::asio::thread_pool threads_{threads};
  std::vector<Lane> lanes_;
};

}  // namespace gatehouse::acme
