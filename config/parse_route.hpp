// [[site.route]]: which requests, and what happens to them. Control thread.
#pragma once

#include <utility>

#include "config/draft.hpp"
#include "config/reader.hpp"

namespace gatehouse::config {

/// Reads and finishes one route. Its upstream is resolved later, by check().
std::pair<Route, RouteDraft> parse_route(Reader& reader);

/// "/exact", "/prefix/*" or "*": sets path and prefix.
Parsed<Route> parse_route_path(std::string_view text);

/// "308 https://other.example.com{uri}"; the status may be left out (308).
Parsed<Redirect> parse_redirect(std::string_view text);

/// "204", "503 down for maintenance".
Parsed<FixedResponse> parse_response(std::string_view text);

}  // namespace gatehouse::config
