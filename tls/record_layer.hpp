// TLS 1.3 records of an established connection, at the server's end (RFC 8446 sections 4.6.3, 5
// and 6).
//
// OpenSSL negotiates, authenticates and agrees on the secrets; from then on a record is one AEAD
// operation from the bytes given to the bytes sent, without the 14 KB that an SSL object holds for
// it. Neither reads nor writes sockets: tls::Stream does. Lives on one worker's thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "tls/alert.hpp"
#include "tls/key_schedule.hpp"
#include "tls/openssl.hpp"

namespace gatehouse::tls {

class RecordLayer {
 public:
  static constexpr size_t header_bytes = 5;
  static constexpr size_t content_bytes_max = 16 * 1024;
  /// Of what is received: content, its type, padding and tag (section 5.2).
  static constexpr size_t ciphertext_bytes_max = content_bytes_max + 256;
  /// What sealing adds to a content: header, type, tag.
  static constexpr size_t overhead_bytes = header_bytes + 1 + 16;
  /// Records sealed under one key; the next follows with a KeyUpdate. AES-GCM is safe to 2^24.5
  /// (section 5.5).
  static constexpr uint64_t records_a_key_max = uint64_t{1} << 23;

  /// KeyUpdates that a peer may send at once, and records it may send for each further one: they
  /// cost more than they are long.
  static constexpr uint64_t key_updates_max = 32;
  static constexpr uint64_t records_a_key_update_min = 1024;

  enum class ContentType : uint8_t { alert = 21, handshake = 22, application_data = 23 };

  /// `cipher_suite` is its number in TLS; `records_sent` were sealed under the server's secret
  /// already. Null: a suite we do not know, or OpenSSL refuses.
  static std::unique_ptr<RecordLayer> create(uint16_t cipher_suite, const TrafficSecrets& secrets,
                                             uint64_t records_sent);

  // --- writing
  /// Seals one record at `out`, which has room for content and overhead. The content may lie where
  /// it goes, behind the header at `out`. Returns the record's size; 0: OpenSSL failed, nothing may
  /// be sent any more.
  size_t seal(ContentType type, std::string_view content, char* out);
  /// An alert's record (section 6); at most small_record_bytes.
  size_t seal_alert(Alert alert, char* out);
  /// Whether a KeyUpdate must go out before anything else: the peer asked, or the key is worn out.
  bool key_update_due() const { return key_update_due_; }
  /// Seals the KeyUpdate and takes the next key; at most small_record_bytes.
  size_t seal_key_update(char* out);
  static constexpr size_t small_record_bytes = 64;

  // --- reading
  /// The whole size of the record that begins so; 0: the header is not whole yet.
  static size_t record_size(std::string_view bytes);
  enum class Opened : uint8_t {
    data,     // content was written to `out`; it may be empty
    nothing,  // a message for ourselves was dealt with
    closed,   // close_notify: the peer says no more
    failed,   // see alert()
  };
  /// Opens one whole record; `out` has room for ciphertext_bytes_max. `size` is the content's.
  Opened open(std::string_view record, char* out, size_t& size);
  /// What the peer is to be told after open() failed; close_notify: nothing.
  Alert alert() const { return alert_; }
  /// What went wrong then, for the log.
  const char* problem() const { return problem_; }

 private:
  using CipherPtr = std::unique_ptr<EVP_CIPHER_CTX, Release<EVP_CIPHER_CTX_free>>;

  /// What protects one direction.
  struct Direction {
    bool use(const EVP_CIPHER* cipher, const Secret& next, bool sealing);
    /// The next secret of RFC 8446 section 7.2, and its key.
    bool update(const EVP_CIPHER* cipher, bool sealing);
    std::array<uint8_t, 12> nonce() const;

    Secret secret;
    CipherPtr cipher;
    std::array<uint8_t, 12> iv{};
    uint64_t sequence = 0;
  };

  RecordLayer() = default;
  bool decrypt(std::string_view record, char* out);
  Opened take_alert(std::string_view content);
  Opened take_handshake(std::string_view content);
  Opened fail(Alert alert, const char* problem);

  const EVP_CIPHER* cipher_ = nullptr;  // lives as long as the process
  Direction reading_, writing_;
  std::array<char, 5> message_{};  // a KeyUpdate, as far as it has come
  uint8_t message_size_ = 0;
  uint64_t opened_ = 0;
  uint64_t key_updates_ = 0;
  bool key_update_due_ = false;
  Alert alert_{};
  const char* problem_ = nullptr;
};

}  // namespace gatehouse::tls
