// The process as the operating system sees it: limits, core dumps, signals, folders handed over.
//
// Control thread, at start-up.
#pragma once

#include <string>

#include "base/drop_privileges.hpp"
#include "base/error.hpp"

namespace gatehouse::app {

/// As many descriptors as may be had, no core dump (it would hold private keys), no SIGPIPE.
void prepare_process();

/// Core dumps off, again: changing the user turns them on.
void forbid_core_dumps();

/// Gives back to the kernel what a large configuration needed only while it was read.
void return_spare_memory();

/// Creates the storage folder (0700) if it is missing. With `account`, gives it to that user if it
/// is root's; what lies in it is left as it is.
base::Result<void> prepare_storage_folder(const std::string& folder, const base::Account* account);

/// Creates a log file and gives it to the user that is about to write it, if it is root's. "stdout"
/// and the like are left alone; what fails here is told by whoever opens the log.
void hand_over_log(const std::string& path, const base::Account& account);

}  // namespace gatehouse::app
