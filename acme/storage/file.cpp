#include "acme/storage/file.hpp"

#include <boost/asio/async_result.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace gatehouse::acme {

namespace asio = boost::asio;
using base::Result;

namespace {

/// Runs `work` in its lane and resumes where the caller runs.
template <class Lane, class R>
asio::awaitable<R> in_lane(Lane& lane, std::function<R()> work) {
  const auto home = co_await asio::this_coro::executor;
  auto initiate = [&lane, home, &work](auto handler) {
    asio::post(lane, [home, work = std::move(work), handler = std::move(handler)]() mutable {
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

FileStorage::FileStorage(std::unique_ptr<Disk> disk) : disk_(std::move(disk)) {
  for (size_t lane = 0; lane < lanes; ++lane)
    lanes_.push_back(boost::asio::make_strand(threads_.get_executor()));
}

/// By the folder's name in its collection: certs/NAME and archive/NAME share a lane.
FileStorage::Lane& FileStorage::lane_of(const std::string& path) {
  const size_t first = path.find('/');
  const size_t begin = first == std::string::npos ? 0 : first + 1;
  const std::string name = path.substr(begin, path.find('/', begin) - begin);
  return lanes_[std::hash<std::string>()(name) % lanes];
}

FileStorage::~FileStorage() {
  threads_.join();
}

asio::awaitable<Result<std::string>> FileStorage::load(std::string path) {
  std::function<Result<std::string>()> work = [this, path] { return disk_->load(path); };
  return in_lane(lane_of(path), std::move(work));
}

asio::awaitable<Result<void>> FileStorage::store(std::string path, std::string bytes) {
  std::function<Result<void>()> work = [this, path, bytes] { return disk_->store(path, bytes); };
  return in_lane(lane_of(path), std::move(work));
}

asio::awaitable<Result<void>> FileStorage::store_set(std::string folder, FileSet files) {
  std::function<Result<void>()> work = [this, folder, files] {
    return disk_->store_set(folder, files);
  };
  return in_lane(lane_of(folder), std::move(work));
}

asio::awaitable<Result<FileSet>> FileStorage::load_set(std::string folder) {
  std::function<Result<FileSet>()> work = [this, folder] { return disk_->load_set(folder); };
  return in_lane(lane_of(folder), std::move(work));
}

asio::awaitable<Result<void>> FileStorage::move(std::string from, std::string to) {
  std::function<Result<void>()> work = [this, from, to] { return disk_->move(from, to); };
  return in_lane(lane_of(from), std::move(work));
}

asio::awaitable<Result<std::vector<std::string>>> FileStorage::list(std::string folder) {
  std::function<Result<std::vector<std::string>>()> work = [this, folder] {
    return disk_->list(folder);
  };
  return in_lane(lane_of(folder), std::move(work));
}

asio::awaitable<std::vector<std::string>> FileStorage::current(std::vector<std::string> folders) {
  // Looks at links alone: in the lane of the first, the others' order does not matter.
  std::function<std::vector<std::string>()> work = [this, folders] {
    std::vector<std::string> generations;
    generations.reserve(folders.size());
    for (const auto& folder : folders) generations.push_back(disk_->current(folder));
    return generations;
  };
  return in_lane(lane_of(folders.empty() ? std::string() : folders.front()), std::move(work));
}

}  // namespace gatehouse::acme
