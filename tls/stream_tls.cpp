// The stream's TLS half: handshakes, and records either way.
#include <arpa/inet.h>
#include <array>
#include <cstring>
#include <optional>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "tls/key_schedule.hpp"
#include "tls/record_layer.hpp"
#include "tls/stream.hpp"
#include "tls/window.hpp"

namespace gatehouse::tls {

using base::ErrorKind;

namespace {

// OpenSSL judges a failed call by the thread's error queue, so that must be empty before each call.
// Clearing it there costs as much as parsing a field; on a worker's thread it is kept empty
// instead: every call that failed, and every handshake, clears it afterwards.

bool is_address(const std::string& name) {
  std::array<unsigned char, 16> parsed;
  return inet_pton(AF_INET, name.c_str(), parsed.data()) == 1 ||
         inet_pton(AF_INET6, name.c_str(), parsed.data()) == 1;
}

/// How many whole, encrypted records these bytes are; nothing if they are anything else.
std::optional<uint64_t> sealed_records(std::string_view bytes) {
  constexpr auto encrypted = static_cast<char>(RecordLayer::ContentType::application_data);
  uint64_t count = 0;
  for (; !bytes.empty(); ++count) {
    const size_t size = RecordLayer::record_size(bytes);
    if (size == 0 || size > bytes.size() || bytes[0] != encrypted) return std::nullopt;
    bytes.remove_prefix(size);
  }
  return count;
}

SSL* make_ssl(const Context& context) {
  SSL* ssl = SSL_new(context.native());
  if (ssl == nullptr) return nullptr;
  BIO* bio = window().bio;
  BIO_up_ref(bio);
  SSL_set_bio(ssl, bio, bio);
  return ssl;
}

}  // namespace

bool Stream::start_server(const Context& context, const Certificate& certificate, bool resumable) {
  ERR_clear_error();
  ssl_ = make_ssl(context);
  if (ssl_ == nullptr) return false;
  SSL_set_accept_state(ssl_);
  secrets_ = std::make_unique<TrafficSecrets>();
  if (!resumable) {
    SSL_set_num_tickets(ssl_, 0);
    SSL_set_options(ssl_, SSL_OP_NO_TICKET);
  }
  return SSL_use_cert_and_key(ssl_, certificate.leaf(), certificate.key(), certificate.chain(),
                              1) == 1;
}

bool Stream::start_client(const Context& context, const std::string& name, bool verify) {
  ERR_clear_error();
  ssl_ = make_ssl(context);
  if (ssl_ == nullptr) return false;
  SSL_set_connect_state(ssl_);
  SSL_set_verify(ssl_, verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  if (is_address(name)) {
    return !verify || X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_), name.c_str()) == 1;
  }
  if (SSL_set_tlsext_host_name(ssl_, name.c_str()) != 1) return false;
  return !verify || SSL_set1_host(ssl_, name.c_str()) == 1;
}

Io Stream::handshake() {
  if (failed()) return Io::failed;
  auto& w = window();
  bool first = !SSL_is_server(ssl_) && SSL_in_before(ssl_);
  for (;;) {
    std::string_view raw = input_;
    if (raw.empty() && !first) {
      if (w.owner != nullptr) w.owner->keep_input();
      const Io got = receive(raw);
      if (got == Io::eof) {
        return break_off(ErrorKind::closed, "the peer closed the connection during the handshake");
      }
      if (got != Io::ok) return got;
    }
    first = false;
    w.bio_input = raw;
    ERR_clear_error();
    int result = 0;
    {
      const CaptureSecrets capture(secrets_.get());
      result = SSL_do_handshake(ssl_);
    }
    // What follows the handshake in the same bytes is data already: it is decrypted below.
    const std::string rest(w.bio_input);
    w.bio_input = {};
    kept_.clear();
    input_ = {};
    const int problem = result == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl_, result);
    if (problem == SSL_ERROR_NONE) take_over();
    // A request that came along with the handshake's end is about to be answered: session tickets
    // go with that answer, not ahead of it.
    if (problem == SSL_ERROR_NONE && records_ != nullptr && !rest.empty()) hold_window();
    const Io sent = send_window();
    if (problem != SSL_ERROR_NONE && problem != SSL_ERROR_WANT_READ) return tls_failure(result);
    if (sent == Io::failed) return break_off(ErrorKind::reset, "the connection broke");
    if (problem == SSL_ERROR_NONE) {
      ERR_clear_error();
      return decrypt(rest) == Io::failed ? Io::failed : Io::ok;
    }
  }
}

