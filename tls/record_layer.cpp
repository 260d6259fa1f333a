#include "tls/record_layer.hpp"

#include <cstring>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

namespace gatehouse::tls {

namespace {

constexpr size_t tag_bytes = 16;
constexpr uint8_t key_update_type = 24;  // RFC 8446 section 4: HandshakeType
constexpr char update_not_requested = 0, update_requested = 1;
constexpr char fatal = 2, warning = 1;

const uint8_t* bytes_of(const char* text) {
  return reinterpret_cast<const uint8_t*>(text);
}
uint8_t* bytes_of(char* text) {
  return reinterpret_cast<uint8_t*>(text);
}

/// Fetched once: a look-up by name costs more than a record.
const EVP_CIPHER* cipher_of(uint16_t cipher_suite) {
  static const EVP_CIPHER* const aes_128 = EVP_CIPHER_fetch(nullptr, "AES-128-GCM", nullptr);
  static const EVP_CIPHER* const aes_256 = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
  static const EVP_CIPHER* const chacha = EVP_CIPHER_fetch(nullptr, "ChaCha20-Poly1305", nullptr);
  switch (cipher_suite) {
    case TLS1_3_CK_AES_128_GCM_SHA256 & 0xffff:
      return aes_128;
    case TLS1_3_CK_AES_256_GCM_SHA384 & 0xffff:
      return aes_256;
    case TLS1_3_CK_CHACHA20_POLY1305_SHA256 & 0xffff:
      return chacha;
    default:
      return nullptr;
  }
}

/// Content and type, one behind the other, to `body`; in one go if the content lies there.
bool encrypt(EVP_CIPHER_CTX* cipher, std::string_view content, char type, uint8_t* body) {
  int written = 0;
  const auto size = static_cast<int>(content.size());
  if (bytes_of(content.data()) == body) {
    body[size] = static_cast<uint8_t>(type);
    return EVP_EncryptUpdate(cipher, body, &written, body, size + 1) == 1;
  }
  return EVP_EncryptUpdate(cipher, body, &written, bytes_of(content.data()), size) == 1 &&
         EVP_EncryptUpdate(cipher, body + size, &written, bytes_of(&type), 1) == 1;
}

}  // namespace

// --- keys

bool RecordLayer::Direction::use(const EVP_CIPHER* algorithm, const Secret& next, bool sealing) {
  std::array<uint8_t, EVP_MAX_KEY_LENGTH> key;
  const std::span<uint8_t> used(key.data(),
                                static_cast<size_t>(EVP_CIPHER_get_key_length(algorithm)));
  if (cipher == nullptr) cipher.reset(EVP_CIPHER_CTX_new());
  const bool well =
      cipher != nullptr && expand_label(next, "key", used) && expand_label(next, "iv", iv) &&
      EVP_CipherInit_ex2(cipher.get(), algorithm, key.data(), nullptr, sealing ? 1 : 0, nullptr) ==
          1;
  OPENSSL_cleanse(key.data(), key.size());
  secret = next;
  sequence = 0;
  return well;
}

bool RecordLayer::Direction::update(const EVP_CIPHER* algorithm, bool sealing) {
  std::array<uint8_t, Secret::bytes_max> next;
  const std::span<uint8_t> used = std::span(next).first(secret.bytes().size());
  const bool well =
      expand_label(secret, "traffic upd", used) && use(algorithm, Secret(used), sealing);
  OPENSSL_cleanse(next.data(), next.size());
  return well;
}

/// RFC 8446 section 5.3: the sequence number, in network order, laid over the end of the IV.
std::array<uint8_t, 12> RecordLayer::Direction::nonce() const {
  auto result = iv;
  for (size_t i = 0; i < sizeof sequence; ++i) {
    result[result.size() - 1 - i] ^= static_cast<uint8_t>(sequence >> (8 * i));
  }
  return result;
}

std::unique_ptr<RecordLayer> RecordLayer::create(uint16_t cipher_suite,
                                                 const TrafficSecrets& secrets,
                                                 uint64_t records_sent) {
  if (secrets.client.empty() || secrets.server.empty()) return nullptr;
  std::unique_ptr<RecordLayer> made(new RecordLayer);
  made->cipher_ = cipher_of(cipher_suite);
  if (made->cipher_ == nullptr || !made->reading_.use(made->cipher_, secrets.client, false) ||
      !made->writing_.use(made->cipher_, secrets.server, true)) {
    return nullptr;
  }
  made->writing_.sequence = records_sent;
  return made;
}

// --- writing

size_t RecordLayer::seal(ContentType type, std::string_view content, char* out) {
  ASSERT(content.size() <= content_bytes_max);
  const size_t inner = content.size() + 1;
  const size_t length = inner + tag_bytes;
  out[0] = static_cast<char>(ContentType::application_data);  // whatever is inside (section 5.2)
  out[1] = out[2] = 3;
  out[3] = static_cast<char>(length >> 8);
  out[4] = static_cast<char>(length);
  uint8_t* const body = bytes_of(out) + header_bytes;
  const auto nonce = writing_.nonce();
  EVP_CIPHER_CTX* const cipher = writing_.cipher.get();
  int written = 0;
  if (EVP_EncryptInit_ex2(cipher, nullptr, nullptr, nonce.data(), nullptr) != 1 ||
      EVP_EncryptUpdate(cipher, nullptr, &written, bytes_of(out), header_bytes) != 1 ||
      !encrypt(cipher, content, static_cast<char>(type), body) ||
      EVP_EncryptFinal_ex(cipher, body + inner, &written) != 1) {
    return 0;
  }
  OSSL_PARAM tag[] = {
      OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, body + inner, tag_bytes),
      OSSL_PARAM_construct_end()};
  if (EVP_CIPHER_CTX_get_params(cipher, tag) != 1) return 0;
  if (++writing_.sequence >= records_a_key_max) key_update_due_ = true;
  return header_bytes + length;
}

