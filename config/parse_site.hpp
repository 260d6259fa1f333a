// [[site]]: a site's hosts, certificates and policies; its routes are parse_route's. Control
// thread.
#pragma once

#include <string>

#include "config/draft.hpp"
#include "config/reader.hpp"

namespace gatehouse::config {

/// Reads every [[site]] of `root` into the draft. What depends on other sections or files
/// (upstreams, duplicate hosts, listeners) is checked later, by check().
void parse_sites(Reader& root, Draft& draft);

/// { set = {}, add = {}, remove = [] }
void parse_field_changes(Reader& reader, std::string_view key, FieldChanges& target);

/// A file that must come together with its key file.
void parse_certificate_files(Reader& reader, std::string_view certificate_key,
                             std::string_view key_key, std::string& certificate, std::string& key);

}  // namespace gatehouse::config