/// The handshake is complete. With TLS 1.3 records are ours from here on, and the SSL object's 14
/// KB are given back. What the window holds is what the server said after the client's Finished,
/// its session tickets: they are the first records under the key that we go on with.
void Stream::take_over() {
  handshaken_ = true;
  version_ = SSL_get_version(ssl_);
  resumed_ = SSL_session_reused(ssl_) == 1;
  const unsigned char* protocol = nullptr;
  unsigned protocol_size = 0;
  SSL_get0_alpn_selected(ssl_, &protocol, &protocol_size);
  http2_ = protocol_size == 2 && std::memcmp(protocol, "h2", 2) == 0;
  const auto secrets = std::move(secrets_);
  const auto sent = sealed_records({window().out.data(), window().out_size});
  if (secrets == nullptr || !sent || SSL_version(ssl_) != TLS1_3_VERSION) return;
  const uint16_t suite = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(ssl_));
  records_ = RecordLayer::create(suite, *secrets, *sent);
  if (records_ == nullptr) return;
  SSL_free(ssl_);
  ssl_ = nullptr;
}

Io Stream::fill_encrypted() {
  for (;;) {
    std::string_view bytes;
    const Io got = receive(bytes);
    if (got == Io::eof && side_ == base::Side::upstream) {
      // Without close_notify a body that ends with the connection may have been cut short.
      return break_off(ErrorKind::closed, "the TLS connection ended without close_notify");
    }
    if (got != Io::ok) return got;
    const Io decrypted = decrypt(bytes);
    if (decrypted != Io::again) return decrypted;
  }
}

Io Stream::decrypt(std::string_view received) {
  auto& w = window();
  size_t size = 0;
  if (!(records_ != nullptr ? open_records(received, size) : read_records(received, size))) {
    return Io::failed;
  }
  if (w.out_size > 0 && send_window() == Io::failed) {
    return break_off(ErrorKind::reset, "the connection broke");
  }
  if (empty_records_ > empty_records_max) {
    return break_off(ErrorKind::tls, "too many TLS messages without data");
  }
  if (size == 0) return ended_ ? Io::eof : Io::again;
  take_input({w.plain.data(), size});
  return Io::ok;
}

/// Opens what `received` completes into the window; `size` bytes of it. What is left over begins
/// the next record.
bool Stream::open_records(std::string_view received, size_t& size) {
  while (!ended_ && !received.empty()) {
    const bool begun = !partial_record_.empty();
    if (begun) take_part(received);
    const std::string_view record = begun ? partial_record_.view() : received;
    const size_t whole = RecordLayer::record_size(record);
    if (whole > RecordLayer::header_bytes + RecordLayer::ciphertext_bytes_max) {
      return refuse_record(Alert::record_overflow, "a TLS record too long");
    }
    if (whole == 0 || record.size() < whole) {
      partial_record_.reserve(std::max(whole, RecordLayer::header_bytes));
      if (begun) continue;
      partial_record_.append(received);
      break;
    }
    if (!begun) received.remove_prefix(whole);
    const bool opened = open_record(record.substr(0, whole), size);
    partial_record_.clear();
    if (!opened) return false;
  }
  if (records_->key_update_due() && !write_ended_) return update_key();
  return true;
}

/// Adds to the record that has begun: its header first, which says how much more there is.
void Stream::take_part(std::string_view& received) {
  const bool header = partial_record_.size() < RecordLayer::header_bytes;
  const size_t wanted =
      header ? RecordLayer::header_bytes : RecordLayer::record_size(partial_record_.view());
  const size_t count = std::min(received.size(), wanted - partial_record_.size());
  partial_record_.append(received.substr(0, count));
  received.remove_prefix(count);
}

bool Stream::open_record(std::string_view record, size_t& size) {
  auto& w = window();
  size_t opened = 0;
  switch (records_->open(record, w.plain.data() + size, opened)) {
    case RecordLayer::Opened::data:
      size += opened;
      empty_records_ = opened > 0 ? 0 : empty_records_ + 1;
      return true;
    case RecordLayer::Opened::nothing:
      ++empty_records_;
      return true;
    case RecordLayer::Opened::closed:
      ended_ = true;
      return true;
    case RecordLayer::Opened::failed:
      break;
  }
  return refuse_record(records_->alert(), records_->problem());
}

bool Stream::refuse_record(Alert alert, const char* text) {
  auto& w = window();
  if (alert != Alert::close_notify) {
    w.out_size += records_->seal_alert(alert, w.out.data() + w.out_size);
    send_window();
  }
  break_off(ErrorKind::tls, text);
  return false;
}

