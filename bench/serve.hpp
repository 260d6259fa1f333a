// What the origins share: one plain listener on loopback and all its connections in one epoll set.
// Not a library: one thread, and a mistake ends the program.
#pragma once

#include <optional>

#include "connection.hpp"

inline int listen_on(int port) {
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener, 1024) != 0)
    fail("cannot listen on port " + std::to_string(port));
  return listener;
}

/// One connection of an origin's, closed when this goes.
class Peer {
 public:
  explicit Peer(int fd) : fd_(fd) {}
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  ~Peer() { close(fd_); }

 protected:
  /// What has come, in `bytes`; empty: nothing yet. Nothing: the connection is over.
  template <size_t size>
  std::optional<std::string_view> read(char (&bytes)[size]) {
    ssize_t got = recv(fd_, bytes, size, 0);
    if (got > 0) return std::string_view(bytes, static_cast<size_t>(got));
    if (got < 0 && errno == EAGAIN) return std::string_view();
    return std::nullopt;
  }
  /// A message each connection: the socket's buffer has room. False: the connection is over.
  bool write(std::string_view bytes) {
    return send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
  }

 private:
  int fd_;
};

/// Serves for ever. An Origin is a Peer whose on_readable() is false once the connection is over.
template <class Origin>
[[noreturn]] void serve(int port) {
  int listener = listen_on(port);
  int poll = epoll_create1(0);
  epoll_event event{};
  event.events = EPOLLIN;
  epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    epoll_event events[256];
    int count = epoll_wait(poll, events, 256, -1);
    for (int i = 0; i < count; ++i) {
      auto* peer = static_cast<Origin*>(events[i].data.ptr);
      if (peer) {
        if (!peer->on_readable()) delete peer;
        continue;
      }
      int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) continue;
      event.data.ptr = new Origin(fd);
      epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
    }
  }
}
