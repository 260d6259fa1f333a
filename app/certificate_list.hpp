// Certificates as text for people, from the JSON that the admin interface and the storage give.
//
// Does not ask anybody (certificate_commands). Pure.
#pragma once

#include <string>

#include "base/error.hpp"

namespace gatehouse::app {

/// A table, from the JSON that admin::certificates_json() writes.
base::Result<std::string> certificate_table(const std::string& json);

/// A sheet of one certificate, from the JSON that admin::details_json() writes.
base::Result<std::string> certificate_sheet(const std::string& json);

}  // namespace gatehouse::app
