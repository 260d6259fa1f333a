// The sections about certificates: [acme], [ca.NAME], [on_demand]. Control thread.
#pragma once

#include <optional>
#include <string_view>

#include "config/draft.hpp"
#include "config/reader.hpp"

namespace gatehouse::config {

/// Reads those sections that `root` has into the draft. Names in acme.ca are resolved later, by
/// check(): [ca.NAME] may stand in another file.
void parse_acme_sections(Reader& root, Draft& draft);

/// letsencrypt, letsencrypt-staging, zerossl, google, internal (which has no directory).
std::optional<CertificateAuthority> built_in_authority(std::string_view name);

/// "https://host[:port]/path". Empty: well; otherwise what is wrong.
std::string url_problem(std::string_view url, bool plain_http_allowed);

}  // namespace gatehouse::config
