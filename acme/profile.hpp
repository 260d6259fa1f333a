// Which of a CA's profiles a certificate is ordered under (the profiles extension of ACME).
//
// Does not order (issuer). Control thread.
#pragma once

#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "acme/transport.hpp"

namespace gatehouse::acme {

/// The configured one; for addresses, if none is configured, the one that Let's Encrypt certifies
/// them under, where the CA has that; else empty. Fails, before anything is ordered, if the CA does
/// not have the one that is required.
boost::asio::awaitable<Outcome<std::string>> choose_profile(Transport& transport,
                                                            const std::vector<std::string>& names,
                                                            const Errand& errand);

}  // namespace gatehouse::acme
