// Makes certificate keys without holding up the control thread: P-384 takes a millisecond, which
// many orders at once make a second, and RSA takes seconds.
//
// Does not store them (journal). Called on the control thread; works on a thread that all callers
// of one io_context share, and that ends before the io_context does.
#pragma once

#include <boost/asio/awaitable.hpp>

#include "base/error.hpp"
#include "config/snapshot.hpp"
#include "tls/certificate.hpp"

namespace gatehouse::acme {

boost::asio::awaitable<base::Result<tls::PrivateKey>> make_key(config::KeyType type);

}  // namespace gatehouse::acme
