// Caddy's data folder: certificates/ and acme/ (CertMagic's file storage).
//
// Reads only; does not judge or store (import). Blocks; command line only.
#pragma once

#include <string>

#include "acme/import/source.hpp"
#include "base/error.hpp"

namespace gatehouse::acme {

/// `path`: the data folder: /var/lib/caddy/.local/share/caddy, or ~/.local/share/caddy. An error
/// only if nothing can be read at all.
base::Result<Findings> read_caddy(const std::string& path);

}  // namespace gatehouse::acme
