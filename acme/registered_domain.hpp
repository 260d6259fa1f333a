// The registered domain of a name by the public suffix list (libpsl): "example.co.uk" of
// "a.b.example.co.uk". What CAs and our own limits count by. Pure, any thread.
#pragma once

#include <string>
#include <string_view>

namespace gatehouse::acme {

/// `name` in lower case, also "*.x". A public suffix, a single label or an address is its own.
std::string registered_domain(std::string_view name);

}  // namespace gatehouse::acme
