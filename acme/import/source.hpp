// What another ACME client has left on disk, as plain data: certificates with their keys, accounts,
// and what could not be read.
//
// Does not judge or store any of it (import). The readers block and are for the command line; what
// they read is hostile: a file that makes no sense becomes one line and the rest goes on.
#pragma once

#include <string>
#include <vector>

#include "tls/certificate.hpp"

namespace gatehouse::acme {

/// Which CA something belongs to, as far as the client has noted it.
struct CaTrace {
  std::string directory;  // URL of its ACME directory
  std::string host;       // "host[:port]" of any of its URLs, where the directory is not known
};

struct FoundCertificate {
  std::string from;  // the file, relative to the source, for messages
  std::string chain_pem;
  std::string key_pem;
  CaTrace ca;
};

struct FoundAccount {
  std::string from;
  tls::PrivateKey key;
  std::string url;    // at the CA; empty: not noted
  std::string email;  // empty: none, or not noted
  CaTrace ca;
  int users = 0;  // certificates that were obtained with it, where the client notes that
};

struct Findings {
  std::vector<FoundCertificate> certificates;
  std::vector<FoundAccount> accounts;
  std::vector<std::string> problems;  // each one line that names its file
};

/// Of one source; further ones are left, with a line.
inline constexpr size_t found_certificates_max = 100'000;
inline constexpr size_t found_accounts_max = 1'000;

}  // namespace gatehouse::acme
