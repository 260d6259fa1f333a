#include "acme/storage/disk.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/encoding.hpp"
#include "base/log.hpp"
#include "tls/digest.hpp"

namespace gatehouse::acme {

using base::Error;
using base::ErrorKind;
using base::Result;

namespace {

constexpr std::string_view layout_version = "1\n";
constexpr std::string_view checksum_mark = "#sha256 ";
constexpr size_t checksum_line = checksum_mark.size() + 64 + 1;
constexpr std::string_view list_of_sums = "SHA256SUMS";
constexpr std::string_view current_link = "current";
constexpr size_t path_max = 1024;
constexpr const char* collections[] = {"issuers",    "orders",   "certs",    "archive",
                                       "quarantine", "fallback", "internal", "on_demand",
                                       "index",      "custom",   "revoked"};

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int value() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

std::string_view way_out(int code) {
  switch (code) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return "free some space there, the write is tried again";
    case EACCES:
    case EPERM:
    case EROFS:
      return "make it readable and writable for the user gatehouse runs as, or set "
             "server.storage to another folder";
    case ENOTDIR:
      return "remove the file that is in the way, or set server.storage elsewhere";
    case EMFILE:
    case ENFILE:
      return "raise the limit of open files";
    default:
      return "check that disk";
  }
}

Error failure(int code, std::string_view doing, const std::string& path) {
  Error error = base::from_errno(code, fmt::format("storage: cannot {} {}", doing, path));
  if (code == ENOENT) return error;
  error.kind = ErrorKind::io;
  error.context += fmt::format(": {}", way_out(code));
  return error;
}

bool valid_part(std::string_view part) {
  if (part.empty() || part.size() > 255 || part.front() == '.') return false;
  return std::all_of(part.begin(), part.end(),
                     [](unsigned char c) { return c > 0x20 && c != 0x7f && c != '\\'; });
}

/// Relative, no "..", no hidden names: nothing outside the root can be named.
bool valid_path(std::string_view path) {
  if (path.empty() || path.size() > path_max) return false;
  for (size_t start = 0;;) {
    const size_t slash = path.find('/', start);
    if (!valid_part(path.substr(start, slash - start))) return false;
    if (slash == std::string_view::npos) return true;
    start = slash + 1;
  }
}

Error bad_path(const std::string& path) {
  return Error(ErrorKind::invalid, fmt::format("storage: '{}' is not a path inside it", path));
}

std::string parent_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::string() : path.substr(0, slash);
}

bool is_generation(std::string_view name) {
  return name.size() >= 8 && name.size() <= 18 &&
         std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
}

Result<void> sync_folder(const std::string& path) {
  const Descriptor folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder || ::fsync(folder.value()) != 0) return failure(errno, "sync the folder", path);
  return {};
}

