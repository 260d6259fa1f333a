// `gatehouse certs list`: from the running gatehouse, or from its storage when none runs.
//
// Blocks; command line only. Never changes the storage.
#pragma once

#include <string>
#include <vector>

#include "acme/manager.hpp"
#include "base/error.hpp"

namespace gatehouse::app {

/// The certificates in a storage folder, by name. A damaged one is listed as such.
base::Result<std::vector<acme::CertificateStatus>> stored_certificates(const std::string& storage);

/// A table for people, from the JSON that admin::certificates_json() writes.
base::Result<std::string> certificate_table(const std::string& json);

}  // namespace gatehouse::app
