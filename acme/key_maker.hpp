// Makes certificate keys without holding up the control thread: P-384 takes a millisecond, which
// many orders at once make a second, and RSA takes seconds.
//
// Does not store them (journal). Used on the control thread; works on a thread of its own.
#pragma once

#include <memory>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/thread_pool.hpp>

#include "base/error.hpp"
#include "config/snapshot.hpp"
#include "tls/certificate.hpp"

namespace gatehouse::acme {

class KeyMaker {
 public:
  boost::asio::awaitable<base::Result<tls::PrivateKey>> make(config::KeyType type);

 private:
  std::unique_ptr<boost::asio::thread_pool> thread_;  // from the first key on that is not P-256
};

}  // namespace gatehouse::acme
