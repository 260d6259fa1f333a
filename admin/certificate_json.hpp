// Certificates and CAs as the admin interface's JSON, which the command line reads too.
//
// Times are RFC 3339 text, unknown values null. Never a private key. Pure, any thread.
#pragma once

#include <string>
#include <vector>

#include <boost/json.hpp>

#include "acme/certificate_details.hpp"
#include "acme/manager.hpp"

namespace gatehouse::admin {

/// Null for the epoch, which stands for "unknown".
boost::json::value moment_json(std::chrono::system_clock::time_point time);
boost::json::value text_or_null(const std::string& text);

/// `{"certificates":[…]}`
std::string certificates_json(const std::vector<acme::CertificateStatus>& certificates);
/// One certificate: the members of the list, and more.
std::string details_json(const acme::CertificateDetails& details);
/// `{"authorities":[…]}`
std::string authorities_json(const std::vector<acme::BudgetStatus>& authorities);

}  // namespace gatehouse::admin
