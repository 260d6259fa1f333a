#include "app/certificate_export.hpp"

#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>

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

/// Aside first, then in its place in one step.
Result<void> write_file(const std::string& path, std::string_view bytes, mode_t mode,
                        bool replace) {
  const std::string aside = fmt::format("{}.{}", path, ::getpid());
  const int file =
      ::open(aside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
  if (file < 0) return base::from_errno(errno, fmt::format("cannot write {}", path));
  bool well = write_all(file, bytes) && ::fchmod(file, mode) == 0 && ::fsync(file) == 0;
  int code = errno;
  ::close(file);
  if (well) {
    well = ::renameat2(AT_FDCWD, aside.c_str(), AT_FDCWD, path.c_str(),
                       replace ? 0 : RENAME_NOREPLACE) == 0;
    code = errno;
  }
  if (well) return {};
  ::unlink(aside.c_str());
  if (code == EEXIST) return exists(path);
  return base::from_errno(code, fmt::format("cannot write {}", path));
}

}  // namespace

Result<std::vector<std::string>> write_certificate(const acme::FileSet& files,
                                                   const std::string& folder, bool replace) {
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return base::from_errno(errno, fmt::format("cannot make the folder {}", folder));
  std::vector<std::string> paths;
  struct stat status {};
  for (const Part& part : parts) {
    paths.push_back(folder + "/" + part.name);
    if (!files.contains(part.name))
      return Error(ErrorKind::corrupt, fmt::format("the storage has no {} of it", part.name));
    if (!replace && ::lstat(paths.back().c_str(), &status) == 0) return exists(paths.back());
  }
  for (size_t i = 0; i < paths.size(); ++i) {
    auto written = write_file(paths[i], files.at(parts[i].name), parts[i].mode, replace);
    if (!written) return written.error();
  }
  return paths;
}

}  // namespace gatehouse::app
