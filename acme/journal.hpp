// The journal of running orders: what a restart needs in order to go on instead of ordering twice.
//
// Does not talk to the CA (issuer). `orders/<id>/{order.json,key.pem}`: the intent (names and key)
// is written before the order is placed, its URL right after. Control thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "acme/storage/storage.hpp"
#include "acme/times.hpp"
#include "base/error.hpp"
#include "tls/certificate.hpp"

namespace gatehouse::acme {

struct JournalEntry {
  std::string directory;  // the CA's, which also names it
  std::vector<std::string> names;
  std::string order;  // its URL; empty: only the intent was written
  WallTime created;
  std::optional<tls::PrivateKey> key;  // of the certificate; none: it was damaged
};

class Journal {
 public:
  /// Outlived by `storage`.
  explicit Journal(Storage& storage);

  /// What is known of `id`: from memory if this process ordered it, else from storage. Damaged or
  /// foreign text is an intent of unknown content: none, with `doubtful` set.
  struct Found {
    std::optional<JournalEntry> entry;
    bool doubtful = false;
  };
  boost::asio::awaitable<base::Result<Found>> find(const std::string& id);

  /// Before the order: must succeed.
  boost::asio::awaitable<base::Result<void>> write_intent(const std::string& id,
                                                          JournalEntry entry);
  /// Right after it. Memory holds it even if the disk does not take it: the order exists by now.
  boost::asio::awaitable<base::Result<void>> write_order(const std::string& id,
                                                         const std::string& url);
  boost::asio::awaitable<void> drop(const std::string& id);

 private:
  Storage& storage_;
  std::map<std::string, JournalEntry> running_;
};

/// The directory of the CA that a journalled order is at; empty: none is, or it cannot be told.
boost::asio::awaitable<std::string> journalled_directory(Storage& storage, std::string id);

}  // namespace gatehouse::acme
