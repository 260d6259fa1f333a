// `gatehouse certs import FROM`: takes over the certificates, keys and accounts of another client.
//
// Does not know the other clients' files (acme/import). Blocks; command line only.
#pragma once

#include <string>

#include "acme/import/import.hpp"
#include "base/error.hpp"
#include "config/snapshot.hpp"

namespace gatehouse::app {

/// `from`: "certbot:/etc/letsencrypt", "caddy:DIR", "traefik:acme.json" or "lego:DIR". The storage
/// must not be in use, except for a dry run, which changes nothing. As root the files are read as
/// root and written as the user that gatehouse runs as: for good, so nothing else follows.
/// `invalid`: not a source.
base::Result<acme::ImportReport> import_certificates(const std::string& from,
                                                     const config::Snapshot& snapshot,
                                                     bool dry_run);

std::string import_text(const acme::ImportReport& report, bool dry_run);
std::string import_json(const acme::ImportReport& report, bool dry_run);

}  // namespace gatehouse::app
