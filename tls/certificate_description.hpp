// A certificate in words for a person: its key, and each link of its chain.
//
// Does not check anything (Certificate::problem_for). Pure, any thread.
#pragma once

#include <string>
#include <vector>

#include "tls/certificate.hpp"

namespace gatehouse::tls {

struct ChainLink {
  std::string subject;  // the common name; for a leaf without one, its first name
  std::string issuer;
  base::WallClock::time_point not_before, not_after;
};

ChainLink chain_link(x509_st* certificate);

/// "P-256", "P-384", "RSA 2048".
std::string key_words(const Certificate& certificate);

/// The leaf first.
std::vector<ChainLink> chain_links(const Certificate& certificate);

}  // namespace gatehouse::tls
