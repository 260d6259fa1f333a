#include "app/certificate_export.hpp"

#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

namespace gatehouse::app {

using base::Error;
using base::ErrorKind;
using base::Result;

namespace {

struct Part {
  const char* name;
  mode_t mode;
};

// The key last: who sees it finds the others whole.
constexpr Part parts[] = {
    {"cert.pem", 0644}, {"chain.pem", 0644}, {"fullchain.pem", 0644}, {"privkey.pem", 0600}};

bool write_all(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

Error exists(const std::string& path) {
  return Error(ErrorKind::denied,
               fmt::format("{} exists: choose another folder, or replace it with --force", path));
}

/// A file beside the place where it shall be, until it is put there; gone if it never is.
class Aside {
 public:
  explicit Aside(std::string path)
      : path_(std::move(path)), aside_(fmt::format("{}.{}", path_, ::getpid())) {}
  Aside(Aside&& other) noexcept
      : path_(std::move(other.path_)),
        aside_(std::move(other.aside_)),
        there_(std::exchange(other.there_, false)) {}
  Aside& operator=(Aside&&) = delete;
  ~Aside() {
    if (there_) ::unlink(aside_.c_str());
  }

  Result<void> write(std::string_view bytes, mode_t mode) {
    const int file =
        ::open(aside_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (file < 0) return base::from_errno(errno, fmt::format("cannot write {}", path_));
    there_ = true;
    const bool well = write_all(file, bytes) && ::fchmod(file, mode) == 0 && ::fsync(file) == 0;
    const int code = errno;
    ::close(file);
    if (well) return {};
    return base::from_errno(code, fmt::format("cannot write {}", path_));
  }

  Result<void> put(bool replace) {
    const unsigned how = replace ? 0 : RENAME_NOREPLACE;
    if (::renameat2(AT_FDCWD, aside_.c_str(), AT_FDCWD, path_.c_str(), how) == 0) {
      there_ = false;
      return {};
    }
    if (errno == EEXIST) return exists(path_);
    return base::from_errno(errno, fmt::format("cannot write {}", path_));
  }

 private:
  std::string path_, aside_;
  bool there_ = false;
};

}  // namespace

Result<std::vector<std::string>> write_certificate(const acme::FileSet& files,
                                                   const std::string& folder, bool replace) {
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return base::from_errno(errno, fmt::format("cannot make the folder '{}' (name one whose parent "
                                               "is there and may be written)",
                                               folder));
  std::vector<std::string> paths;
  struct stat status {};
  for (const Part& part : parts) {
    paths.push_back(folder + "/" + part.name);
    if (!files.contains(part.name))
      return Error(ErrorKind::corrupt, fmt::format("the storage has no {} of it", part.name));
    if (!replace && ::lstat(paths.back().c_str(), &status) == 0) return exists(paths.back());
  }
  // All of them before the first takes its place: a full disk leaves what was there, which fits
  // together.
  std::vector<Aside> asides;
  for (size_t i = 0; i < paths.size(); ++i) {
    asides.emplace_back(paths[i]);
    auto written = asides.back().write(files.at(parts[i].name), parts[i].mode);
    if (!written) return written.error();
  }
  for (Aside& aside : asides) {
    auto put = aside.put(replace);
    if (!put) return put.error();
  }
  return paths;
}

}  // namespace gatehouse::app
