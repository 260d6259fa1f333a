// Which site and which route a request belongs to. Immutable once built, shared by all workers.
//
// Does not forward, rewrite or answer: it only decides.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/ip/address.hpp>

#include "config/snapshot.hpp"
#include "http/message.hpp"

namespace gatehouse::proxy {

inline constexpr size_t no_upstream = SIZE_MAX;

struct RouteRules {
  const config::Route* settings = nullptr;
  std::string path;               // as requests' paths are compared: normalised
  size_t upstream = no_upstream;  // index into Router::upstream_names()
};

struct SiteRules {
  const config::Site* settings = nullptr;
  size_t upstream = no_upstream;
  std::vector<RouteRules> routes;
};

/// What to do with a request of a known site.
struct Decision {
  uint16_t refusal = 0;               // 400: the path cannot be routed; 404: no route; 0: go on
  const RouteRules* route = nullptr;  // null: the site's own upstream
  size_t upstream = no_upstream;      // none with a redirect or a fixed response
};

class Router {
 public:
  /// Keeps the snapshot alive.
  explicit Router(config::SnapshotPtr snapshot);
  ~Router();

  /// `host` in lower case, without port: exact, then wildcard, then "*". Null: no site claims it.
  const SiteRules* find_site(std::string_view host) const;
  /// The site with exactly this address for a host, or null; and whether any site has one.
  const SiteRules* find_address(const boost::asio::ip::address& address) const;
  bool names_addresses() const;
  /// The "*" site, or the only site there is; null otherwise. For connections without SNI.
  const SiteRules* default_site() const;
  /// `scratch` is the caller's, reused; nothing is allocated in the steady state.
  Decision match(const SiteRules& site, const http::RequestHead& request,
                 std::string& scratch) const;
  /// Names of the snapshot's upstream groups; decisions hold indexes into this.
  const std::vector<std::string>& upstream_names() const;

 private:
  struct Tables;
  std::unique_ptr<const Tables> tables_;
};

}  // namespace gatehouse::proxy
