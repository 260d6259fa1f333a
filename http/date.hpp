// The time as HTTP messages write it (RFC 9110 section 5.6.7).
#pragma once

#include <string_view>

namespace gatehouse::http {

/// Now, in GMT and to the second. Made once a second on each thread; the view stays valid there,
/// and what it shows follows the calls.
std::string_view date_now();

}  // namespace gatehouse::http
