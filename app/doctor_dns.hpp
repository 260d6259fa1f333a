// What the DNS says of a host, for `gatehouse doctor`: addresses, aliases, and which CAs its CAA
// records let issue.
//
// Does not judge the whole (diagnosis). Blocks; command line only.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "app/diagnosis.hpp"
#include "config/snapshot.hpp"

namespace gatehouse::app {

/// Fills in what concerns the DNS and CAA; returns the host's addresses, as its resolvers have
/// them, or else as this machine does, its hosts file included. `snapshot` may be null.
std::vector<std::string> look_at_dns(Findings& findings, const config::SnapshotPtr& snapshot);

/// The same for CAA alone, for a host whose address was given.
void look_at_caa(Findings& findings, const config::SnapshotPtr& snapshot);

/// Of its network interfaces; behind NAT none of them is the public one.
std::set<std::string> addresses_of_this_machine();

}  // namespace gatehouse::app
