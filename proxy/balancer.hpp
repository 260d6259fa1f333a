// Which endpoint of a group gets the next request. Pure: state in, index out.
//
// Does not connect, retry or check health. Workers call it on their own threads; EndpointState is
// shared between them through relaxed atomics.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "config/snapshot.hpp"

namespace gatehouse::proxy {

/// What changes about one endpoint; survives reloads. Any thread.
struct EndpointState {
  std::atomic<uint32_t> in_flight{0};
  std::atomic<bool> healthy{true};
};

/// One endpoint as the balancer sees it.
struct BalancedEndpoint {
  EndpointState* state = nullptr;
  uint32_t weight = 1;
  bool backup = false;
  uint64_t key = 0;  // hash of its address, for the hashing policies
};

/// One worker's memory of a group: whose turn it is, and a source of randomness.
struct BalanceTurn {
  std::vector<int64_t> current_weights;  // smooth weighted round robin
  uint64_t random = 0x9e3779b97f4a7c15ULL;
};

/// The index of the endpoint to use, or nothing when all that are healthy were tried. `hash_input`
/// is the client's address or the target, for the hashing policies. `tried` has one bit for each
/// of the first 64 endpoints.
std::optional<size_t> pick(std::span<const BalancedEndpoint> endpoints, config::Balance policy,
                           std::string_view hash_input, uint64_t tried, BalanceTurn& turn);

}  // namespace gatehouse::proxy
