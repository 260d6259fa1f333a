#include "base/drop_privileges.hpp"

#include <grp.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <catch2/catch.hpp>

using namespace gatehouse::base;

namespace {

// In a child: what is dropped does not come back. The exit status says which check failed.
int drop_in_child() {
  const auto account = find_account("nobody");
  if (!account) return 1;
  bool thread_dropped = false;
  std::atomic<bool> dropped{false};
  std::thread other([&] {
    while (!dropped.load()) std::this_thread::yield();
    thread_dropped = ::geteuid() == account->user;
  });
  const auto outcome = drop_privileges(*account);
  dropped.store(true);
  other.join();
  if (!outcome) return 2;
  if (!thread_dropped) return 3;
  if (::getuid() != account->user || ::getegid() != account->group) return 4;
  if (::setuid(0) == 0 || ::seteuid(0) == 0) return 5;
  if (::access("/etc/shadow", R_OK) == 0) return 6;
  gid_t groups[64];
  const int count = ::getgroups(64, groups);
  for (int i = 0; i < count; ++i)
    if (groups[i] == 0) return 7;
  return 0;
}

}  // namespace

TEST_CASE("A user that exists is found") {
  const auto account = find_account("nobody");
  REQUIRE(account.has_value());
  CHECK(account->name == "nobody");
  CHECK(account->user != 0);
}

TEST_CASE("An unknown user is named, with the way out") {
  const auto account = find_account("no-such-user-here");
  REQUIRE(account.has_error());
  CHECK(account.error().context.find("no-such-user-here") != std::string::npos);
  CHECK(account.error().context.find("useradd") != std::string::npos);
}

TEST_CASE("Root is no user to drop to") {
  CHECK(find_account("root").has_error());
}

TEST_CASE("An empty name and a hostile one are no users") {
  CHECK(find_account("").has_error());
  CHECK(find_account(std::string(100'000, 'x')).has_error());
}

TEST_CASE("Dropped privileges are gone for good, in every thread") {
  if (!running_as_root()) return;
  const pid_t child = ::fork();
  if (child == 0) ::_exit(drop_in_child());
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("Without the right to change users, dropping fails and names the user") {
  if (running_as_root()) return;
  Account account;
  account.name = "daemon";
  account.user = 1;
  account.group = 1;
  const auto outcome = drop_privileges(account);
  REQUIRE(outcome.has_error());
  CHECK(outcome.error().context.find("'daemon'") != std::string::npos);
}
