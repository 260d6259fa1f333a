// [upstream.NAME]: a group of servers, and the group that a plain address stands for.
// Control thread.
#pragma once

#include <string>

#include "config/draft.hpp"
#include "config/reader.hpp"

namespace gatehouse::config {

/// Reads every [upstream.NAME] of `root` into the draft.
void parse_upstreams(Reader& root, Draft& draft);

/// The group of one server that an address in a site or route stands for.
Parsed<Upstream> upstream_of_address(const std::string& text);

}  // namespace gatehouse::config
