// A snapshot in words: what `gatehouse check` prints when the configuration is well.
//
// Not a dump of every setting, and never a secret. Pure, any thread.
#pragma once

#include <string>

#include "config/snapshot.hpp"

namespace gatehouse::config {

/// For people: listeners, storage, authority, sites and where their requests go. Several lines,
/// each ended; long lists are cut with "and N more".
std::string describe(const Snapshot& snapshot);

/// For programs: one JSON object with every site, host and upstream, on one line without its end.
std::string describe_json(const Snapshot& snapshot);

}  // namespace gatehouse::config
