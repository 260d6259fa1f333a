// What the DNS says of one name, for a person: its addresses, aliases, zone and CAA records.
//
// Does not judge (caa) and keeps nothing. Control thread.
#pragma once

#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "acme/dns/resolver.hpp"

namespace gatehouse::acme::dns {

struct Look {
  std::string name;                       // without "*."
  std::vector<std::string> aliases;       // the CNAMEs' targets, in order
  std::vector<std::string> ipv4, ipv6;    // addresses at the end of them
  std::string zone;                       // the zone that the name is in; empty: not known
  std::vector<std::string> name_servers;  // of that zone
  std::vector<Record> caa;                // the first set that is not empty, upwards from the name
  std::string caa_owner;                  // whose they are; empty: nobody's, so every CA may issue
  /// What could not be found out, each a sentence: "the AAAA records of a.example: no answer …".
  std::vector<std::string> problems;
};

/// Asks for all of it, within `time_max`. `name` may begin with "*.". The resolver outlives this.
boost::asio::awaitable<Look> look_at(Resolver& resolver, std::string name,
                                     std::chrono::milliseconds time_max);

}  // namespace gatehouse::acme::dns
