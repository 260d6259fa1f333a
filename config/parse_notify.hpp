// The section [notify]: who is told of what happens to certificates, and how. Control thread.
#pragma once

#include "config/draft.hpp"
#include "config/reader.hpp"

namespace gatehouse::config {

/// Reads it into the draft, if `root` has it.
void parse_notify_section(Reader& root, Draft& draft);

}  // namespace gatehouse::config
