// One listening socket of one worker.
//
// Hands accepted descriptors on and knows nothing of what they carry. Lives on that worker's
// thread; bind() is called on the control thread before.
#pragma once

#include <functional>
#include <string>
#include <sys/socket.h>

#include <boost/asio/ip/tcp.hpp>

#include "base/error.hpp"
#include "base/metrics.hpp"
#include "base/reactor.hpp"
#include "config/snapshot.hpp"

namespace gatehouse::proxy {

/// A bound socket that is not accepted from yet. Owns the descriptor.
class BoundSocket {
 public:
  /// Binds and listens: SO_REUSEPORT for TCP, so that each worker has a socket of its own; Unix
  /// sockets are bound once and shared. `first`: nobody else may listen there, also not with
  /// SO_REUSEPORT. The error names the address and the way out.
  static base::Result<BoundSocket> bind(const config::ListenAddress& address, bool first);
  /// Another descriptor of the same Unix socket.
  base::Result<BoundSocket> duplicate() const;

  BoundSocket(BoundSocket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  BoundSocket& operator=(BoundSocket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~BoundSocket();
  int release() { return std::exchange(fd_, -1); }

 private:
  explicit BoundSocket(int fd) : fd_(fd) {}
  int fd_ = -1;
};

/// Of an Internet socket address, an IPv6-mapped one as IPv4; of any other family 127.0.0.1:0.
boost::asio::ip::tcp::endpoint internet_endpoint(const sockaddr_storage& storage);

class Listener final : public base::Source, public base::Retirable {
 public:
  static constexpr int backlog = 4096;
  /// Of the descriptors that the process may have, clients take no more than these: the rest is for
  /// connections to origins, files and the admin interface.
  static constexpr unsigned client_descriptors_percent = 75;
  /// How long accepting rests after the process ran out of descriptors or memory.
  static constexpr std::chrono::milliseconds pause{100};

  using Accept =
      std::function<void(Listener& listener, int fd, const boost::asio::ip::tcp::endpoint& peer)>;

  Listener(base::Reactor& reactor, base::MetricShard& metrics, config::ListenAddress address,
           bool encrypted, Accept accept);
  ~Listener() override;

  bool start(BoundSocket socket);
  /// Accepts what the kernel has already queued, then closes.
  void finish();

  const config::ListenAddress& address() const { return address_; }
  bool encrypted() const { return encrypted_; }
  /// A Unix socket, which all workers accept from.
  bool shared() const { return !address_.unix_path.empty(); }

 private:
  struct PauseTimer : base::Timer {
    explicit PauseTimer(Listener& l);
    Listener& listener;
  };

  void on_ready() override;
  bool accept_one();
  void turn_one_away();
  void pause_accepting(int cause);
  void resume_accepting();

  base::Reactor& reactor_;
  base::MetricShard& metrics_;
  config::ListenAddress address_;
  bool encrypted_;
  Accept accept_;
  PauseTimer pause_timer_;
  int descriptors_max_;  // numbers are given lowest first, so this many are in use below it
  int reserve_ = -1;     // a descriptor to give up when there are no others
};

}  // namespace gatehouse::proxy
