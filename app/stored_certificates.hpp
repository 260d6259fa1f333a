// Certificates as they lie in a storage folder, for commands that work whether or not a gatehouse
// runs on it.
//
// Blocks; command line only. Never changes the storage. Tables for people: certificate_list.
#pragma once

#include <string>
#include <vector>

#include "acme/certificate_details.hpp"
#include "acme/manager.hpp"
#include "acme/storage/storage.hpp"
#include "base/error.hpp"

namespace gatehouse::app {

/// The certificates in a storage folder, by name. A damaged one is listed as such.
base::Result<std::vector<acme::CertificateStatus>> stored_certificates(const std::string& storage);

/// One of them. not_found: none of that name.
base::Result<acme::CertificateDetails> stored_details(const std::string& storage,
                                                      const std::string& name);

/// Its files: cert.pem, chain.pem, fullchain.pem and privkey.pem.
base::Result<acme::FileSet> stored_files(const std::string& storage, const std::string& name);

/// The root of gatehouse's own authority, PEM. not_found: it has not been needed yet.
base::Result<std::string> stored_root(const std::string& storage);

/// "there is no certificate for exmaple.com, did you mean 'example.com'?"
base::Error unknown_certificate(const std::string& name,
                                const std::vector<acme::CertificateStatus>& known);

}  // namespace gatehouse::app