size_t RecordLayer::seal_alert(Alert alert, char* out) {
  const bool orderly = alert == Alert::close_notify;
  const char content[] = {orderly ? warning : fatal, static_cast<char>(alert)};
  return seal(ContentType::alert, {content, sizeof content}, out);
}

size_t RecordLayer::seal_key_update(char* out) {
  const char content[] = {key_update_type, 0, 0, 1, update_not_requested};
  const size_t size = seal(ContentType::handshake, {content, sizeof content}, out);
  key_update_due_ = false;
  return size > 0 && writing_.update(cipher_, true) ? size : 0;
}

// --- reading

size_t RecordLayer::record_size(std::string_view bytes) {
  if (bytes.size() < header_bytes) return 0;
  return header_bytes + (static_cast<size_t>(static_cast<uint8_t>(bytes[3])) << 8) +
         static_cast<uint8_t>(bytes[4]);
}

RecordLayer::Opened RecordLayer::open(std::string_view record, char* out, size_t& size) {
  if (record[0] != static_cast<char>(ContentType::application_data)) {
    return fail(Alert::unexpected_message, "a TLS record that is not encrypted");
  }
  const size_t length = record.size() - header_bytes;
  if (length > ciphertext_bytes_max) return fail(Alert::record_overflow, "a TLS record too long");
  if (length <= tag_bytes || !decrypt(record, out)) {
    return fail(Alert::bad_record_mac, "a TLS record was changed on its way");
  }
  // Content, its type, then zeros as padding.
  size_t end = length - tag_bytes;
  while (end > 0 && out[end - 1] == 0) --end;
  if (end == 0) return fail(Alert::unexpected_message, "a TLS record without a type");
  size = end - 1;
  if (size > content_bytes_max) return fail(Alert::record_overflow, "a TLS record too long");
  const auto type = static_cast<ContentType>(out[size]);
  const std::string_view content(out, size);
  if (type == ContentType::handshake) return take_handshake(content);
  // Parts of a handshake message follow each other directly (section 5.1).
  if (message_size_ > 0) return fail(Alert::unexpected_message, "half a TLS message");
  if (type == ContentType::application_data) return Opened::data;
  if (type == ContentType::alert) return take_alert(content);
  return fail(Alert::unexpected_message, "a TLS record of unknown type");
}

bool RecordLayer::decrypt(std::string_view record, char* out) {
  const auto nonce = reading_.nonce();
  const size_t length = record.size() - header_bytes - tag_bytes;
  const uint8_t* const body = bytes_of(record.data()) + header_bytes;
  const OSSL_PARAM tag[] = {
      OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG,
                                        const_cast<uint8_t*>(body + length), tag_bytes),
      OSSL_PARAM_construct_end()};
  EVP_CIPHER_CTX* const cipher = reading_.cipher.get();
  int written = 0;
  ++reading_.sequence;
  ++opened_;
  return EVP_DecryptInit_ex2(cipher, nullptr, nullptr, nonce.data(), tag) == 1 &&
         EVP_DecryptUpdate(cipher, nullptr, &written, bytes_of(record.data()), header_bytes) == 1 &&
         EVP_DecryptUpdate(cipher, bytes_of(out), &written, body, static_cast<int>(length)) == 1 &&
         EVP_DecryptFinal_ex(cipher, bytes_of(out) + length, &written) == 1;
}

RecordLayer::Opened RecordLayer::take_alert(std::string_view content) {
  if (content.size() != 2) return fail(Alert::decode_error, "a malformed TLS alert");
  const auto alert = static_cast<Alert>(content[1]);
  if (alert == Alert::close_notify) return Opened::closed;
  if (alert == Alert::user_canceled) return Opened::nothing;  // close_notify follows
  // It has given up, and is told nothing (section 6.2).
  return fail(Alert::close_notify, "the peer sent a TLS alert");
}

/// After the handshake a client has only one message to send (section 4.6.3): we ask for no late
/// authentication.
RecordLayer::Opened RecordLayer::take_handshake(std::string_view content) {
  if (content.empty() || content.size() > message_.size() - message_size_) {
    return fail(Alert::unexpected_message, "an unexpected TLS message");
  }
  std::memcpy(message_.data() + message_size_, content.data(), content.size());
  message_size_ = static_cast<uint8_t>(message_size_ + content.size());
  const std::string_view message(message_.data(), message_size_);
  constexpr char head[] = {key_update_type, 0, 0, 1};
  if (!std::string_view(head, sizeof head).starts_with(message.substr(0, sizeof head))) {
    return fail(Alert::unexpected_message, "an unexpected TLS message");
  }
  if (message_size_ < message_.size()) return Opened::nothing;
  message_size_ = 0;
  const char request = message_.back();
  if (request != update_requested && request != update_not_requested) {
    return fail(Alert::illegal_parameter, "a malformed TLS KeyUpdate");
  }
  if (++key_updates_ > key_updates_max + opened_ / records_a_key_update_min) {
    return fail(Alert::unexpected_message, "too many TLS KeyUpdates");
  }
  if (!reading_.update(cipher_, false)) return fail(Alert::internal_error, "no new TLS key");
  if (request == update_requested) key_update_due_ = true;
  return Opened::nothing;
}

RecordLayer::Opened RecordLayer::fail(Alert alert, const char* problem) {
  alert_ = alert;
  problem_ = problem;
  return Opened::failed;
}

}  // namespace gatehouse::tls