/// The same by OpenSSL, which keeps what is left over.
bool Stream::read_records(std::string_view received, size_t& size) {
  auto& w = window();
  w.bio_input = received;
  while ((!w.bio_input.empty() || SSL_has_pending(ssl_) == 1) && size < w.plain.size()) {
    const int count =
        SSL_read(ssl_, w.plain.data() + size, static_cast<int>(w.plain.size() - size));
    if (count > 0) {
      size += static_cast<size_t>(count);
      continue;
    }
    const int problem = SSL_get_error(ssl_, count);
    if (problem == SSL_ERROR_WANT_READ) break;
    if (problem == SSL_ERROR_ZERO_RETURN) {
      ended_ = true;
      break;
    }
    w.bio_input = {};
    send_window();
    tls_failure(count);
    return false;
  }
  ASSERT(ended_ || w.bio_input.empty());
  w.bio_input = {};
  if (size > 0 || received.empty()) {
    empty_records_ = 0;
  } else {
    ++empty_records_;
  }
  return true;
}

/// Small pieces share a record; what fills one is taken from where it lies.
Io Stream::write_encrypted(std::span<const std::string_view> pieces) {
  size_t packed = 0;
  for (size_t i = 0; i < pieces.size(); ++i) {
    std::string_view piece = pieces[i];
    const bool final_piece = i + 1 == pieces.size();
    while (!piece.empty()) {
      if (packed == 0 && (piece.size() >= Window::record_bytes || final_piece)) {
        const auto part = piece.substr(0, Window::record_bytes);
        if (!encrypt(part)) return Io::failed;
        piece.remove_prefix(part.size());
        continue;
      }
      char* const record = packing_place();
      const size_t count = std::min(piece.size(), Window::record_bytes - packed);
      std::memcpy(record + packed, piece.data(), count);
      packed += count;
      piece.remove_prefix(count);
      if (packed < Window::record_bytes) continue;
      packed = 0;
      if (!encrypt({record, Window::record_bytes})) return Io::failed;
    }
  }
  if (packed > 0 && !encrypt({packing_place(), packed})) return Io::failed;
  return send_window();
}

/// Where the next record's content is put together: where it is sealed, if that is ours to do.
char* Stream::packing_place() {
  auto& w = window();
  if (records_ == nullptr) return w.record.data();
  return w.out.data() + w.out_size + RecordLayer::header_bytes;
}

/// One record, at most, to the window.
bool Stream::encrypt(std::string_view bytes) {
  if (records_ == nullptr) return write_record(bytes);
  auto& w = window();
  ASSERT(w.out_size + bytes.size() + RecordLayer::overhead_bytes +
             RecordLayer::small_record_bytes <=
         w.out.size());
  const size_t size =
      records_->seal(RecordLayer::ContentType::application_data, bytes, w.out.data() + w.out_size);
  w.out_size += size;
  if (size == 0) {
    break_off(ErrorKind::tls, "OpenSSL cannot encrypt");
    return false;
  }
  return !records_->key_update_due() || update_key();
}

bool Stream::update_key() {
  auto& w = window();
  const size_t size = records_->seal_key_update(w.out.data() + w.out_size);
  w.out_size += size;
  if (size == 0) break_off(ErrorKind::tls, "no new TLS key");
  return size > 0;
}

bool Stream::write_record(std::string_view bytes) {
  while (!bytes.empty()) {
    const int count = SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()));
    if (count <= 0) {
      tls_failure(count);
      return false;
    }
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

void Stream::say_close() {
  auto& w = window();
  if (records_ != nullptr) {
    w.out_size += records_->seal_alert(Alert::close_notify, w.out.data() + w.out_size);
  } else {
    SSL_shutdown(ssl_);
    ERR_clear_error();
  }
  send_window();
}

Io Stream::tls_failure(int result) {
  const int problem = SSL_get_error(ssl_, result);
  const long verify = SSL_get_verify_result(ssl_);
  const unsigned long code = ERR_peek_error();
  const char* text = "TLS failed";
  if (!SSL_is_server(ssl_) && verify != X509_V_OK) {
    text = X509_verify_cert_error_string(verify);
  } else if (problem == SSL_ERROR_SSL && ERR_reason_error_string(code) != nullptr) {
    text = ERR_reason_error_string(code);
  }
  ERR_clear_error();
  return break_off(ErrorKind::tls, text);
}

}  // namespace gatehouse::tls
