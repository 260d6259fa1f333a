// A certificate's files written to a folder of the user's.
//
// Does not choose what is written (certificate_commands). Blocks; command line only.
#pragma once

#include <string>
#include <vector>

#include "acme/storage/storage.hpp"
#include "base/error.hpp"

namespace gatehouse::app {

/// cert.pem, chain.pem, fullchain.pem (0644) and privkey.pem (0600) in `folder`, made (0700) if it
/// is not there; each file whole or not at all, an old one replaced only with `replace`. Returns
/// the paths.
base::Result<std::vector<std::string>> write_certificate(const acme::FileSet& files,
                                                         const std::string& folder, bool replace);

}  // namespace gatehouse::app
