// The first lines of the log: what runs, where it listens, what it serves.
#pragma once

#include <map>
#include <string>

#include "config/snapshot.hpp"

namespace gatehouse::app {

void report_start(const config::Snapshot& snapshot, const std::string& source, size_t workers,
                  const std::map<std::string, size_t>& certificates);

}  // namespace gatehouse::app
