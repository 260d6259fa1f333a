// Session ticket keys: the newest encrypts, all of them decrypt (RFC 5077 section 4).
//
// Immutable; made and rotated on the control thread, never written to disk. A worker's thread uses
// the set last given to use_ticket_keys() on that thread.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

namespace gatehouse::tls {

class TicketKeys;
using TicketKeysPtr = std::shared_ptr<const TicketKeys>;

class TicketKeys {
 public:
  static constexpr std::chrono::hours rotation_interval{12};
  static constexpr size_t keys_kept = 3;

  /// One fresh key.
  static TicketKeysPtr create();
  /// A fresh key before the others; the oldest beyond keys_kept is dropped and cleansed.
  TicketKeysPtr rotated() const;

  ~TicketKeys();

  struct Key {
    std::array<uint8_t, 16> name;
    std::array<uint8_t, 32> aes;
    std::array<uint8_t, 32> hmac;
  };
  const std::vector<Key>& keys() const { return keys_; }

 private:
  TicketKeys() = default;
  std::vector<Key> keys_;
};

/// The keys that handshakes on the calling thread use from now on.
void use_ticket_keys(TicketKeysPtr keys);
/// What this thread uses; may be null (then no tickets are issued). For the OpenSSL callback.
const TicketKeys* current_ticket_keys();

}  // namespace gatehouse::tls
