// PEM files of the user's: read whole, with errors that name the file and the way out.
//
// Does not watch them (certificate_files). Blocks for the disk: control thread and command line.
#pragma once

#include <cstddef>
#include <string>

#include "base/error.hpp"
#include "tls/certificate.hpp"

namespace gatehouse::tls {

inline constexpr size_t pem_file_max = 1024 * 1024;

/// The text of a regular file of at most `pem_file_max` bytes. Cleanse it if it holds a key.
Result<std::string> read_pem_file(const std::string& path);

/// A certificate chain and its key, from two files or twice the same.
Result<CertificatePtr> load_certificate_pair(const std::string& certificate_path,
                                             const std::string& key_path);

}  // namespace gatehouse::tls
