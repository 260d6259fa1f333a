// How many connections there may be, in all and from one client.
//
// Shared by all workers without a lock: one counter, and a sketch of counters for clients, so that
// memory does not grow with their number. Any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include <boost/asio/ip/address.hpp>

#include "config/snapshot.hpp"

namespace gatehouse::proxy {

class ConnectionLimits {
 public:
  ConnectionLimits();

  // False: over a limit, and nothing was counted.
  /// One connection more, whoever's it is.
  bool admit(const config::Limits& limits);
  /// It is this client's: apart, because behind a proxy that is known later. IPv6 clients count by
  /// their /64.
  bool admit_client(const boost::asio::ip::address& client, const config::Limits& limits);
  // Each undoes one of the above.
  void leave();
  void leave_client(const boost::asio::ip::address& client);

 private:
  // Two rows of a count-min sketch: a client is over the limit only if both of its counters are.
  // The hash is keyed at random, so that nobody can choose addresses that meet.
  static constexpr size_t rows = 2;
  static constexpr size_t columns = 1 << 16;
  using Row = std::array<std::atomic<uint32_t>, columns>;

  std::atomic<uint32_t>& cell(size_t row, uint64_t key);

  std::atomic<uint32_t> connections_{0};
  std::unique_ptr<std::array<Row, rows>> clients_;
  std::array<uint64_t, rows> seeds_;
};

}  // namespace gatehouse::proxy
