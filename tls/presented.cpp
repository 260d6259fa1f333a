#include "tls/presented.hpp"

#include <array>
#include <cerrno>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/ip/tcp.hpp>
#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "base/encoding.hpp"
#include "tls/openssl.hpp"

namespace gatehouse::tls {

namespace {

using base::Error;
using base::ErrorKind;
using base::Result;
using Deadline = std::chrono::steady_clock::time_point;

class Socket {
 public:
  explicit Socket(int descriptor) : descriptor_(descriptor) {}
  ~Socket() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int value() const { return descriptor_; }

 private:
  int descriptor_;
};

/// False when the time is up.
bool ready(int descriptor, short events, Deadline end) {
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        end - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd wish{descriptor, events, 0};
    const int count = ::poll(&wish, 1, static_cast<int>(left.count()));
    if (count > 0) return true;
    if (count == 0 || errno != EINTR) return false;
  }
}

Error too_late(const std::string& where) {
  return Error(ErrorKind::timeout, fmt::format("{} does not answer", where));
}

Result<void> connect(int descriptor, const boost::asio::ip::tcp::endpoint& endpoint,
                     const std::string& where, Deadline end) {
  const auto* const address = static_cast<const sockaddr*>(endpoint.data());
  if (::connect(descriptor, address, static_cast<socklen_t>(endpoint.size())) == 0) return {};
  if (errno != EINPROGRESS) return base::from_errno(errno, "cannot connect to " + where);
  if (!ready(descriptor, POLLOUT, end)) return too_late(where);
  int code = 0;
  socklen_t size = sizeof code;
  ::getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &size);
  if (code != 0) return base::from_errno(code, "cannot connect to " + where);
  return {};
}

/// The verdict is asked for afterwards: what is refused is looked at all the same.
SslContextPtr make_context(const std::string& more_roots) {
  SslContextPtr context(SSL_CTX_new(TLS_client_method()));
  if (!context) return context;
  SSL_CTX_set_default_verify_paths(context.get());
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_NONE, nullptr);
  const BioPtr text(BIO_new_mem_buf(more_roots.data(), static_cast<int>(more_roots.size())));
  while (text) {
    const X509Ptr root(PEM_read_bio_X509(text.get(), nullptr, nullptr, nullptr));
    if (!root) break;
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context.get()), root.get());
  }
  ERR_clear_error();
  return context;
}

bool name_server(SSL* ssl, const std::string& name) {
  boost::system::error_code code;
  boost::asio::ip::make_address(name, code);
  if (!code) return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name.c_str()) == 1;
  return SSL_set_tlsext_host_name(ssl, name.c_str()) == 1 && SSL_set1_host(ssl, name.c_str()) == 1;
}

Result<void> shake_hands(SSL* ssl, int descriptor, const std::string& where, Deadline end) {
  for (;;) {
    ERR_clear_error();
    errno = 0;
    const int result = SSL_connect(ssl);
    if (result == 1) return {};
    const int code = errno;
    const int reason = SSL_get_error(ssl, result);
    if (reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE) {
      if (!ready(descriptor, reason == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, end))
        return too_late(where);
      continue;
    }
    if (reason == SSL_ERROR_SYSCALL)
      return Error(ErrorKind::reset, fmt::format("{} ended the connection in the handshake", where),
                   code);
    return openssl_error(ErrorKind::tls, fmt::format("{} refused the handshake", where));
  }
}

Result<Presented> read_presented(SSL* ssl, const std::string& where) {
  const X509Ptr leaf(SSL_get1_peer_certificate(ssl));
  if (!leaf) return Error(ErrorKind::tls, fmt::format("{} shows no certificate", where));
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned int length = 0;
  if (X509_digest(leaf.get(), EVP_sha256(), digest.data(), &length) != 1)
    return openssl_error(ErrorKind::tls, fmt::format("{} shows an odd certificate", where));
  Presented out;
  out.leaf = chain_link(leaf.get());
  out.fingerprint = base::hex({reinterpret_cast<const char*>(digest.data()), length});
  out.self_signed = (X509_get_extension_flags(leaf.get()) & EXFLAG_SS) != 0;
  const long verdict = SSL_get_verify_result(ssl);
  if (verdict != X509_V_OK) out.objection = X509_verify_cert_error_string(verdict);
  ERR_clear_error();
  return out;
}

}  // namespace

Result<Presented> look_at_certificate(const std::string& address, uint16_t port,
                                      const std::string& server_name, const std::string& more_roots,
                                      std::chrono::milliseconds wait) {
  const Deadline end = std::chrono::steady_clock::now() + wait;
  boost::system::error_code code;
  const auto ip = boost::asio::ip::make_address(address, code);
  if (code) return Error(ErrorKind::invalid, fmt::format("{} is no IP address", address));
  const boost::asio::ip::tcp::endpoint endpoint(ip, port);
  const std::string where =
      ip.is_v6() ? fmt::format("[{}]:{}", address, port) : fmt::format("{}:{}", address, port);
  const Socket socket(
      ::socket(endpoint.protocol().family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (socket.value() < 0) return base::from_errno(errno, "cannot open a socket");
  if (auto connected = connect(socket.value(), endpoint, where, end); !connected)
    return connected.error();
  const SslContextPtr context = make_context(more_roots);
  const SslPtr ssl(context ? SSL_new(context.get()) : nullptr);
  if (!ssl || !name_server(ssl.get(), server_name) || SSL_set_fd(ssl.get(), socket.value()) != 1)
    return openssl_error(ErrorKind::tls, "cannot begin a handshake");
  if (auto shaken = shake_hands(ssl.get(), socket.value(), where, end); !shaken)
    return shaken.error();
  return read_presented(ssl.get(), where);
}

}  // namespace gatehouse::tls
