#include "proxy/limits.hpp"

#include <cstring>
#include <random>

namespace gatehouse::proxy {

namespace {

uint64_t key_of(const boost::asio::ip::address& client) {
  if (client.is_v4()) return client.to_v4().to_uint();
  const auto bytes = client.to_v6().to_bytes();
  if (client.to_v6().is_v4_mapped()) {
    return boost::asio::ip::make_address_v4(boost::asio::ip::v4_mapped, client.to_v6()).to_uint();
  }
  uint64_t prefix = 0;
  std::memcpy(&prefix, bytes.data(), sizeof prefix);
  return prefix ^ 0x8000'0000'0000'0001ULL;  // apart from IPv4 addresses
}

uint64_t mix(uint64_t value, uint64_t seed) {
  value ^= seed;
  value ^= value >> 33;
  value *= 0xff51afd7ed558ccdULL;
  value ^= value >> 33;
  value *= seed | 1;
  value ^= value >> 29;
  return value;
}

}  // namespace

ConnectionLimits::ConnectionLimits() : clients_(std::make_unique<std::array<Row, rows>>()) {
  std::random_device random;
  for (auto& seed : seeds_) seed = (static_cast<uint64_t>(random()) << 32) | random();
}

std::atomic<uint32_t>& ConnectionLimits::cell(size_t row, uint64_t key) {
  return (*clients_)[row][mix(key, seeds_[row]) % columns];
}

bool ConnectionLimits::admit(const config::Limits& limits) {
  if (connections_.fetch_add(1, std::memory_order_relaxed) < limits.connections) return true;
  leave();
  return false;
}

bool ConnectionLimits::admit_client(const boost::asio::ip::address& client,
                                    const config::Limits& limits) {
  const uint64_t key = key_of(client);
  uint32_t least = UINT32_MAX;
  for (size_t row = 0; row < rows; ++row) {
    least = std::min(least, cell(row, key).fetch_add(1, std::memory_order_relaxed));
  }
  if (limits.connections_per_client == 0 || least < limits.connections_per_client) return true;
  leave_client(client);
  return false;
}

void ConnectionLimits::leave() {
  connections_.fetch_sub(1, std::memory_order_relaxed);
}

void ConnectionLimits::leave_client(const boost::asio::ip::address& client) {
  const uint64_t key = key_of(client);
  for (size_t row = 0; row < rows; ++row) cell(row, key).fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace gatehouse::proxy
