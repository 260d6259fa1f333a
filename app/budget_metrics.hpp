// What the CAs' limits leave, as Prometheus gauges.
//
// Does not count anything (acme/budget) and is not among the fixed counters (base/metrics): which
// CAs there are is the configuration's. Labels are few: single domains and names are not among
// them. Pure, any thread.
#pragma once

#include <string>
#include <vector>

#include "acme/manager.hpp"

namespace gatehouse::app {

/// `certificate_budget_left{ca,limit}`: what may be taken at once of each limit of the account that
/// is counted, or used up. `certificate_budget_spent{ca,limit}`: how many domains, sets of names
/// and names have nothing left (of those that a report shows). Empty without CAs.
std::string budget_metrics(const std::vector<acme::BudgetStatus>& authorities);

}  // namespace gatehouse::app
