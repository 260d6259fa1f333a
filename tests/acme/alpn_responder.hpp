// A TLS port that proves names to a CA by TLS-ALPN-01 from a table, on a thread of its own, for
// tests of the issuer: as the proxy does, and nothing else.
#pragma once

#include <arpa/inet.h>
#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <netinet/in.h>
#include <stdexcept>
#include <string>
#include <sys/socket.h>
#include <sys/time.h>
#include <thread>
#include <unistd.h>
#include <utility>

#include <openssl/ssl.h>

#include "acme/solver/tls_alpn01.hpp"
#include "tests/support/pebble.hpp"
#include "tls/alert.hpp"
#include "tls/client_hello.hpp"
#include "tls/context.hpp"

namespace gatehouse::test {

class AlpnResponder {
 public:
  AlpnResponder() : context_(*tls::Context::challenge()), port_(free_port()) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port_);
    const int reuse = 1;
    ::setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
    if (::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener_, 64) != 0)
      throw std::runtime_error("cannot listen");
    thread_ = std::thread([this] { run(); });
  }
  ~AlpnResponder() {
    ::shutdown(listener_, SHUT_RDWR);  // ends the accept
    thread_.join();
    ::close(listener_);
  }

  void publish(acme::AlpnTablePtr table) {
    const std::lock_guard lock(mutex_);
    table_ = std::move(table);
  }
  /// From now on every hello is answered with an alert.
  void refuse(bool all) { refusing_ = all; }

  int answered() const { return answered_; }
  int asked() const { return asked_; }
  uint16_t port() const { return port_; }

 private:
  void run() {
    for (;;) {
      const int connection = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection < 0) return;
      serve(connection);
      ::close(connection);
    }
  }

  void serve(int connection) {
    const timeval patience{10, 0};
    ::setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    tls::ClientHello hello;
    std::array<uint8_t, 16 * 1024> bytes;
    auto status = tls::HelloStatus::need_more;
    while (status == tls::HelloStatus::need_more) {
      const ssize_t count = ::recv(connection, bytes.data(), bytes.size(), MSG_PEEK);
      if (count <= 0) return;
      status = tls::parse_client_hello({bytes.data(), static_cast<size_t>(count)}, hello);
    }
    if (status != tls::HelloStatus::complete || !hello.offers_acme) return;
    ++asked_;
    const auto certificate = find(hello.server_name);
    if (!certificate || refusing_) {
      const auto alert = tls::alert_record(tls::Alert::no_application_protocol);
      ::send(connection, alert.data(), alert.size(), MSG_NOSIGNAL);
      ::shutdown(connection, SHUT_WR);
      ::recv(connection, bytes.data(), bytes.size(), 0);
      return;
    }
    const std::unique_ptr<SSL, decltype([](SSL* ssl) { SSL_free(ssl); })> ssl(
        SSL_new(context_->native()));
    SSL_set_fd(ssl.get(), connection);
    SSL_use_cert_and_key(ssl.get(), certificate->leaf(), certificate->key(), certificate->chain(),
                         1);
    if (SSL_accept(ssl.get()) != 1) return;
    ++answered_;
    SSL_shutdown(ssl.get());
  }

  tls::CertificatePtr find(const std::string& name) {
    const std::lock_guard lock(mutex_);
    return acme::answer_alpn(*table_, name);
  }

  tls::ContextPtr context_;
  uint16_t port_;
  int listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  std::mutex mutex_;
  acme::AlpnTablePtr table_ = std::make_shared<acme::AlpnTable>();
  std::atomic<bool> refusing_ = false;
  std::atomic<int> answered_ = 0;
  std::atomic<int> asked_ = 0;
  std::thread thread_;
};

}  // namespace gatehouse::test
