#include "proxy/listener.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.hpp"

namespace gatehouse::proxy {

namespace asio = boost::asio;
namespace log = base::log;
using base::Error;
using base::ErrorKind;

namespace {

/// What a person can do about a failed bind.
std::string remedy(int cause, const config::ListenAddress& address) {
  const auto port = std::to_string(address.port);
  switch (cause) {
    case EADDRINUSE:
      if (!address.unix_path.empty()) return "another program listens there";
      return "another program uses port " + port + "; `ss -ltnp 'sport = :" + port +
             "'` shows which one";
    case EACCES:
    case EPERM:
      if (!address.unix_path.empty()) return "the folder cannot be written";
      return "ports below 1024 need root, the systemd unit, or `setcap "
             "cap_net_bind_service=+ep` on the program";
    case EADDRNOTAVAIL:
      return "no interface of this machine has that address";
    default:
      return std::strerror(cause);
  }
}

Error bind_error(int cause, const config::ListenAddress& address) {
  auto error = base::from_errno(cause, "");
  error.context = "cannot listen on " + address.text + ": " + remedy(cause, address);
  return error;
}

base::Result<sockaddr_storage> socket_address(const config::ListenAddress& address,
                                              socklen_t& size) {
  sockaddr_storage storage{};
  if (!address.unix_path.empty()) {
    auto& local = reinterpret_cast<sockaddr_un&>(storage);
    if (address.unix_path.size() >= sizeof local.sun_path) {
      return Error(ErrorKind::invalid, "cannot listen on " + address.text +
                                           ": the path is longer than " +
                                           std::to_string(sizeof local.sun_path - 1) + " bytes");
    }
    local.sun_family = AF_UNIX;
    std::memcpy(local.sun_path, address.unix_path.data(), address.unix_path.size());
    size = sizeof local;
    return storage;
  }
  boost::system::error_code failed;
  const auto host = address.host.empty() ? asio::ip::address(asio::ip::address_v6::any())
                                         : asio::ip::make_address(address.host, failed);
  if (failed) {
    return Error(ErrorKind::invalid, "cannot listen on " + address.text +
                                         ": write an address of this machine, not a name");
  }
  const asio::ip::tcp::endpoint endpoint(host, address.port);
  std::memcpy(&storage, endpoint.data(), endpoint.size());
  size = static_cast<socklen_t>(endpoint.size());
  return storage;
}

/// A Unix socket that nobody listens on any more stands in the way.
void remove_stale(const config::ListenAddress& address, const sockaddr_storage& where,
                  socklen_t size) {
  const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (probe < 0) return;
  const bool dead = ::connect(probe, reinterpret_cast<const sockaddr*>(&where), size) != 0 &&
                    errno == ECONNREFUSED;
  struct stat found {};
  if (dead && ::stat(address.unix_path.c_str(), &found) == 0 && S_ISSOCK(found.st_mode)) {
    ::unlink(address.unix_path.c_str());
  }
  ::close(probe);
}

void set(int fd, int level, int option, int value) {
  setsockopt(fd, level, option, &value, sizeof value);
}

}  // namespace

asio::ip::tcp::endpoint internet_endpoint(const sockaddr_storage& storage) {
  if (storage.ss_family == AF_INET) {
    const auto& inet = reinterpret_cast<const sockaddr_in&>(storage);
    return {asio::ip::address_v4(ntohl(inet.sin_addr.s_addr)), ntohs(inet.sin_port)};
  }
  if (storage.ss_family != AF_INET6) return {asio::ip::address_v4::loopback(), 0};
  const auto& inet6 = reinterpret_cast<const sockaddr_in6&>(storage);
  asio::ip::address_v6::bytes_type bytes;
  std::memcpy(bytes.data(), &inet6.sin6_addr, bytes.size());
  const asio::ip::address_v6 address(bytes);
  if (!address.is_v4_mapped()) return {address, ntohs(inet6.sin6_port)};
  return {asio::ip::make_address_v4(asio::ip::v4_mapped, address), ntohs(inet6.sin6_port)};
}

base::Result<BoundSocket> BoundSocket::bind(const config::ListenAddress& address, bool first) {
  socklen_t size = 0;
  auto where = socket_address(address, size);
  if (!where) return where.error();
  const bool local = !address.unix_path.empty();
  int fd = ::socket(where->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0 && errno == EAFNOSUPPORT && address.host.empty() && !local) {
    // A machine without IPv6: ":443" then means every IPv4 address.
    config::ListenAddress ipv4 = address;
    ipv4.host = "0.0.0.0";
    return bind(ipv4, first);
  }
  if (fd < 0) return bind_error(errno, address);
  BoundSocket socket(fd);
  if (first && !local) {
    // SO_REUSEPORT would let us share a port with a program that has it too, and each would get
    // half of the connections: a socket without it finds out.
    const int probe = ::socket(where->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (probe < 0) return bind_error(errno, address);
    const BoundSocket closes(probe);
    set(probe, SOL_SOCKET, SO_REUSEADDR, 1);
    if (where->ss_family == AF_INET6) {
      set(probe, IPPROTO_IPV6, IPV6_V6ONLY, address.host.empty() ? 0 : 1);
    }
    if (::bind(probe, reinterpret_cast<const sockaddr*>(&*where), size) != 0) {
      return bind_error(errno, address);
    }
  }
  if (local) {
    remove_stale(address, *where, size);
  } else {
    set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);  // accepted sockets inherit it
    if (where->ss_family == AF_INET6)
      set(fd, IPPROTO_IPV6, IPV6_V6ONLY, address.host.empty() ? 0 : 1);
  }
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&*where), size) != 0 ||
      ::listen(fd, Listener::backlog) != 0) {
    return bind_error(errno, address);
  }
  return socket;
}

