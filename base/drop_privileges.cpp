#include "base/drop_privileges.hpp"

#include <cerrno>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <vector>

#include <fmt/format.h>

namespace gatehouse::base {

namespace {

constexpr size_t account_bytes_max = 1024 * 1024;

Error failure(std::string_view step, const Account& account) {
  return from_errno(
      errno, fmt::format("cannot become the user '{}' of server.user ({})", account.name, step));
}

}  // namespace

bool running_as_root() {
  return ::geteuid() == 0;
}

Result<Account> find_account(const std::string& name) {
  passwd entry{};
  passwd* found = nullptr;
  std::vector<char> buffer(4096);
  int code = ::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  while (code == ERANGE && buffer.size() < account_bytes_max) {
    buffer.resize(buffer.size() * 2);
    code = ::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  }
  if (found == nullptr) {
    return Error(ErrorKind::not_found,
                 fmt::format("server.user: there is no user '{}' on this machine; create it with "
                             "'useradd --system {}' or leave server.user empty",
                             name, name),
                 code);
  }
  if (entry.pw_uid == 0) {
    return Error(ErrorKind::invalid,
                 fmt::format("server.user: '{}' is root itself; name an ordinary user or leave "
                             "server.user empty",
                             name));
  }
  Account account;
  account.name = name;
  account.user = entry.pw_uid;
  account.group = entry.pw_gid;
  return account;
}

Result<void> drop_privileges(const Account& account) {
  if (::initgroups(account.name.c_str(), account.group) != 0) return failure("initgroups", account);
  if (::setresgid(account.group, account.group, account.group) != 0)
    return failure("setgid", account);
  if (::setresuid(account.user, account.user, account.user) != 0) return failure("setuid", account);
  if (::setuid(0) == 0 || ::setgid(0) == 0) {
    return Error(ErrorKind::denied,
                 fmt::format("cannot become the user '{}' of server.user: root's rights remain",
                             account.name));
  }
  // A program that this one might start cannot regain them either.
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return failure("no_new_privs", account);
  return {};
}

}  // namespace gatehouse::base
