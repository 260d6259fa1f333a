// The key schedule of TLS 1.3 (RFC 8446 section 7), as far as it is ours: keys from a traffic
// secret, the next secret after a KeyUpdate, and how the secrets of a handshake become known.
//
// OpenSSL's handshakes derive all their keys through a key derivation function that they fetch from
// a provider. Ours serves them in place of OpenSSL's own: it costs a third, and what it derives for
// the application's records is handed to whoever drives the handshake. Any thread; what is captured
// and what is reused is the thread's own.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <openssl/types.h>

namespace gatehouse::tls {

/// A secret of the key schedule, as long as its hash. Cleansed when it goes.
class Secret {
 public:
  static constexpr size_t bytes_max = 48;  // SHA-384

  Secret() = default;
  explicit Secret(std::span<const uint8_t> bytes);
  Secret(const Secret&) = default;
  Secret& operator=(const Secret&) = default;
  ~Secret();

  bool empty() const { return size_ == 0; }
  std::span<const uint8_t> bytes() const { return {bytes_.data(), size_}; }
  void clear();

 private:
  std::array<uint8_t, bytes_max> bytes_{};
  size_t size_ = 0;
};

/// The secrets that protect application data, by who sends it.
struct TrafficSecrets {
  Secret client, server;
};

/// Makes the key derivation function known to OpenSSL, once; false if OpenSSL refuses it, and then
/// no secret is ever captured.
bool load_key_schedule();

/// The property query of contexts whose handshakes are to use it.
inline constexpr const char* key_schedule_query = "?provider=gatehouse";

/// While it lives, handshakes that this thread drives leave their application traffic secrets in
/// `secrets`, if that is not null. One at a time.
class CaptureSecrets {
 public:
  explicit CaptureSecrets(TrafficSecrets* secrets);
  ~CaptureSecrets();
  CaptureSecrets(const CaptureSecrets&) = delete;
  CaptureSecrets& operator=(const CaptureSecrets&) = delete;
};

/// HKDF-Expand-Label(secret, label, "", out.size()); the hash is the one of the secret's size.
/// False if OpenSSL fails.
bool expand_label(const Secret& secret, std::string_view label, std::span<uint8_t> out);

}  // namespace gatehouse::tls
