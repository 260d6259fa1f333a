#include "tls/ticket_keys.hpp"

#include <algorithm>
#include <type_traits>
#include <utility>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "base/error.hpp"

namespace gatehouse::tls {

namespace {

thread_local TicketKeysPtr current;

/// Without random bytes nothing here may go on: a guessable ticket key gives sessions away.
void fill_random(TicketKeys::Key& key) {
  static_assert(std::is_trivially_copyable_v<TicketKeys::Key>);
  ASSERT(RAND_bytes(key.name.data(), static_cast<int>(key.name.size())) == 1);
  ASSERT(RAND_priv_bytes(key.aes.data(), static_cast<int>(key.aes.size())) == 1);
  ASSERT(RAND_priv_bytes(key.hmac.data(), static_cast<int>(key.hmac.size())) == 1);
}

}  // namespace

TicketKeysPtr TicketKeys::create() {
  std::shared_ptr<TicketKeys> made(new TicketKeys);
  made->keys_.resize(1);
  fill_random(made->keys_.front());
  return made;
}

TicketKeysPtr TicketKeys::rotated() const {
  std::shared_ptr<TicketKeys> made(new TicketKeys);
  // Sized once: a vector that grows leaves copies of keys behind.
  made->keys_.resize(std::min(keys_.size() + 1, keys_kept));
  fill_random(made->keys_.front());
  std::copy_n(keys_.begin(), made->keys_.size() - 1, made->keys_.begin() + 1);
  return made;
}

TicketKeys::~TicketKeys() {
  if (!keys_.empty()) OPENSSL_cleanse(keys_.data(), keys_.size() * sizeof(Key));
}

void use_ticket_keys(TicketKeysPtr keys) {
  current = std::move(keys);
}

const TicketKeys* current_ticket_keys() {
  return current.get();
}

}  // namespace gatehouse::tls
