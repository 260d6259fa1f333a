#include "acme/storage/file.hpp"

#include <boost/asio/async_result.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace gatehouse::acme {

namespace asio = boost::asio;
using base::Result;

namespace {

/// Runs `work` on the storage thread and resumes where the caller runs.
template <class R>
asio::awaitable<R> on_thread(asio::thread_pool& thread, std::function<R()> work) {
  const auto home = co_await asio::this_coro::executor;
  auto initiate = [&thread, home, &work](auto handler) {
    asio::post(thread, [home, work = std::move(work), handler = std::move(handler)]() mutable {
      R result = work();
      asio::post(home, [result = std::move(result), handler = std::move(handler)]() mutable {
        std::move(handler)(std::move(result));
      });
    });
  };
  R result = co_await asio::async_initiate<const asio::use_awaitable_t<>, void(R)>(
      std::move(initiate), asio::use_awaitable);
  co_return result;
}

}  // namespace

Result<std::unique_ptr<FileStorage>> FileStorage::open(std::string root, Disk::Access access) {
  auto disk = Disk::open(std::move(root), access);
  if (!disk) return disk.error();
  return std::unique_ptr<FileStorage>(new FileStorage(std::move(*disk)));
}

FileStorage::FileStorage(std::unique_ptr<Disk> disk) : disk_(std::move(disk)) {}

FileStorage::~FileStorage() {
  thread_.join();
}

asio::awaitable<Result<std::string>> FileStorage::load(std::string path) {
  std::function<Result<std::string>()> work = [this, path] { return disk_->load(path); };
  return on_thread(thread_, std::move(work));
}

asio::awaitable<Result<void>> FileStorage::store(std::string path, std::string bytes) {
  std::function<Result<void>()> work = [this, path, bytes] { return disk_->store(path, bytes); };
  return on_thread(thread_, std::move(work));
}

asio::awaitable<Result<void>> FileStorage::store_set(std::string folder, FileSet files) {
  std::function<Result<void>()> work = [this, folder, files] {
    return disk_->store_set(folder, files);
  };
  return on_thread(thread_, std::move(work));
}

asio::awaitable<Result<FileSet>> FileStorage::load_set(std::string folder) {
  std::function<Result<FileSet>()> work = [this, folder] { return disk_->load_set(folder); };
  return on_thread(thread_, std::move(work));
}

asio::awaitable<Result<void>> FileStorage::move(std::string from, std::string to) {
  std::function<Result<void>()> work = [this, from, to] { return disk_->move(from, to); };
  return on_thread(thread_, std::move(work));
}

asio::awaitable<Result<std::vector<std::string>>> FileStorage::list(std::string folder) {
  std::function<Result<std::vector<std::string>>()> work = [this, folder] {
    return disk_->list(folder);
  };
  return on_thread(thread_, std::move(work));
}

}  // namespace gatehouse::acme