/// A new file, written whole but not yet synced.
Result<Descriptor> write_new(const std::string& path, std::string_view bytes) {
  Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file) return failure(errno, "create", path);
  while (!bytes.empty()) {
    const ssize_t written = ::write(file.value(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return failure(written < 0 ? errno : EIO, "write", path);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return file;
}

Result<std::string> read_whole(const std::string& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  // Something else is where a folder above it should be.
  if (!file && errno == ENOTDIR)
    return Error(ErrorKind::corrupt, fmt::format("storage: {} is not a file of ours", path));
  if (!file) return failure(errno, "read", path);
  struct stat about {};
  if (::fstat(file.value(), &about) != 0) return failure(errno, "read", path);
  if (!S_ISREG(about.st_mode) || static_cast<size_t>(about.st_size) > stored_file_bytes_max)
    return Error(ErrorKind::corrupt, fmt::format("storage: {} is not a file of ours", path));
  std::string bytes(static_cast<size_t>(about.st_size), '\0');
  size_t filled = 0;
  while (filled < bytes.size()) {
    const ssize_t got = ::read(file.value(), bytes.data() + filled, bytes.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failure(errno, "read", path);
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  bytes.resize(filled);
  return bytes;
}

/// A last line that proves the rest whole: one file, so content and proof change together. PEM
/// readers and sha256sum skip it.
std::string with_checksum(const std::string& bytes) {
  std::string sealed = bytes;
  if (!bytes.ends_with('\n')) sealed += '\n';
  sealed += checksum_mark;
  sealed += base::hex(tls::sha256(bytes));
  sealed += '\n';
  return sealed;
}

/// The content, or nothing if it is not what was written.
std::optional<std::string> without_checksum(std::string sealed) {
  if (sealed.size() < checksum_line || !sealed.ends_with('\n')) return std::nullopt;
  const std::string line = sealed.substr(sealed.size() - checksum_line);
  if (!line.starts_with(checksum_mark)) return std::nullopt;
  const std::string wanted = line.substr(checksum_mark.size(), 64);
  sealed.resize(sealed.size() - checksum_line);
  if (base::hex(tls::sha256(sealed)) == wanted) return sealed;
  if (!sealed.ends_with('\n')) return std::nullopt;
  sealed.pop_back();
  if (base::hex(tls::sha256(sealed)) == wanted) return sealed;
  return std::nullopt;
}

Result<std::vector<std::string>> names_in(const std::string& path) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), &::closedir);
  if (!folder) {
    if (errno == ENOENT || errno == ENOTDIR) return names;
    return failure(errno, "list", path);
  }
  errno = 0;
  while (const dirent* entry = ::readdir(folder.get())) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  if (errno != 0) return failure(errno, "list", path);
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> generations_in(const std::string& path) {
  auto names = names_in(path);
  if (!names) return {};
  std::erase_if(*names, [](const std::string& name) { return !is_generation(name); });
  return std::move(*names);
}

std::string link_target(const std::string& path) {
  char target[64];
  const ssize_t size = ::readlink(path.c_str(), target, sizeof target);
  if (size <= 0) return {};
  std::string name(target, static_cast<size_t>(size));
  return is_generation(name) ? name : std::string();
}

}  // namespace

Disk::Disk(std::string root, Access access) : root_(std::move(root)), access_(access) {}

Disk::~Disk() {
  if (lock_ >= 0) ::close(lock_);
}

Result<std::unique_ptr<Disk>> Disk::open(std::string root, Access access) {
  while (root.size() > 1 && root.ends_with('/')) root.pop_back();
  std::unique_ptr<Disk> disk(new Disk(std::move(root), access));
  auto prepared = disk->prepare();
  if (!prepared) return prepared.error();
  return disk;
}

Result<void> Disk::prepare() {
  if (root_.empty()) return Error(ErrorKind::invalid, "storage: server.storage names no folder");
  if (access_ == Access::read_only) {
    if (::access(root_.c_str(), R_OK | X_OK) != 0) return failure(errno, "read", root_);
    return check_version();
  }
  std::error_code code;
  const auto above = std::filesystem::path(root_).parent_path();
  if (!above.empty()) std::filesystem::create_directories(above, code);
  if (code) return failure(code.value(), "create", above.string());
  const bool created = ::mkdir(root_.c_str(), 0700) == 0;
  if (!created && errno != EEXIST) return failure(errno, "create", root_);
  auto locked = take_lock();
  if (!locked) return locked;
  auto version = check_version();
  if (!version) return version;
  struct stat about {};
  if (::stat(root_.c_str(), &about) == 0 && (about.st_mode & 077) != 0) {
    // A folder shared with others (/tmp) is not ours to close; what we create in it is closed.
    if ((about.st_mode & S_ISVTX) != 0 || ::chmod(root_.c_str(), 0700) != 0)
      base::log::warn("storage: {} is open to other users (mode {:o}): choose a folder of its own",
                      root_, static_cast<unsigned>(about.st_mode & 07777));
  }
  // Made here, so that no write has to wait for another's folder to be durable.
  for (const char* name : collections)
    if (::mkdir(full(name).c_str(), 0700) != 0 && errno != EEXIST)
      return failure(errno, "create", full(name));
  // What a crash left half written was never acknowledged.
  std::filesystem::remove_all(full("tmp"), code);
  if (::mkdir(full("tmp").c_str(), 0700) != 0 && errno != EEXIST)
    return failure(errno, "create", full("tmp"));
  return sync_folder(root_);
}

Result<void> Disk::take_lock() {
  const std::string path = full("lock");
  lock_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (lock_ < 0) return failure(errno, "open", path);
  struct flock range {};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  if (::fcntl(lock_, F_OFD_SETLK, &range) != 0) {
    if (errno != EAGAIN && errno != EACCES) return failure(errno, "lock", path);
    char owner[24] = {};
    const ssize_t size = ::read(lock_, owner, sizeof owner - 1);
    const std::string process(owner, size > 0 ? static_cast<size_t>(size) : 0);
    return Error(ErrorKind::unavailable,
                 fmt::format("storage: {} is in use by another gatehouse (process {}): stop it, "
                             "or give this one a server.storage of its own",
                             root_, process.empty() ? "unknown" : process));
  }
  const std::string process = std::to_string(::getpid());
  // For people only: a failure (a full disk) takes nothing away.
  if (::ftruncate(lock_, 0) != 0 || ::pwrite(lock_, process.data(), process.size(), 0) < 0)
    base::log::debug("storage: cannot note the process in {}", path);
  return {};
}

Result<void> Disk::check_version() {
  const std::string path = full("VERSION");
  auto version = read_whole(path);
  if (version) {
    if (*version == layout_version) return {};
    return Error(ErrorKind::corrupt,
                 fmt::format("storage: {} does not say layout 1: use the gatehouse that wrote it, "
                             "or, if the file is damaged, write the line 1 into it",
                             path));
  }
  if (version.error().kind != ErrorKind::not_found) return version.error();
  if (access_ == Access::read_only)
    return Error(ErrorKind::not_found,
                 fmt::format("storage: {} holds no gatehouse storage", root_));
  const std::string temporary_path = full("VERSION.new");
  ::unlink(temporary_path.c_str());
  {
    auto file = write_new(temporary_path, layout_version);
    if (!file) return file.error();
    if (::fsync(file->value()) != 0) return failure(errno, "sync", temporary_path);
  }
  if (::rename(temporary_path.c_str(), path.c_str()) != 0) return failure(errno, "write", path);
  return sync_folder(root_);
}

Result<std::string> Disk::load(const std::string& path) {
  if (!valid_path(path)) return bad_path(path);
  auto sealed = read_whole(full(path));
  if (!sealed && sealed.error().kind != ErrorKind::corrupt) return sealed.error();
  if (sealed) {
    auto bytes = without_checksum(std::move(*sealed));
    if (bytes) return std::move(*bytes);
  }
  const std::string kept = quarantine(path);
  return Error(ErrorKind::corrupt, fmt::format("storage: {} is damaged{}", full(path), kept));
}

Result<void> Disk::store(const std::string& path, const std::string& bytes) {
  if (!valid_path(path)) return bad_path(path);
  if (bytes.size() > stored_file_bytes_max)
    return Error(ErrorKind::limit, fmt::format("storage: {} is too large", path));
  auto folder = make_folder(parent_of(path));
  if (!folder) return folder;
  const std::string fresh = temporary();
  auto written = [&]() -> Result<void> {
    auto file = write_new(fresh, with_checksum(bytes));
    if (!file) return file.error();
    if (::fsync(file->value()) != 0) return failure(errno, "sync", full(path));
    if (::rename(fresh.c_str(), full(path).c_str()) != 0)
      return failure(errno, "write", full(path));
    return sync_folder(full(parent_of(path)));
  }();
  if (!written) ::unlink(fresh.c_str());
  return written;
}

Result<void> Disk::store_set(const std::string& folder, const FileSet& files) {
  if (!valid_path(folder)) return bad_path(folder);
  if (files.empty() || files.size() > stored_set_files_max)
    return Error(ErrorKind::limit,
                 fmt::format("storage: {} would hold {} files", folder, files.size()));
  clear_the_way(folder);
  auto made = make_folder(folder);
  if (!made) return made;
  const std::string fresh = temporary();
  auto written = write_new_set(fresh, files);
  if (!written) {
    discard(fresh);
    return written;
  }
  const auto generations = generations_in(full(folder));
  const std::string previous = link_target(full(folder + "/" + std::string(current_link)));
  const uint64_t last =
      generations.empty() ? 0 : std::strtoull(generations.back().c_str(), nullptr, 10);
  const std::string generation = fmt::format("{:08}", last + 1);
  const std::string place = full(folder + "/" + generation);
  if (::rename(fresh.c_str(), place.c_str()) != 0) {
    const Error error = failure(errno, "write", place);
    discard(fresh);
    return error;
  }
  auto synced = sync_folder(full(folder));
  if (synced) synced = point_to(folder, generation);
  if (!synced) {
    discard(place);
    return synced;
  }
  prune(folder, generation, previous);
  return {};
}

Result<void> Disk::write_new_set(const std::string& fresh, const FileSet& files) {
  if (::mkdir(fresh.c_str(), 0700) != 0) return failure(errno, "create", fresh);
  std::string sums;
  for (const auto& [name, bytes] : files) {
    if (!valid_part(name) || name.find('/') != std::string::npos || name == list_of_sums ||
        bytes.size() > stored_file_bytes_max)
      return bad_path(name);
    sums += fmt::format("{}  {}\n", base::hex(tls::sha256(bytes)), name);
  }
  // All are written before the first is synced: the disk then does one piece of work.
  std::vector<Descriptor> open_files;
  for (const auto& [name, bytes] : files) {
    auto file = write_new(fresh + "/" + name, bytes);
    if (!file) return file.error();
    open_files.push_back(std::move(*file));
  }
  auto list = write_new(fresh + "/" + std::string(list_of_sums), with_checksum(sums));
  if (!list) return list.error();
  open_files.push_back(std::move(*list));
  for (const auto& file : open_files)
    if (::fsync(file.value()) != 0) return failure(errno, "sync a file in", fresh);
  return sync_folder(fresh);
}

Result<void> Disk::point_to(const std::string& folder, const std::string& generation) {
  const std::string fresh = temporary();
  const std::string link = full(folder + "/" + std::string(current_link));
  if (::symlink(generation.c_str(), fresh.c_str()) != 0) return failure(errno, "link", link);
  if (::rename(fresh.c_str(), link.c_str()) != 0) {
    const Error error = failure(errno, "link", link);
    ::unlink(fresh.c_str());
    return error;
  }
  return sync_folder(full(folder));
}

/// Keeps the generation in use and the one before it.
void Disk::prune(const std::string& folder, const std::string& current,
                 const std::string& previous) {
  for (const auto& generation : generations_in(full(folder)))
    if (generation != current && generation != previous) discard(full(folder + "/" + generation));
}

Result<FileSet> Disk::load_set(const std::string& folder) {
  if (!valid_path(folder)) return bad_path(folder);
  const std::string current = link_target(full(folder + "/" + std::string(current_link)));
  auto generations = generations_in(full(folder));
  std::reverse(generations.begin(), generations.end());
  // One newer than `current` was never acknowledged; without a `current`, the newest whole one.
  if (!current.empty())
    std::erase_if(generations, [&](const std::string& one) { return one > current; });
  std::optional<Error> unreadable;
  for (const auto& generation : generations) {
    auto files = read_generation(folder, generation);
    if (files) {
      // What could not be read now may be readable later: `current` stays with it.
      if (generation != current && access_ == Access::exclusive && !unreadable) {
        auto pointed = point_to(folder, generation);
        if (!pointed) base::log::warn("{}", pointed.error().context);
      }
      return files;
    }
    std::string kept;
    if (files.error().kind == ErrorKind::corrupt) {
      kept = quarantine(folder + "/" + generation);
    } else if (!unreadable) {
      unreadable = files.error();
    }
    base::log::warn("{}{}; the generation before it is used, if there is one",
                    files.error().context, kept);
  }
  if (unreadable) return *unreadable;
  return Error(ErrorKind::not_found, fmt::format("storage: {} holds nothing whole", full(folder)));
}

Result<FileSet> Disk::read_generation(const std::string& folder, const std::string& generation) {
  const std::string place = full(folder + "/" + generation);
  const auto damaged = [](const std::string& path) {
    return Error(ErrorKind::corrupt, fmt::format("storage: {} is damaged or missing", path));
  };
  const std::string list_path = place + "/" + std::string(list_of_sums);
  auto sealed = read_whole(list_path);
  if (!sealed && sealed.error().kind == ErrorKind::io) return sealed.error();
  if (!sealed) return damaged(list_path);
  const auto sums = without_checksum(std::move(*sealed));
  if (!sums) return damaged(list_path);
  FileSet files;
  for (size_t start = 0; start < sums->size();) {
    const size_t end = std::min(sums->find('\n', start), sums->size());
    const std::string line = sums->substr(start, end - start);
    start = end + 1;
    const std::string name = line.size() > 66 ? line.substr(66) : std::string();
    if (!valid_part(name) || files.size() == stored_set_files_max) return damaged(list_path);
    auto bytes = read_whole(place + "/" + name);
    if (!bytes && bytes.error().kind == ErrorKind::io) return bytes.error();
    if (!bytes || base::hex(tls::sha256(*bytes)) != line.substr(0, 64))
      return damaged(place + "/" + name);
    files.emplace(name, std::move(*bytes));
  }
  if (files.empty()) return damaged(list_path);
  return files;
}

Result<void> Disk::move(const std::string& from, const std::string& to) {
  if (!valid_path(from)) return bad_path(from);
  if (to.empty()) {
    discard(full(from));
    if (::access(full(from).c_str(), F_OK) == 0) return failure(errno, "remove", full(from));
    return {};
  }
  if (!valid_path(to)) return bad_path(to);
  auto made = make_folder(parent_of(to));
  if (!made) return made;
  if (::renameat2(AT_FDCWD, full(from).c_str(), AT_FDCWD, full(to).c_str(), RENAME_NOREPLACE) != 0)
    return failure(errno, fmt::format("move {} to", full(from)), full(to));
  auto synced = sync_folder(full(parent_of(to)));
  if (synced) synced = sync_folder(full(parent_of(from)));
  return synced;
}

Result<std::vector<std::string>> Disk::list(const std::string& folder) const {
  if (!valid_path(folder)) return bad_path(folder);
  return names_in(full(folder));
}

std::string Disk::current(const std::string& folder) const {
  if (!valid_path(folder)) return {};
  return link_target(full(folder + "/" + std::string(current_link)));
}

/// What is no folder where a set's folder should be is damage, and kept as such.
void Disk::clear_the_way(const std::string& folder) {
  struct stat about {};
  if (::lstat(full(folder).c_str(), &about) != 0 || S_ISDIR(about.st_mode)) return;
  base::log::warn("storage: {} is not a folder{}", full(folder), quarantine(folder));
}

Result<void> Disk::make_folder(const std::string& folder) {
  if (access_ == Access::read_only)
    return Error(ErrorKind::denied, fmt::format("storage: {} was opened for reading", root_));
  if (folder.empty() || ::access(full(folder).c_str(), F_OK) == 0) return {};
  auto above = make_folder(parent_of(folder));
  if (!above) return above;
  if (::mkdir(full(folder).c_str(), 0700) != 0 && errno != EEXIST)
    return failure(errno, "create", full(folder));
  return sync_folder(full(parent_of(folder)));
}

/// Moves it out of the way and says where to; beside a running gatehouse, leaves it.
std::string Disk::quarantine(const std::string& path) {
  if (access_ == Access::read_only) return {};
  if (!make_folder("quarantine")) return {};
  std::string flat = path;
  std::replace(flat.begin(), flat.end(), '/', '_');
  if (flat.size() > 240) flat.resize(240);
  for (unsigned attempt = 0; attempt < 1000; ++attempt) {
    const std::string to =
        full("quarantine/" + flat + (attempt == 0 ? std::string() : fmt::format("-{}", attempt)));
    if (::renameat2(AT_FDCWD, full(path).c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0)
      return fmt::format(" and was moved to {}", to);
    if (errno != EEXIST) return " and stays there";
  }
  discard(full(path));  // a thousand copies of the same damage teach nothing more
  return " and was removed";
}

/// Gone in one step for every reader, then piece by piece.
void Disk::discard(const std::string& path) {
  if (access_ == Access::read_only) return;
  std::error_code code;
  const std::string aside = temporary();
  const bool moved = ::rename(path.c_str(), aside.c_str()) == 0;
  std::filesystem::remove_all(moved ? aside : path, code);
  if (code) base::log::warn("storage: cannot remove {}: {}", path, code.message());
}

std::string Disk::temporary() {
  return full(fmt::format("tmp/{}", ++temporaries_));
}

}  // namespace gatehouse::acme
