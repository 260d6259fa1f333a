// From root to an ordinary user, for good, once the sockets are bound.
//
// Not a way to switch back and forth: nothing of root's is kept. Control thread, at start-up; the
// change reaches every thread of the process.
#pragma once

#include <string>
#include <sys/types.h>

#include "base/error.hpp"

namespace gatehouse::base {

struct Account {
  std::string name;
  uid_t user = 0;
  gid_t group = 0;
};

bool running_as_root();

/// Looks the user up. Errors name it and the setting that asked for it.
Result<Account> find_account(const std::string& name);

/// Takes the account's groups, group and user, and makes sure that there is no way back. A failure
/// may leave the process half changed: the caller ends.
Result<void> drop_privileges(const Account& account);

}  // namespace gatehouse::base
