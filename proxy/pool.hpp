// Connections to upstream endpoints: kept while idle, shared while they can carry more requests.
//
// Does not choose endpoints (balancer) or know versions of HTTP (http/client_connection). Lives on
// one worker; a pool never shares a connection with another thread.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "base/metrics.hpp"
#include "base/reactor.hpp"
#include "base/task.hpp"
#include "http/client_connection.hpp"
#include "http/connect.hpp"

namespace gatehouse::proxy {

struct Endpoint;

class Pool {
 private:
  struct Entry;

 public:
  /// Connections kept for one endpoint while nothing is on them; the oldest goes when one more
  /// comes.
  static constexpr size_t idle_max = 512;
  /// One request's stream on a connection of the pool's. Gives it back when it ends.
  class Lease {
   public:
    Lease() = default;
    Lease(Lease&& other) noexcept
        : entry_(std::exchange(other.entry_, nullptr)),
          stream_(std::exchange(other.stream_, nullptr)) {}
    Lease& operator=(Lease&& other) noexcept {
      std::swap(entry_, other.entry_);
      std::swap(stream_, other.stream_);
      return *this;
    }
    ~Lease() { release(); }
    void release();

    explicit operator bool() const { return stream_ != nullptr; }
    http::ClientStream* operator->() const { return stream_; }
    http::ClientStream& operator*() const { return *stream_; }

   private:
    friend class Pool;
    Lease(Entry& entry, http::ClientStream& stream) : entry_(&entry), stream_(&stream) {}
    Entry* entry_ = nullptr;
    http::ClientStream* stream_ = nullptr;
  };

  Pool(base::Reactor& reactor, base::MetricShard& metrics);
  ~Pool();

  /// Who alone may use a connection, because a PROXY header at its start names them.
  struct Owner {
    const void* id = nullptr;       // null: it may serve any client
    std::string_view introduction;  // the header; outlives the opening
  };

  /// A stream on a connection that is there, the newest first: it is the least likely to have been
  /// closed by the other side while idle. `settings` hold from now on. `owner`: only on one that
  /// was opened for it. Empty: there is none.
  Lease acquire(size_t endpoint_id, const http::ClientConnection::Settings& settings,
                const void* owner = nullptr);
  /// One request's wait for a new connection, which somebody may end.
  class Opening {
   public:
    void cancel();

   private:
    friend class Pool;
    http::Connecting connecting_;
    base::Event* waiting_ = nullptr;
    bool cancelled_ = false;
  };
  /// A stream on a new connection. Requests to an endpoint whose connections carry many wait, for
  /// `timeout` at the most, in line: for the one connection that is being made, or for room on
  /// another. `endpoint` and `opening` outlive the task.
  base::Task<base::Result<Lease>> open(const Endpoint& endpoint, config::Duration timeout,
                                       const http::ClientConnection::Settings& settings,
                                       Owner owner, Opening& opening);
  /// Closes the connections of an owner that is going: nobody else may use them.
  void forget(const void* owner);
  /// Closes everything idle, and what is being made for many (at stop).
  void clear();

 private:
  /// A request that waits for room.
  struct Waiting final : base::Timer {
    Waiting() : Timer([](Timer& self) { static_cast<Waiting&>(self).turn.set(); }) {}
    base::Event turn;                    // to look for it; or all is over
    std::optional<base::Error> problem;  // no connection can be made
  };
  struct Kept {
    std::vector<std::unique_ptr<Entry>> entries;
    std::vector<Entry*> available;  // the newest last
    http::ResolvedAddresses resolved;
    std::deque<Waiting*> waiting;            // the first of them came first
    http::Connecting* connecting = nullptr;  // one is being made for them
  };
  /// Hands on what has become free, outside of whoever freed it.
  struct Handing final : base::Deferred {
    explicit Handing(Pool& p) : pool(p) {}
    void on_deferred() override;
    Pool& pool;
  };

  Kept& at(size_t endpoint_id);
  base::Task<base::Result<Lease>> connect(const Endpoint& endpoint, config::Duration timeout,
                                          const http::ClientConnection::Settings& settings,
                                          Owner owner, Opening& opening);
  base::Task<base::Result<Lease>> join(const Endpoint& endpoint, config::Duration timeout,
                                       const http::ClientConnection::Settings& settings,
                                       Opening& opening);
  base::Task<void> connect_for_all(size_t endpoint_id, http::Origin origin,
                                   config::Duration timeout,
                                   http::ClientConnection::Settings settings);
  static void hand_out(Kept& kept);
  static void give_up(Kept& kept, const base::Error& problem);
  base::Result<Entry*> note(base::Result<std::unique_ptr<http::ClientConnection>> connected,
                            size_t endpoint_id);
  Entry& add(size_t endpoint_id, std::unique_ptr<http::ClientConnection> connection);
  void release(Entry& entry, http::ClientStream& stream);
  void settle(Entry& entry);
  void note_idle(Entry& entry);
  void withdraw(Entry& entry);
  void discard(Entry& entry);

  base::Reactor& reactor_;
  base::MetricShard& metrics_;
  std::vector<std::unique_ptr<Kept>> kept_;
  Handing handing_{*this};
  bool has_owned_ = false;  // some connection with an owner was kept
};

}  // namespace gatehouse::proxy
