// The authority part of a target or a Host field: "host:port" (RFC 3986 section 3.2). Pure, any
// thread.
//
// Not resolution, and no user information: an authority that holds any is not valid here.
#pragma once

#include <string_view>

namespace gatehouse::http {

/// The host in front of the port, an IPv6 literal with its brackets; empty: not a valid authority.
std::string_view host_of(std::string_view authority);

}  // namespace gatehouse::http
