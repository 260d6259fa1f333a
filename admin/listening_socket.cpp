#include "admin/listening_socket.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <fmt/format.h>

namespace gatehouse::admin {

using base::Error;
using base::ErrorKind;
using base::Result;

namespace {

constexpr int backlog = 64;
constexpr mode_t socket_mode = 0600;
constexpr mode_t folder_mode = 0755;

sockaddr_un unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// Whether a process answers there. A full backlog (EAGAIN) is one that lives.
bool somebody_listens(const std::string& path) {
  const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return false;
  const sockaddr_un address = unix_address(path);
  const int outcome =
      ::connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  const bool lives = outcome == 0 || (errno != ECONNREFUSED && errno != ENOENT);
  ::close(probe);
  return lives;
}

Result<void> make_way(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return {};
  if (!S_ISSOCK(status.st_mode)) {
    return Error(ErrorKind::invalid,
                 fmt::format("server.admin: {} exists and is not a socket; remove it or choose "
                             "another path",
                             path));
  }
  if (somebody_listens(path)) {
    return Error(ErrorKind::unavailable,
                 fmt::format("server.admin: another gatehouse answers on {}; stop it, or give this "
                             "one its own server.admin",
                             path));
  }
  if (::unlink(path.c_str()) != 0) {
    return base::from_errno(errno,
                            fmt::format("server.admin: cannot remove the stale socket {}", path));
  }
  return {};
}

Result<void> make_folder(const std::string& path, std::optional<Owner> owner) {
  const auto folder = std::filesystem::path(path).parent_path();
  if (folder.empty() || ::mkdir(folder.c_str(), folder_mode) == 0) {
    if (!folder.empty() && owner && ::chown(folder.c_str(), owner->user, owner->group) != 0)
      return base::from_errno(
          errno, fmt::format("server.admin: cannot give {} to server.user", folder.string()));
    return {};
  }
  if (errno == EEXIST) return {};
  return base::from_errno(
      errno, fmt::format("server.admin: cannot create the folder {}; create it for this user, or "
                         "set server.admin to a path that it may write",
                         folder.string()));
}

int open_tcp(const boost::asio::ip::tcp::endpoint& endpoint) {
  const int descriptor =
      ::socket(endpoint.protocol().family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0) return -1;
  const int on = 1;
  ::setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (::bind(descriptor, endpoint.data(), static_cast<socklen_t>(endpoint.size())) == 0 &&
      ::listen(descriptor, backlog) == 0) {
    return descriptor;
  }
  const int problem = errno;
  ::close(descriptor);
  errno = problem;
  return -1;
}

// The mode is set before the name exists: there is no moment at which others could connect.
int open_unix(const std::string& path, std::optional<Owner> owner) {
  const int descriptor = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0) return -1;
  const sockaddr_un address = unix_address(path);
  if (::fchmod(descriptor, socket_mode) == 0 &&
      ::bind(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
      (!owner || ::lchown(path.c_str(), owner->user, owner->group) == 0) &&
      ::listen(descriptor, backlog) == 0) {
    return descriptor;
  }
  const int problem = errno;
  ::close(descriptor);
  errno = problem;
  return -1;
}

Error cannot_listen(const Address& address) {
  const int code = errno;
  if (code == EADDRINUSE) {
    return Error(ErrorKind::unavailable,
                 fmt::format("server.admin: {} is in use by another program; find it with 'ss "
                             "-ltnp', or choose another port",
                             address.text),
                 code);
  }
  return base::from_errno(code, fmt::format("server.admin: cannot listen on {}", address.text));
}

}  // namespace

Result<ListeningSocket> ListeningSocket::open(const Address& address, std::optional<Owner> owner) {
  ListeningSocket socket;
  if (address.unix_path.empty()) {
    socket.descriptor_ = open_tcp(address.tcp);
    if (socket.descriptor_ < 0) return cannot_listen(address);
    return socket;
  }
  if (auto made = make_folder(address.unix_path, owner); !made) return made.error();
  if (auto clear = make_way(address.unix_path); !clear) return clear.error();
  socket.descriptor_ = open_unix(address.unix_path, owner);
  if (socket.descriptor_ < 0) return cannot_listen(address);
  struct stat status {};
  if (::lstat(address.unix_path.c_str(), &status) == 0) {
    socket.unix_path_ = address.unix_path;
    socket.device_ = status.st_dev;
    socket.inode_ = status.st_ino;
  }
  return socket;
}

ListeningSocket::~ListeningSocket() {
  if (descriptor_ >= 0) ::close(descriptor_);
  struct stat status {};
  if (!unix_path_.empty() && ::lstat(unix_path_.c_str(), &status) == 0 &&
      status.st_dev == device_ && status.st_ino == inode_) {
    ::unlink(unix_path_.c_str());
  }
}

uint16_t ListeningSocket::port() const {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  if (::getsockname(descriptor_, reinterpret_cast<sockaddr*>(&storage), &size) != 0) return 0;
  if (storage.ss_family == AF_INET)
    return ntohs(reinterpret_cast<const sockaddr_in*>(&storage)->sin_port);
  if (storage.ss_family == AF_INET6)
    return ntohs(reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_port);
  return 0;
}

void ListeningSocket::swap(ListeningSocket& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(unix_path_, other.unix_path_);
  std::swap(device_, other.device_);
  std::swap(inode_, other.inode_);
}

}  // namespace gatehouse::admin
