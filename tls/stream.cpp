#include "tls/stream.hpp"

#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

namespace gatehouse::tls {

using base::ErrorKind;

namespace {

// OpenSSL judges a failed call by the thread's error queue, so that must be empty before each call.
// Clearing it there costs as much as parsing a field; on a worker's thread it is kept empty
// instead: every call that failed, and every handshake, clears it afterwards.

constexpr size_t record_bytes = 16 * 1024;
constexpr size_t record_overhead_max = 256;
constexpr size_t pieces_max = 8;
// A read decrypts at most what one receive brought, and the rest of a record that came before.
constexpr size_t plain_bytes = Stream::read_bytes_max + 2 * record_bytes;
constexpr size_t out_bytes =
    (Stream::write_bytes_max / record_bytes + 8) * (record_bytes + record_overhead_max);

/// What all streams of a thread share. Nothing in it lives across a suspension, except that the
/// owner's unread input stays until somebody else reads.
struct Window {
  std::array<char, Stream::read_bytes_max> received;
  std::array<char, plain_bytes> plain;
  std::array<char, record_bytes> record;
  std::array<char, out_bytes> out;
  size_t out_size = 0;
  std::string_view bio_input;
  Stream* owner = nullptr;
  BIO* bio = nullptr;

  ~Window() { BIO_free(bio); }
};

int bio_read(BIO* bio, char* out, int size);
int bio_write(BIO* bio, const char* bytes, int size);

long bio_control(BIO*, int command, long, void*) {
  return command == BIO_CTRL_FLUSH || command == BIO_CTRL_PUSH || command == BIO_CTRL_POP ? 1 : 0;
}

BIO_METHOD* window_method() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "thread window");
    BIO_meth_set_read(made, bio_read);
    BIO_meth_set_write(made, bio_write);
    BIO_meth_set_ctrl(made, bio_control);
    BIO_meth_set_create(made, [](BIO* bio) {
      BIO_set_init(bio, 1);
      return 1;
    });
    return made;
  }();
  return method;
}

Window& make_window() {
  thread_local std::unique_ptr<Window> made;
  made.reset(new Window);
  made->bio = BIO_new(window_method());
  ASSERT(made->bio != nullptr);
  return *made;
}

thread_local Window* this_window = nullptr;

Window& window() {
  if (this_window == nullptr) this_window = &make_window();
  return *this_window;
}

int bio_read(BIO* bio, char* out, int size) {
  auto& input = this_window->bio_input;
  BIO_clear_retry_flags(bio);
  if (input.empty()) {
    BIO_set_retry_read(bio);
    return -1;
  }
  const size_t count = std::min(input.size(), static_cast<size_t>(size));
  std::memcpy(out, input.data(), count);
  input.remove_prefix(count);
  return static_cast<int>(count);
}

int bio_write(BIO* bio, const char* bytes, int size) {
  auto& w = *this_window;
  BIO_clear_retry_flags(bio);
  const auto count = static_cast<size_t>(size);
  ASSERT(w.out_size + count <= w.out.size());
  std::memcpy(w.out.data() + w.out_size, bytes, count);
  w.out_size += count;
  return size;
}

bool is_address(const std::string& name) {
  std::array<unsigned char, 16> parsed;
  return inet_pton(AF_INET, name.c_str(), parsed.data()) == 1 ||
         inet_pton(AF_INET6, name.c_str(), parsed.data()) == 1;
}

}  // namespace

Stream::~Stream() {
  close();
  SSL_free(ssl_);
  if (this_window != nullptr && this_window->owner == this) this_window->owner = nullptr;
}

bool Stream::open(int descriptor) {
  writable = true;
  if (reactor_.add(*this, descriptor)) return true;
  const int cause = errno;
  ::close(descriptor);
  errno = cause;
  return false;
}

// --- TLS

