// The version of the TLS library in use, for `gatehouse version`. Any thread.
#pragma once

#include <string>

namespace gatehouse::tls {

/// "3.0.17": the library that runs, which may be newer than the one built against.
std::string library_version();

}  // namespace gatehouse::tls
