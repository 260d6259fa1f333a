// Asks the resolvers of this machine, or those of the configuration, for records.
//
// Does not cache (caa_check) and is no recursive resolver itself: whom it asks must be one. Control
// thread: it runs on the io_context of the coroutine that calls.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "acme/dns/message.hpp"
#include "base/clock.hpp"
#include "base/error.hpp"
#include "config/snapshot.hpp"

namespace gatehouse::acme::dns {

/// What there is of one type at a name, after its CNAMEs were followed.
struct Lookup {
  std::vector<Record> records;       // of the type asked for; empty: there are none
  std::vector<std::string> aliases;  // the targets of the CNAMEs on the way, in order
  std::string owner;                 // the name asked for, or the last alias
  bool exists = true;                // false: there is no such name (NXDOMAIN)
  std::string zone;                  // from the SOA that comes with "there are none"; may be empty
};

struct ResolverSettings {
  std::vector<config::NameServer> servers;  // empty: those of `resolv_conf`, read for each lookup
  std::string resolv_conf = "/etc/resolv.conf";
  std::chrono::milliseconds try_time{2000};  // for one question to one server
};

class Resolver {
 public:
  explicit Resolver(ResolverSettings settings);

  /// Asks each server in turn, in two rounds; TCP where UDP is too small. A server that refuses or
  /// fails is not asked again. Names are not completed by a search list. At most 64 at a time.
  /// Errors, none of which says that the records are not there: timeout (no server answered in
  /// time), refused (nobody listens), unavailable (SERVFAIL, REFUSED and the like), protocol
  /// (a loop of CNAMEs), limit, invalid (no domain name).
  boost::asio::awaitable<base::Result<Lookup>> look_up(std::string name, Type type,
                                                       base::Monotonic::time_point deadline);

 private:
  boost::asio::awaitable<base::Result<Answer>> ask(Question question,
                                                   base::Monotonic::time_point deadline);

  ResolverSettings settings_;
  size_t running_ = 0;
  size_t first_ = 0;  // the server that answered last is asked first
};

/// The servers that a resolv.conf names, at most 3 as with glibc; without any, 127.0.0.1.
std::vector<config::NameServer> servers_of(std::string_view resolv_conf);

/// "10.0.0.53", "[::1]:5353".
std::string spoken(const config::NameServer& server);

}  // namespace gatehouse::acme::dns