namespace {

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
    const int result = SSL_do_handshake(ssl_);
    // What follows the handshake in the same bytes is data already: it is decrypted below.
    const std::string rest(w.bio_input);
    w.bio_input = {};
    kept_.clear();
    input_ = {};
    const int problem = result == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl_, result);
    const Io sent = send_window();
    if (problem != SSL_ERROR_NONE && problem != SSL_ERROR_WANT_READ) return tls_failure(result);
    if (sent == Io::failed) return break_off(ErrorKind::reset, "the connection broke");
    if (problem == SSL_ERROR_NONE) {
      handshaken_ = true;
      ERR_clear_error();
      return decrypt(rest) == Io::failed ? Io::failed : Io::ok;
    }
  }
}

bool Stream::resumed() const {
  return ssl_ != nullptr && SSL_session_reused(ssl_) == 1;
}

std::string_view Stream::version() const {
  return ssl_ == nullptr ? std::string_view{} : std::string_view(SSL_get_version(ssl_));
}

// --- reading

std::span<char> Stream::unread() {
  return {const_cast<char*>(input_.data()), input_.size()};
}

void Stream::consume(size_t count) {
  if (kept_.empty()) {
    input_.remove_prefix(count);
    return;
  }
  kept_.consume(count);
  input_ = kept_.view();
}

void Stream::keep_input() {
  window().owner = nullptr;
  if (!kept_.empty() || input_.empty()) return;
  kept_.trim();
  kept_.append(input_);
  input_ = kept_.view();
}

void Stream::take_input(std::string_view bytes) {
  if (kept_.empty() && input_.empty()) {
    input_ = bytes;
    window().owner = this;
    return;
  }
  kept_.append(bytes);
  input_ = kept_.view();
}

Io Stream::fill() {
  if (failed() || !is_open()) return Io::failed;
  if (ended_) return Io::eof;
  kept_.trim();
  if (!readable) return Io::again;
  auto& w = window();
  if (w.owner != nullptr) w.owner->keep_input();
  if (ssl_ != nullptr) return fill_encrypted();
  std::string_view bytes;
  const Io got = receive(bytes);
  if (got == Io::ok) take_input(bytes);
  return got;
}

Io Stream::receive(std::string_view& bytes) {
  auto& w = window();
  while (readable) {
    const ssize_t count = ::recv(fd(), w.received.data(), w.received.size(), 0);
    if (count > 0) {
      // A short read has emptied the socket; a FIN would not be announced again.
      if (static_cast<size_t>(count) < w.received.size() && !hung_up) readable = false;
      bytes = {w.received.data(), static_cast<size_t>(count)};
      return Io::ok;
    }
    if (count == 0) {
      ended_ = true;
      return Io::eof;
    }
    if (errno == EAGAIN) {
      readable = false;
    } else if (errno != EINTR) {
      return break_off(ErrorKind::reset, "the connection broke", errno);
    }
  }
  return Io::again;
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
  w.bio_input = received;
  size_t size = 0;
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
    return tls_failure(count);
  }
  ASSERT(ended_ || w.bio_input.empty());
  w.bio_input = {};
  if (w.out_size > 0 && send_window() == Io::failed) {
    return break_off(ErrorKind::reset, "the connection broke");
  }
  if (size == 0) {
    if (ended_) return Io::eof;
    if (!received.empty() && ++empty_reads_ > empty_reads_max) {
      return break_off(ErrorKind::limit, "too many TLS messages without data");
    }
    return Io::again;
  }
  empty_reads_ = 0;
  take_input({w.plain.data(), size});
  return Io::ok;
}

// --- writing

Io Stream::write(std::span<const std::string_view> pieces) {
  if (failed() || write_broken_) return Io::failed;
  if (ssl_ == nullptr) return send_plain(pieces);
  auto& w = window();
  size_t packed = 0;
  for (size_t i = 0; i < pieces.size(); ++i) {
    std::string_view piece = pieces[i];
    const bool final_piece = i + 1 == pieces.size();
    while (!piece.empty()) {
      if (packed == 0 && (piece.size() >= record_bytes || final_piece)) {
        const auto part = piece.substr(0, record_bytes);
        if (!encrypt(part)) return Io::failed;
        piece.remove_prefix(part.size());
        continue;
      }
      const size_t count = std::min(piece.size(), record_bytes - packed);
      std::memcpy(w.record.data() + packed, piece.data(), count);
      packed += count;
      piece.remove_prefix(count);
      if (packed < record_bytes) continue;
      packed = 0;
      if (!encrypt({w.record.data(), record_bytes})) return Io::failed;
    }
  }
  if (packed > 0 && !encrypt({w.record.data(), packed})) return Io::failed;
  return send_window();
}

