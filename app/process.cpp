#include "app/process.hpp"

#include <cerrno>
#include <csignal>
#include <filesystem>
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
}

void forbid_core_dumps() {
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
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

}  // namespace gatehouse::app
