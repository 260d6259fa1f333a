// Traefik's acme.json (versions 2 and 3): accounts and certificates of each resolver.
//
// Reads only; does not judge or store (import). Blocks; command line only.
#pragma once

#include <string>

#include "acme/import/source.hpp"
#include "base/error.hpp"

namespace gatehouse::acme {

/// `path`: the file itself. An error only if nothing can be read at all.
base::Result<Findings> read_traefik(const std::string& path);

}  // namespace gatehouse::acme
