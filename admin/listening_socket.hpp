// The socket the admin interface listens on: bound so that nobody else can use it.
//
// Does not accept (server). Control thread, at start-up.
#pragma once

#include <optional>
#include <sys/types.h>
#include <utility>

#include "admin/address.hpp"
#include "base/error.hpp"

namespace gatehouse::admin {

/// Who shall own the socket file and a folder made for it: the user that root is about to become.
struct Owner {
  uid_t user = 0;
  gid_t group = 0;
};

class ListeningSocket {
 public:
  /// A Unix socket is created 0600, in a folder that is created 0755 if it is missing; a stale
  /// socket file is replaced, and one that a process listens on is an error.
  static base::Result<ListeningSocket> open(const Address& address, std::optional<Owner> owner);

  ListeningSocket(ListeningSocket&& other) noexcept { swap(other); }
  ListeningSocket& operator=(ListeningSocket&& other) noexcept {
    swap(other);
    return *this;
  }
  /// Closes it, and removes the socket file if it is still the one created here.
  ~ListeningSocket();

  int descriptor() const { return descriptor_; }
  /// The port that was bound, for port 0.
  uint16_t port() const;

 private:
  ListeningSocket() = default;
  void swap(ListeningSocket& other) noexcept;

  int descriptor_ = -1;
  std::string unix_path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace gatehouse::admin
