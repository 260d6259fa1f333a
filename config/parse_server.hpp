// The sections about the process itself: [server], [log], [timeouts], [limits]. Control thread.
#pragma once

#include "config/draft.hpp"
#include "config/reader.hpp"

namespace gatehouse::config {

/// Reads those of the four sections that `root` has into the draft.
void parse_server_sections(Reader& root, Draft& draft);

}  // namespace gatehouse::config
