#include "app/process.hpp"

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <malloc.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/log.hpp"

namespace gatehouse::app {

void prepare_process() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0)
      base::log::warn("cannot raise the limit of open files to {}", limit.rlim_max);
  }
  forbid_core_dumps();
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGCHLD, SIG_DFL);  // ignored by our parent, it would hide how our children ended
}

void forbid_core_dumps() {
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

void return_spare_memory() {
  ::malloc_trim(0);
}

base::Result<void> prepare_storage_folder(const std::string& folder, const base::Account* account) {
  std::error_code code;
  const bool existed = std::filesystem::exists(folder, code);
  if (!existed) {
    const auto parent = std::filesystem::path(folder).parent_path();
    if (!parent.empty()) std::filesystem::create_directories(parent, code);
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
      return base::from_errno(
          errno, fmt::format("server.storage: cannot create the folder {} (create it for this "
                             "user, or set server.storage to one that it may write)",
                             folder));
    }
  }
  struct stat status {};
  if (account == nullptr || ::lstat(folder.c_str(), &status) != 0 || status.st_uid != 0) return {};
  if (::lchown(folder.c_str(), account->user, account->group) != 0) {
    return base::from_errno(errno, fmt::format("server.storage: cannot give {} to the user '{}'",
                                               folder, account->name));
  }
  return {};
}

void hand_over_log(const std::string& path, const base::Account& account) {
  if (path == "stdout" || path == "stderr" || path == "off") return;
  const int file =
      ::open(path.c_str(),
             O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW, 0640);
  if (file < 0) return;
  // A link that the user made to a file of root's is not given away.
  struct stat status {};
  const bool ours = ::fstat(file, &status) == 0 && S_ISREG(status.st_mode) &&
                    status.st_nlink == 1 && status.st_uid == 0;
  if (ours && ::fchown(file, account.user, account.group) != 0)
    base::log::warn("cannot give the log {} to the user '{}'", path, account.name);
  ::close(file);
}

}  // namespace gatehouse::app
