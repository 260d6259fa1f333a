// The authority part of a target or a Host field: "host:port" (RFC 3986 section 3.2). Pure, any
// thread.
//
// Not resolution, and no user information: an authority that holds any is not valid here.
#pragma once

#include <string_view>

#include "http/message.hpp"

namespace gatehouse::http {

/// The host in front of the port as names are compared (RFC 9110 section 7.2): in lower case,
/// without a final dot, an IPv6 literal with its brackets. A view of `authority`, or of `owned` if
/// it had to be made. Empty: not a valid authority.
std::string_view host_name(std::string_view authority, OwnedText& owned);

}  // namespace gatehouse::http
