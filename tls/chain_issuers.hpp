// Who signed the certificates of a chain: how the caller picks one of several chains.
//
// Does not verify anything (certificate). Pure, any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gatehouse::tls {

/// The issuers' common names in a PEM chain, leaf first, at most 16; an issuer without one is left
/// out, and text that is no certificate ends the list.
std::vector<std::string> chain_issuers(std::string_view chain_pem);

}  // namespace gatehouse::tls
