// All that is known of one name, for a person who asks: plain data.
//
// Not what the manager works with (manager_state). Any thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "acme/budget.hpp"
#include "acme/manager.hpp"
#include "acme/schedule.hpp"
#include "acme/storage/storage.hpp"
#include "acme/vault.hpp"
#include "tls/certificate_description.hpp"

namespace gatehouse::acme {

/// What the limits of one CA leave for a name.
struct NameBudget {
  std::string authority;
  bool answers = true;  // false: its breaker is open
  BudgetLeft left;
  base::WallClock::time_point ready_at{};  // epoch: now
};

struct CertificateDetails {
  CertificateStatus status;
  std::string authority;  // the CA's name in the configuration
  std::vector<std::string> names;
  std::string key;          // "P-256"
  std::string fingerprint;  // SHA-256, hexadecimal
  std::vector<tls::ChainLink> chain;
  std::optional<RenewalWindow> window;  // suggested by the CA (RFC 9773)
  std::string explanation;              // why, a URL of the CA's; empty: it says nothing
  unsigned failures = 0;                // in a row
  unsigned orders_today = 0;            // in the last 24 hours, since the start
  std::vector<NameBudget> budgets;
  std::string previous_generation;  // kept for rollback; empty: none
};

/// What a certificate says of itself, in the details of its name.
void describe(CertificateDetails& details, const tls::Certificate& certificate);

/// Where the certificate of that id may be kept, the first that is served first: the user's own
/// from the admin interface, a CA's, the internal authority's.
std::vector<std::string> stored_places(const std::string& id);

/// The certificate of one folder of the storage, its current generation.
boost::asio::awaitable<base::Result<StoredCertificate>> read_place(Storage& storage,
                                                                   std::string place);

/// Of the names in such a folder, the generation before the current one; empty: there is none.
std::string previous_generation(std::vector<std::string> places);

/// The details from storage alone, for the command line when no gatehouse runs. not_found: none.
boost::asio::awaitable<base::Result<CertificateDetails>> read_details(Storage& storage,
                                                                      std::string name);

}  // namespace gatehouse::acme
