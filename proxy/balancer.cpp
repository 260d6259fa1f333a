#include "proxy/balancer.hpp"

#include <algorithm>
#include <cmath>

namespace gatehouse::proxy {

namespace {

using Endpoints = std::span<const BalancedEndpoint>;

/// The endpoints that one call chooses among: healthy, not tried yet, of one class.
struct Candidates {
  Endpoints endpoints;
  uint64_t tried = 0;
  bool backup = false;

  bool has(size_t index) const {
    const BalancedEndpoint& endpoint = endpoints[index];
    if (endpoint.backup != backup || endpoint.weight == 0) return false;
    if (index < 64 && (tried >> index & 1) != 0) return false;
    return endpoint.state->healthy.load(std::memory_order_relaxed);
  }
};

uint64_t load_of(const BalancedEndpoint& endpoint) {
  return endpoint.state->in_flight.load(std::memory_order_relaxed);
}

/// Whether one more request would load `a` less than `b`, for their weights. No division.
bool less_loaded(const BalancedEndpoint& a, const BalancedEndpoint& b) {
  return (load_of(a) + 1) * b.weight < (load_of(b) + 1) * a.weight;
}

/// splitmix64's finaliser: every bit of the input moves every bit of the output.
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

uint64_t next_random(BalanceTurn& turn) {
  turn.random += 0x9e3779b97f4a7c15ULL;
  return mix(turn.random);
}

/// FNV-1a: the same on every worker and after every restart.
uint64_t hash_text(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : text) {
    hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3ULL;
  }
  return hash;
}

/// Ties go to the first behind a random place, so that an idle group is used evenly.
std::optional<size_t> least_requests(const Candidates& candidates, BalanceTurn& turn) {
  const size_t count = candidates.endpoints.size();
  const size_t start = next_random(turn) % count;
  std::optional<size_t> best;
  for (size_t i = 0; i < count; ++i) {
    const size_t index = start + i < count ? start + i : start + i - count;
    if (!candidates.has(index)) continue;
    if (!best || less_loaded(candidates.endpoints[index], candidates.endpoints[*best])) {
      best = index;
    }
  }
  return best;
}

/// Smooth weighted round robin: each gains its weight, the richest is used and pays for all.
std::optional<size_t> round_robin(const Candidates& candidates, BalanceTurn& turn) {
  turn.current_weights.resize(candidates.endpoints.size());
  std::optional<size_t> best;
  int64_t total = 0;
  for (size_t i = 0; i < candidates.endpoints.size(); ++i) {
    if (!candidates.has(i)) continue;
    const int64_t weight = candidates.endpoints[i].weight;
    turn.current_weights[i] += weight;
    total += weight;
    if (!best || turn.current_weights[i] > turn.current_weights[*best]) best = i;
  }
  if (best) turn.current_weights[*best] -= total;
  return best;
}

/// One of the candidates, in proportion to the weights.
std::optional<size_t> draw(const Candidates& candidates, uint64_t random) {
  uint64_t total = 0;
  for (size_t i = 0; i < candidates.endpoints.size(); ++i) {
    if (candidates.has(i)) total += candidates.endpoints[i].weight;
  }
  if (total == 0) return std::nullopt;
  uint64_t left = random % total;
  for (size_t i = 0; i < candidates.endpoints.size(); ++i) {
    if (!candidates.has(i)) continue;
    const uint64_t weight = candidates.endpoints[i].weight;
    if (left < weight) return i;
    left -= weight;
  }
  return std::nullopt;  // health changed on the way
}

/// The less loaded of two drawn at random: nearly as even as least_requests, and workers that see
/// old counters do not all run to the same endpoint.
std::optional<size_t> random_two(Candidates candidates, BalanceTurn& turn) {
  const auto first = draw(candidates, next_random(turn));
  if (!first || *first >= 64) return first;
  candidates.tried |= uint64_t{1} << *first;
  const auto second = draw(candidates, next_random(turn));
  if (!second) return first;
  return less_loaded(candidates.endpoints[*second], candidates.endpoints[*first]) ? second : first;
}

/// Rendezvous hashing with weights: an endpoint that goes moves only what it had.
std::optional<size_t> highest_hash(const Candidates& candidates, uint64_t input) {
  std::optional<size_t> best;
  double best_score = 0;
  for (size_t i = 0; i < candidates.endpoints.size(); ++i) {
    if (!candidates.has(i)) continue;
    const BalancedEndpoint& endpoint = candidates.endpoints[i];
    const uint64_t hash = mix(input ^ mix(endpoint.key));
    const double unit = (static_cast<double>(hash >> 11) + 0.5) * 0x1p-53;  // inside (0, 1)
    const double score = endpoint.weight / -std::log(unit);
    if (!best || score > best_score) {
      best = i;
      best_score = score;
    }
  }
  return best;
}

std::optional<size_t> pick_among(const Candidates& candidates, config::Balance policy,
                                 std::string_view hash_input, BalanceTurn& turn) {
  switch (policy) {
    case config::Balance::least_requests:
      return least_requests(candidates, turn);
    case config::Balance::round_robin:
      return round_robin(candidates, turn);
    case config::Balance::random_two:
      return random_two(candidates, turn);
    case config::Balance::hash_client:
    case config::Balance::hash_uri:
      return highest_hash(candidates, hash_text(hash_input));
  }
  return std::nullopt;
}

}  // namespace

std::optional<size_t> pick(std::span<const BalancedEndpoint> endpoints, config::Balance policy,
                           std::string_view hash_input, uint64_t tried, BalanceTurn& turn) {
  if (endpoints.empty()) return std::nullopt;
  Candidates candidates{endpoints, tried, false};
  if (endpoints.size() == 1) {  // most groups
    candidates.backup = endpoints[0].backup;
    return candidates.has(0) ? std::optional<size_t>(0) : std::nullopt;
  }
  if (const auto primary = pick_among(candidates, policy, hash_input, turn)) return primary;
  candidates.backup = true;
  return pick_among(candidates, policy, hash_input, turn);
}

}  // namespace gatehouse::proxy
