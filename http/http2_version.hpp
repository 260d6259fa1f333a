// The version of the HTTP/2 library in use, for `gatehouse version`. Any thread.
#pragma once

#include <string>

namespace gatehouse::http {

/// "1.52.0": the library that runs, which may be newer than the one built against.
std::string http2_library_version();

}  // namespace gatehouse::http