bool Stream::encrypt(std::string_view bytes) {
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

Io Stream::send_window() {
  auto& w = window();
  const std::string_view bytes(w.out.data(), std::exchange(w.out_size, 0));
  if (bytes.empty()) return pending() ? Io::again : Io::ok;
  return send_plain({&bytes, 1});
}

Io Stream::send_plain(std::span<const std::string_view> pieces) {
  if (write_broken_ || !is_open()) return Io::failed;
  ASSERT(pieces.size() <= pieces_max);
  size_t sent = 0;
  if (output_.empty() && writable) {
    std::array<iovec, pieces_max> parts;
    size_t total = 0;
    for (size_t i = 0; i < pieces.size(); ++i) {
      parts[i] = {const_cast<char*>(pieces[i].data()), pieces[i].size()};
      total += pieces[i].size();
    }
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = pieces.size();
    const ssize_t count = pieces.size() == 1
                              ? ::send(fd(), pieces[0].data(), pieces[0].size(), MSG_NOSIGNAL)
                              : ::sendmsg(fd(), &message, MSG_NOSIGNAL);
    if (count < 0 && errno != EAGAIN && errno != EINTR) return send_failed(errno);
    sent = count < 0 ? 0 : static_cast<size_t>(count);
    bytes_sent_ += sent;
    if (sent == total) return Io::ok;
    writable = false;
  }
  for (std::string_view piece : pieces) {
    const size_t skipped = std::min(sent, piece.size());
    sent -= skipped;
    output_.append(piece.substr(skipped));
  }
  return Io::again;
}

Io Stream::flush() {
  if (failed() || write_broken_ || !is_open()) return Io::failed;
  while (!output_.empty()) {
    if (!writable) return Io::again;
    const ssize_t count = ::send(fd(), output_.data(), output_.size(), MSG_NOSIGNAL);
    if (count < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) return send_failed(errno);
      writable = false;
      return Io::again;
    }
    if (static_cast<size_t>(count) < output_.size()) writable = false;
    bytes_sent_ += static_cast<size_t>(count);
    output_.consume(static_cast<size_t>(count));
    output_.trim();
  }
  return Io::ok;
}

Io Stream::send_failed(int cause) {
  write_broken_ = true;
  output_.clear();
  failure_cause_ = cause;
  return Io::failed;
}

// --- waiting and ending

void Stream::on_ready() {
  if (writable) writing.poll();
  if (readable && is_open()) reading.poll();
  if (hung_up && is_open() && !reading.occupied() && observer_ != nullptr) observer_->on_hang_up();
}

Io Stream::break_off(ErrorKind kind, const char* text, int cause) {
  if (failure_ == nullptr) {
    failure_ = text;
    failure_kind_ = kind;
    failure_cause_ = cause;
  }
  return Io::failed;
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

void Stream::fail(ErrorKind kind, const char* text) {
  break_off(kind, text);
  writing.poll();
  reading.poll();
}

base::Error Stream::error() const {
  base::Error error(failure_kind_, error_text(), failure_cause_);
  error.side = side_;
  return error;
}

void Stream::shutdown_write() {
  if (!is_open()) return;
  if (ssl_ != nullptr && handshaken_ && !failed() && !write_broken_) {
    SSL_shutdown(ssl_);
    ERR_clear_error();
    send_window();
  }
  if (!pending()) ::shutdown(fd(), SHUT_WR);
}

void Stream::close() {
  reactor_.close(*this);
  observer_ = nullptr;
}

void Stream::abort() {
  if (!is_open()) return;
  const linger now{1, 0};
  setsockopt(fd(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close();
}

}  // namespace gatehouse::tls
