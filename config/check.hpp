// What can only be judged when every file is read: names that must exist, hosts that must be
// unique, sites that need a listener or an authority.
//
// Does not read TOML. Control thread.
#pragma once

#include "config/draft.hpp"

namespace gatehouse::config {

/// Fills in defaults and resolves names in draft.snapshot; every mistake goes to draft.findings.
void check(Draft& draft);

}  // namespace gatehouse::config