base::Result<BoundSocket> BoundSocket::duplicate() const {
  const int fd = ::fcntl(fd_, F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return base::from_errno(errno, "cannot duplicate a listening socket");
  return BoundSocket(fd);
}

BoundSocket::~BoundSocket() {
  if (fd_ >= 0) ::close(fd_);
}

Listener::PauseTimer::PauseTimer(Listener& l)
    : Timer([](Timer& self) { static_cast<PauseTimer&>(self).listener.resume_accepting(); }),
      listener(l) {}

Listener::Listener(base::Reactor& reactor, base::MetricShard& metrics,
                   config::ListenAddress address, bool encrypted, Accept accept)
    : reactor_(reactor),
      metrics_(metrics),
      address_(std::move(address)),
      encrypted_(encrypted),
      accept_(std::move(accept)),
      pause_timer_(*this),
      descriptors_max_(base::descriptors_within(client_descriptors_percent)),
      reserve_(::open("/dev/null", O_RDONLY | O_CLOEXEC)) {}

Listener::~Listener() {
  reactor_.close(*this);
  if (reserve_ >= 0) ::close(reserve_);
}

bool Listener::start(BoundSocket socket) {
  return reactor_.add_listener(*this, socket.release(), shared());
}

void Listener::finish() {
  if (!shared()) {
    for (int i = 0; i < backlog && accept_one(); ++i) continue;
  }
  pause_timer_.disarm();
  reactor_.close(*this);
}

// Level-triggered: one connection an event, so that a flood of them leaves time for the others.
void Listener::on_ready() {
  accept_one();
}

bool Listener::accept_one() {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  const int fd = ::accept4(this->fd(), reinterpret_cast<sockaddr*>(&storage), &size,
                           SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd >= 0 && fd < descriptors_max_) {
    accept_(*this, fd, internet_endpoint(storage));
    return true;
  }
  if (fd >= 0) {
    ::close(fd);
    metrics_.add(base::Metric::connections_refused);
    pause_accepting(EMFILE);
    return false;
  }
  const int cause = errno;
  if (!base::out_of_resources(cause)) return false;
  turn_one_away();
  pause_accepting(cause);
  return false;
}

// The reserve lets one client be told (by a close) rather than left waiting.
void Listener::turn_one_away() {
  if (reserve_ >= 0) ::close(reserve_);
  const int fd = ::accept4(this->fd(), nullptr, nullptr, SOCK_CLOEXEC);
  if (fd >= 0) {
    ::close(fd);
    metrics_.add(base::Metric::connections_refused);
  }
  reserve_ = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
}

// Out of descriptors or memory: accepting rests, so that a full table costs no CPU.
void Listener::pause_accepting(int cause) {
  metrics_.add(base::Metric::accept_paused);
  static log::Throttle throttle;
  if (throttle.allows(reactor_.now())) {
    log::error(
        "cannot accept a connection on {}: {}; raise the limit of open files (ulimit -n, or "
        "LimitNOFILE= in the unit)",
        address_.text, std::strerror(cause));
  }
  reactor_.remove(*this);
  reactor_.arm(pause_timer_, pause);
}

void Listener::resume_accepting() {
  if (fd() >= 0) reactor_.add_listener(*this, fd(), shared());
}

}  // namespace gatehouse::proxy
