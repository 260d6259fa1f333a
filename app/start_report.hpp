// The first lines of the log: what runs, where it listens, what it serves.
#pragma once

#include <string>
#include <vector>

#include "acme/manager.hpp"
#include "config/snapshot.hpp"

namespace gatehouse::app {

void report_start(const config::Snapshot& snapshot, const std::string& source, size_t workers,
                  const std::vector<acme::CertificateStatus>& certificates);

}  // namespace gatehouse::app
