// What the load clients share: TLS connections to one address that do not block, in one epoll set.
// Not a library: one thread, and a mistake ends the program.
#pragma once

#include <arpa/inet.h>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string>
#include <string_view>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

using Clock = std::chrono::steady_clock;

[[noreturn]] inline void fail(const std::string& what) {
  std::cerr << "bench: " << what << '\n';
  std::exit(1);
}

struct Target {
  sockaddr_in address{};
  std::string name;
  std::string path;
};

/// ADDRESS PORT NAME PATH, as on the command line.
inline Target parse_target(char** arguments) {
  Target target;
  target.address.sin_family = AF_INET;
  target.address.sin_port = htons(static_cast<uint16_t>(std::atoi(arguments[1])));
  if (inet_pton(AF_INET, arguments[0], &target.address.sin_addr) != 1)
    fail("ADDRESS is an IPv4 address");
  target.name = arguments[2];
  target.path = arguments[3];
  return target;
}

struct Connection {
  int fd = -1;
  SSL* ssl = nullptr;

  Connection() = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() {
    if (ssl) SSL_free(ssl);
    if (fd >= 0) close(fd);
  }
};

/// `protocol` is what ALPN asks for; with "" it is not sent.
inline SSL_CTX* client_context(std::string_view protocol) {
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256");
  SSL_CTX_set1_groups_list(context, "X25519");
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  if (!protocol.empty()) {
    std::string list = static_cast<char>(protocol.size()) + std::string(protocol);
    SSL_CTX_set_alpn_protos(context, reinterpret_cast<const unsigned char*>(list.data()),
                            static_cast<unsigned>(list.size()));
  }
  return context;
}

/// Begins to connect; events of the descriptor carry `c`.
inline void open_connection(Connection& c, SSL_CTX* context, const Target& target, int poll,
                            void* events_carry) {
  c.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (c.fd < 0) fail("socket: too many open files? raise ulimit -n");
  int one = 1;
  setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  // Closing with a reset leaves no TIME_WAIT behind: a minute of load would use every port.
  linger abort_on_close{1, 0};
  setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &abort_on_close, sizeof abort_on_close);
  const auto* address = reinterpret_cast<const sockaddr*>(&target.address);
  if (connect(c.fd, address, sizeof target.address) != 0 && errno != EINPROGRESS)
    fail("cannot connect: is the proxy running?");
  c.ssl = SSL_new(context);
  SSL_set_fd(c.ssl, c.fd);
  SSL_set_tlsext_host_name(c.ssl, target.name.c_str());
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLET;
  event.data.ptr = events_carry;
  epoll_ctl(poll, EPOLL_CTL_ADD, c.fd, &event);
}

/// What one step of a connection wants next.
enum class Next { read, write, idle, failed };

inline Next wanted(SSL* ssl, int result) {
  switch (SSL_get_error(ssl, result)) {
    case SSL_ERROR_WANT_READ:
      return Next::read;
    case SSL_ERROR_WANT_WRITE:
      return Next::write;
    default:
      return Next::failed;
  }
}

inline void allow_many_files() {
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
}
