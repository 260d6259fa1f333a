#include "proxy/pool.hpp"

#include <algorithm>

#include "proxy/upstream.hpp"

namespace gatehouse::proxy {

using base::Metric;
using http::ClientConnection;
using http::ClientStream;

namespace {

base::Error takes_no_request(const http::Origin& origin) {
  return base::Error(base::ErrorKind::unavailable, base::Side::upstream, base::Retry::always,
                     origin.text + " takes no request on a new connection");
}

}  // namespace

/// A connection and its place in the pool.
struct Pool::Entry final : ClientConnection::Keeper {
  Entry(Pool& p, size_t e, std::unique_ptr<ClientConnection> c)
      : pool(p), endpoint_id(e), connection(std::move(c)) {
    connection->keep(this);
  }
  void on_change(ClientConnection&) override {
    if (!beginning) pool.settle(*this);
  }
  /// A new connection's first request may be where it turns out to be ended.
  ClientStream* begin(const ClientConnection::Settings& settings) {
    beginning = true;
    ClientStream* const stream = connection->begin(settings);
    beginning = false;
    pool.settle(*this);  // which frees it if there is no stream
    return stream;
  }

  Pool& pool;
  const size_t endpoint_id;
  size_t index = 0;  // among its endpoint's
  bool beginning = false;
  bool listed = false;
  bool counted = false;  // as idle
  const void* owner = nullptr;
  std::unique_ptr<ClientConnection> connection;
};

void Pool::Lease::release() {
  if (stream_ == nullptr) return;
  Entry& entry = *std::exchange(entry_, nullptr);
  entry.pool.release(entry, *std::exchange(stream_, nullptr));
}

Pool::Pool(base::Reactor& reactor, base::MetricShard& metrics)
    : reactor_(reactor), metrics_(metrics) {}

Pool::~Pool() {
  reactor_.forget(handing_);
  clear();
}

Pool::Lease Pool::acquire(size_t endpoint_id, const ClientConnection::Settings& settings,
                          const void* owner) {
  auto& available = at(endpoint_id).available;
  for (;;) {
    const auto newest = std::find_if(available.rbegin(), available.rend(),
                                     [&](const Entry* each) { return each->owner == owner; });
    if (newest == available.rend()) return {};
    Entry& entry = **newest;
    ClientStream* const stream = entry.begin(settings);
    if (stream != nullptr) return Lease(entry, *stream);
  }
}

void Pool::Opening::cancel() {
  cancelled_ = true;
  // Either is the end of whoever waits, and of this.
  if (waiting_ != nullptr) return waiting_->set();
  connecting_.cancel();
}

base::Task<base::Result<Pool::Lease>> Pool::open(const Endpoint& endpoint, config::Duration timeout,
                                                 const ClientConnection::Settings& settings,
                                                 Owner owner, Opening& opening) {
  // Either way one task: nothing of this frame is needed while it runs.
  if (endpoint.origin.multiplexed() && owner.id == nullptr) {
    return join(endpoint, timeout, settings, opening);
  }
  return connect(endpoint, timeout, settings, owner, opening);
}

base::Task<base::Result<Pool::Lease>> Pool::connect(const Endpoint& endpoint,
                                                    config::Duration timeout,
                                                    const ClientConnection::Settings& settings,
                                                    Owner owner, Opening& opening) {
  auto connecting = http::connect(reactor_, metrics_, endpoint.origin, at(endpoint.id).resolved,
                                  timeout, settings, owner.introduction, opening.connecting_);
  auto connected = co_await connecting;
  auto noted = note(std::move(connected), endpoint.id);
  if (!noted) co_return noted.error();
  Entry& entry = **noted;
  entry.owner = owner.id;
  if (owner.id != nullptr) has_owned_ = true;
  if (ClientStream* const stream = entry.begin(settings)) co_return Lease(entry, *stream);
  // It has said so already: by GOAWAY, by a limit of no streams, or by closing.
  co_return takes_no_request(endpoint.origin);
}

/// Waits for the connection that is being made, or has one made, or for room on another.
base::Task<base::Result<Pool::Lease>> Pool::join(const Endpoint& endpoint, config::Duration timeout,
                                                 const ClientConnection::Settings& settings,
                                                 Opening& opening) {
  auto& kept = at(endpoint.id);
  const auto until = reactor_.now() + timeout;
  for (;;) {
    Waiting waiting;
    reactor_.arm(waiting, std::chrono::duration_cast<std::chrono::milliseconds>(
                              std::max(until - reactor_.now(), base::Monotonic::duration{})));
    kept.waiting.push_back(&waiting);
    opening.waiting_ = &waiting.turn;
    if (kept.connecting == nullptr) {
      base::spawn(connect_for_all(endpoint.id, endpoint.origin, timeout, settings));
    }
    co_await waiting.turn;
    opening.waiting_ = nullptr;
    std::erase(kept.waiting, &waiting);
    if (opening.cancelled_) {
      co_return base::Error(base::ErrorKind::cancelled, base::Side::downstream, base::Retry::never,
                            "the client went away");
    }
    if (waiting.problem) co_return *waiting.problem;
    Lease lease = acquire(endpoint.id, settings);
    if (lease) co_return std::move(lease);
    if (reactor_.now() >= until) break;
  }
  co_return base::Error(base::ErrorKind::timeout, base::Side::upstream, base::Retry::always,
                        "no connection to " + endpoint.origin.text +
                            " had room for the request within timeouts.upstream_connect");
}

/// One after the other, for as long as somebody waits. A connect under way goes on even if they all
/// give up: the next request will want it.
base::Task<void> Pool::connect_for_all(size_t endpoint_id, http::Origin origin,
                                       config::Duration timeout,
                                       ClientConnection::Settings settings) {
  auto& kept = at(endpoint_id);
  http::Connecting connecting;
  kept.connecting = &connecting;
  do {
    auto making =
        http::connect(reactor_, metrics_, origin, kept.resolved, timeout, settings, {}, connecting);
    auto made = co_await making;
    auto noted = note(std::move(made), endpoint_id);
    if (noted) {
      settle(**noted);
      // One that has ended already: the next would do so too.
      if (kept.available.empty()) give_up(kept, takes_no_request(origin));
      hand_out(kept);
    } else {
      give_up(kept, noted.error());
    }
  } while (!kept.waiting.empty());
  kept.connecting = nullptr;
}

/// A new connection has room for one at least: everybody's turn comes.
void Pool::hand_out(Kept& kept) {
  while (!kept.waiting.empty() && !kept.available.empty()) {
    Waiting& first = *kept.waiting.front();
    kept.waiting.pop_front();
    first.turn.set();
  }
}

void Pool::give_up(Kept& kept, const base::Error& problem) {
  for (Waiting* each : kept.waiting) each->problem = problem;
  while (!kept.waiting.empty() && kept.waiting.front()->problem) {
    Waiting& first = *kept.waiting.front();
    kept.waiting.pop_front();
    first.turn.set();
  }
}

void Pool::Handing::on_deferred() {
  for (size_t i = 0; i < pool.kept_.size(); ++i) {
    if (pool.kept_[i] != nullptr) hand_out(*pool.kept_[i]);
  }
}

base::Result<Pool::Entry*> Pool::note(
    base::Result<std::unique_ptr<http::ClientConnection>> connected, size_t endpoint_id) {
  metrics_.add(Metric::upstream_connects);
  if (connected) return &add(endpoint_id, std::move(*connected));
  metrics_.add(Metric::upstream_connect_failures);
  return connected.error();
}

Pool::Entry& Pool::add(size_t endpoint_id, std::unique_ptr<ClientConnection> connection) {
  auto& entries = at(endpoint_id).entries;
  auto entry = std::make_unique<Entry>(*this, endpoint_id, std::move(connection));
  entry->index = entries.size();
  return *entries.emplace_back(std::move(entry));
}

void Pool::release(Entry& entry, ClientStream& stream) {
  entry.connection->end(stream);
  settle(entry);
}

/// Puts the connection where its state wants it; frees it if nothing will come of it any more.
void Pool::settle(Entry& entry) {
  const bool available = entry.connection->available();
  if (entry.listed && !available) withdraw(entry);
  if (entry.connection->finished()) return discard(entry);
  if (available && !entry.listed) {
    Kept& kept = at(entry.endpoint_id);
    entry.listed = true;
    kept.available.push_back(&entry);
    if (!kept.waiting.empty()) reactor_.defer(handing_);
  }
  note_idle(entry);
  auto& listed = at(entry.endpoint_id).available;
  if (listed.size() > idle_max && listed.front()->connection->idle()) discard(*listed.front());
}

void Pool::note_idle(Entry& entry) {
  const bool idle = entry.connection->idle();
  if (idle == entry.counted) return;
  entry.counted = idle;
  metrics_.add(Metric::upstream_idle, idle ? 1 : -1);
}

void Pool::withdraw(Entry& entry) {
  auto& available = at(entry.endpoint_id).available;
  entry.listed = false;
  if (available.back() == &entry) {
    available.pop_back();
  } else {
    available.erase(std::find(available.begin(), available.end(), &entry));
  }
}

void Pool::discard(Entry& entry) {
  if (entry.listed) withdraw(entry);
  if (entry.counted) metrics_.add(Metric::upstream_idle, -1);
  entry.connection->keep(nullptr);
  entry.connection->stream().close();
  reactor_.retire(std::move(entry.connection));
  auto& entries = at(entry.endpoint_id).entries;
  std::swap(entries[entry.index], entries.back());
  entries[entry.index]->index = entry.index;
  entries.pop_back();
}

void Pool::forget(const void* owner) {
  if (!has_owned_) return;
  for (auto& kept : kept_) {
    if (kept == nullptr) continue;
    for (size_t i = kept->entries.size(); i > 0; --i) {
      if (kept->entries[i - 1]->owner == owner) discard(*kept->entries[i - 1]);
    }
  }
}

void Pool::clear() {
  for (auto& kept : kept_) {
    if (kept == nullptr) continue;
    if (kept->connecting != nullptr) kept->connecting->cancel();
    for (size_t i = kept->entries.size(); i > 0; --i) {
      if (kept->entries[i - 1]->connection->idle()) discard(*kept->entries[i - 1]);
    }
  }
}

Pool::Kept& Pool::at(size_t endpoint_id) {
  if (endpoint_id >= kept_.size()) kept_.resize(endpoint_id + 1);
  auto& kept = kept_[endpoint_id];
  if (kept == nullptr) kept = std::make_unique<Kept>();
  return *kept;
}

}  // namespace gatehouse::proxy
