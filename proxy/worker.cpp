#include "proxy/worker.hpp"

#include <algorithm>
#include <unistd.h>

#include "proxy/trust.hpp"

namespace gatehouse::proxy {

using base::Metric;

Worker::Worker(size_t index, base::MetricShard& metrics, AccessLog::Shard& access_log,
               ConnectionLimits& limits, const ServerHooks& hooks)
    : index_(index),
      metrics_(metrics),
      access_log_(access_log),
      limits_(limits),
      hooks_(hooks),
      context_(1),
      work_(context_.get_executor()),
      reactor_(context_),
      pool_(reactor_, metrics) {}

Worker::~Worker() = default;

void Worker::run() {
  context_.run();
}

void Worker::stop() {
  post([this] {
    while (!listeners_.empty()) unlisten(listeners_.front().id);
    break_off();
    pool_.clear();
    // Once more, so that what was broken off has ended and is freed.
    post([this] {
      work_.reset();
      context_.stop();
    });
  });
}

void Worker::use(PolicyPtr policy) {
  // A counter of this worker's own: requests copy the pointer, and workers must not share a cache
  // line for that.
  const Policy* const raw = policy.get();
  policy_ = PolicyPtr(raw, [kept = std::move(policy)](const Policy*) {});
  retry_budgets_.assign(policy_->upstreams.size(), RetryBudget{});
  balance_turns_.assign(policy_->upstreams.size(), BalanceTurn{});
}

void Worker::listen(size_t id, config::ListenAddress address, bool encrypted, BoundSocket socket) {
  auto listener = std::make_unique<Listener>(
      reactor_, metrics_, std::move(address), encrypted,
      [this, id](Listener& from, int fd, const boost::asio::ip::tcp::endpoint& peer) {
        accept(id, from, fd, peer);
      });
  if (!listener->start(std::move(socket))) return;
  listeners_.push_back({id, std::move(listener)});
}

void Worker::accept(size_t id, Listener& listener, int fd,
                    const boost::asio::ip::tcp::endpoint& peer) {
  const auto refuse = [&] {
    metrics_.add(Metric::connections_refused);
    ::close(fd);
  };
  const auto& limits = policy_->snapshot->limits;
  if (!limits_.admit(limits)) return refuse();
  ClientFacts facts;
  facts.address = peer.address();
  facts.port = peer.port();
  facts.unix_socket = listener.shared();
  facts.encrypted = listener.encrypted();
  const bool introduced = must_introduce(policy_->snapshot->server, facts);
  if (!introduced && !limits_.admit_client(facts.address, limits)) {
    limits_.leave();
    return refuse();
  }
  metrics_.add(Metric::connections_accepted);
  metrics_.add(Metric::connections_open);
  auto made = std::make_unique<Connection>(*this, id, std::move(facts), introduced);
  Connection& connection = *made;
  connection.index_ = connections_.size();
  connections_.push_back(std::move(made));
  connection.start(fd);
}

bool Worker::admit_client(Connection& connection) {
  connection.counted_ = limits_.admit_client(connection.client(), policy_->snapshot->limits);
  if (!connection.counted_) metrics_.add(Metric::connections_refused);
  return connection.counted_;
}

void Worker::remove(Connection& connection) {
  if (connection.counted_) limits_.leave_client(connection.client());
  limits_.leave();
  pool_.forget(&connection.facts_);
  metrics_.add(Metric::connections_open, -1);
  connection.stream_.close();
  const size_t index = connection.index_;
  std::swap(connections_[index], connections_.back());
  connections_[index]->index_ = index;
  reactor_.retire(std::move(connections_.back()));
  connections_.pop_back();
  if (connections_.empty() && drained_) std::exchange(drained_, nullptr)();
}

void Worker::unlisten(size_t id) {
  for (auto& each : listeners_) {
    if (each.id != id) continue;
    each.listener->finish();
    reactor_.retire(std::move(each.listener));
  }
  std::erase_if(listeners_, [](const Listening& each) { return each.listener == nullptr; });
  // Draining may remove connections while we walk.
  std::vector<Connection*> affected;
  for (auto& connection : connections_) {
    if (connection->listener_id() == id) affected.push_back(connection.get());
  }
  for (Connection* connection : affected) connection->drain();
}

void Worker::drain(std::function<void()> done) {
  drained_ = std::move(done);
  while (!listeners_.empty()) unlisten(listeners_.front().id);
  std::vector<Connection*> all;
  for (auto& connection : connections_) all.push_back(connection.get());
  for (Connection* connection : all) connection->drain();
  if (connections_.empty() && drained_) std::exchange(drained_, nullptr)();
}

void Worker::break_off() {
  std::vector<Connection*> all;
  for (auto& connection : connections_) all.push_back(connection.get());
  for (Connection* connection : all) connection->break_off();
}

void Worker::acquire(const std::string& name, const std::string& client,
                     std::function<void(tls::Acquired)> deliver) {
  if (!hooks_.acquire) {
    deliver(tls::Acquired{});
    return;
  }
  // The answer comes from the control thread and is taken on this one.
  hooks_.acquire(name, client, [this, deliver = std::move(deliver)](tls::Acquired acquired) {
    post([deliver, acquired = std::move(acquired)] { deliver(acquired); });
  });
}

void Worker::seen(const std::string& name) {
  const size_t hash = std::hash<std::string>{}(name);
  Seen& slot = seen_[hash % seen_slots];
  if (!hooks_.seen || (slot.hash == hash && slot.until > reactor_.now())) return;
  slot = {hash, reactor_.now() + seen_interval};
  hooks_.seen(name);
}

}  // namespace gatehouse::proxy
