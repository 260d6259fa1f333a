// Upstream groups and their endpoints, as workers use them.
//
// Does not pick one (balancer) or connect (http/connect). Built on the control thread; a group is
// immutable, only EndpointState changes, through relaxed atomics, and it survives reloads: it is
// keyed by the group's name and the endpoint's address.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "config/snapshot.hpp"
#include "http/connect.hpp"
#include "proxy/balancer.hpp"

namespace gatehouse::proxy {

struct Endpoint {
  const config::Endpoint* settings = nullptr;  // in the snapshot
  http::Origin origin;
  std::shared_ptr<EndpointState> state;
  /// The same for the same origin across reloads: pools are keyed by it. Dense, from zero.
  size_t id = 0;
};

struct Upstream {
  const config::Upstream* settings = nullptr;  // in the snapshot
  size_t index = 0;                            // in Policy::upstreams
  std::vector<Endpoint> endpoints;
  std::vector<BalancedEndpoint> balanced;  // the same order, for the balancer
};

class UpstreamRegistry {
 public:
  /// All groups of a snapshot, by name. Fails if a CA or client certificate cannot be used.
  base::Result<std::map<std::string, Upstream>> build(const config::Snapshot& snapshot);

 private:
  struct Known {
    size_t id;
    std::shared_ptr<EndpointState> state;
  };
  std::map<std::string, Known> known_;
};

}  // namespace gatehouse::proxy
