// lego's folder (--path): certificates/ and accounts/.
//
// Reads only; does not judge or store (import). Blocks; command line only.
#pragma once

#include <string>

#include "acme/import/source.hpp"
#include "base/error.hpp"

namespace gatehouse::acme {

/// `path`: the folder itself: ./.lego by default. An error only if nothing can be read at all.
base::Result<Findings> read_lego(const std::string& path);

}  // namespace gatehouse::acme
