#include "proxy/server.hpp"

#include <sched.h>
#include <set>
#include <thread>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/log.hpp"
#include "proxy/worker.hpp"

namespace gatehouse::proxy {

namespace asio = boost::asio;
namespace log = base::log;
using base::Result;

namespace {

/// A listening address and what is spoken there; the same across reloads.
struct Listening {
  config::ListenAddress address;
  bool encrypted = false;
  std::string key() const { return (encrypted ? "https " : "http ") + address.text; }
};

std::vector<Listening> listening(const config::Snapshot& snapshot) {
  std::vector<Listening> all;
  for (const auto& address : snapshot.server.https) all.push_back({address, true});
  for (const auto& address : snapshot.server.http) all.push_back({address, false});
  return all;
}

}  // namespace

struct Server::State {
  State(asio::io_context& c, base::Metrics& m, AccessLog& a, ServerHooks h)
      : control(c), metrics(m), access_log(a), hooks(std::move(h)) {}

  Result<std::vector<std::vector<BoundSocket>>> bind_all(const std::vector<Listening>& wanted);
  void listen(Worker& worker, const std::vector<Listening>& added,
              std::vector<BoundSocket> sockets);

  asio::io_context& control;
  base::Metrics& metrics;
  AccessLog& access_log;
  ServerHooks hooks;
  ConnectionLimits limits;
  UpstreamRegistry registry;
  config::SnapshotPtr snapshot;
  std::map<std::string, size_t> listener_ids;
  size_t next_listener_id = 0;
  std::vector<std::unique_ptr<Worker>> workers;
  std::vector<std::thread> threads;
};

Server::Server(asio::io_context& control, base::Metrics& metrics, AccessLog& access_log,
               ServerHooks hooks)
    : state_(std::make_unique<State>(control, metrics, access_log, std::move(hooks))) {}

Server::~Server() {
  stop();
}

size_t Server::worker_count(const config::Snapshot& snapshot) {
  if (snapshot.server.workers != 0) return snapshot.server.workers;
  cpu_set_t usable;
  CPU_ZERO(&usable);
  if (sched_getaffinity(0, sizeof usable, &usable) != 0) return 1;
  return std::max(1, CPU_COUNT(&usable));
}

Result<void> Server::bind(config::SnapshotPtr snapshot) {
  auto& s = *state_;
  auto policy = Policy::build(snapshot, s.registry);
  if (!policy) return policy.error();
  const size_t count = worker_count(*snapshot);
  for (size_t i = 0; i < count; ++i) {
    s.workers.push_back(
        std::make_unique<Worker>(i, s.metrics.worker(i), s.access_log.shard(i), s.limits, s.hooks));
    s.workers.back()->use(*policy);
  }
  const auto wanted = listening(*snapshot);
  auto sockets = s.bind_all(wanted);
  if (!sockets) return sockets.error();
  for (const auto& each : wanted) s.listener_ids[each.key()] = s.next_listener_id++;
  for (size_t i = 0; i < count; ++i) s.listen(*s.workers[i], wanted, std::move((*sockets)[i]));
  s.snapshot = std::move(snapshot);
  return {};
}

/// One socket for each worker and address: all of them, or none.
Result<std::vector<std::vector<BoundSocket>>> Server::State::bind_all(
    const std::vector<Listening>& wanted) {
  std::vector<std::vector<BoundSocket>> sockets(workers.size());
  for (const auto& each : wanted) {
    const bool shared = !each.address.unix_path.empty();
    for (size_t i = 0; i < workers.size(); ++i) {
      auto socket =
          shared && i > 0 ? sockets[0].back().duplicate() : BoundSocket::bind(each.address, i == 0);
      if (!socket) return socket.error();
      sockets[i].push_back(std::move(*socket));
    }
  }
  return sockets;
}

void Server::State::listen(Worker& worker, const std::vector<Listening>& added,
                           std::vector<BoundSocket> sockets) {
  for (size_t i = 0; i < added.size(); ++i) {
    worker.listen(listener_ids.at(added[i].key()), added[i].address, added[i].encrypted,
                  std::move(sockets[i]));
  }
}

void Server::run() {
  for (auto& worker : state_->workers) {
    state_->threads.emplace_back([&worker = *worker] { worker.run(); });
  }
}

void Server::publish(std::function<void(size_t)> change, std::function<void()> done) {
  auto& s = *state_;
  auto remaining = std::make_shared<std::atomic<size_t>>(s.workers.size());
  for (size_t i = 0; i < s.workers.size(); ++i) {
    s.workers[i]->post([change, i, remaining, done, &control = s.control] {
      change(i);
      if (remaining->fetch_sub(1) == 1 && done) asio::post(control, done);
    });
  }
}

void Server::publish_certificates(tls::CertificateTablePtr table, std::function<void()> done) {
  publish([this, table = std::move(table)](size_t i) { state_->workers[i]->use(table); },
          std::move(done));
}

void Server::publish_ticket_keys(tls::TicketKeysPtr keys, std::function<void()> done) {
  publish([keys = std::move(keys)](size_t) { tls::use_ticket_keys(keys); }, std::move(done));
}

asio::awaitable<Result<void>> Server::reload(config::SnapshotPtr snapshot) {
  auto& s = *state_;
  auto policy = Policy::build(snapshot, s.registry);
  if (!policy) co_return policy.error();
  std::vector<Listening> added;
  std::set<std::string> wanted;
  for (const auto& each : listening(*snapshot)) {
    wanted.insert(each.key());
    if (!s.listener_ids.contains(each.key())) added.push_back(each);
  }
  auto sockets = s.bind_all(added);
  if (!sockets) co_return sockets.error();
  std::vector<size_t> removed;
  std::erase_if(s.listener_ids, [&](const auto& known) {
    if (wanted.contains(known.first)) return false;
    removed.push_back(known.second);
    return true;
  });
  for (const auto& each : added) s.listener_ids[each.key()] = s.next_listener_id++;
  if (worker_count(*snapshot) != s.workers.size()) {
    log::warn("server.workers changed from {} to {}: that takes effect at the next start",
              s.workers.size(), worker_count(*snapshot));
  }
  s.snapshot = snapshot;
  const auto bound = std::make_shared<std::vector<std::vector<BoundSocket>>>(std::move(*sockets));
  asio::steady_timer switched(s.control, asio::steady_timer::time_point::max());
  publish(
      [this, policy = *policy, added, removed, bound](size_t i) {
        Worker& worker = *state_->workers[i];
        worker.use(policy);
        state_->listen(worker, added, std::move((*bound)[i]));
        for (const size_t id : removed) worker.unlisten(id);
      },
      [&switched] { switched.cancel(); });
  boost::system::error_code ignored;
  co_await switched.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  co_return Result<void>();
}

asio::awaitable<void> Server::drain() {
  auto& s = *state_;
  if (s.workers.empty() || s.threads.empty()) co_return;
  // Shared: a worker may report after the grace period is over.
  const auto grace = std::make_shared<asio::steady_timer>(s.control, s.snapshot->server.grace);
  const auto remaining = std::make_shared<std::atomic<size_t>>(s.workers.size());
  for (auto& worker : s.workers) {
    worker->post([&worker = *worker, remaining, grace, &control = s.control] {
      worker.drain([remaining, grace, &control] {
        if (remaining->fetch_sub(1) == 1) asio::post(control, [grace] { grace->cancel(); });
      });
    });
  }
  boost::system::error_code cancelled;
  co_await grace->async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
  if (remaining->load() > 0) {
    log::warn("{} connections are closed before their end: server.grace is over",
              status().connections);
  }
}

void Server::stop() {
  auto& s = *state_;
  for (auto& worker : s.workers) {
    if (!s.threads.empty()) worker->stop();
  }
  for (auto& thread : s.threads) thread.join();
  s.threads.clear();
  s.workers.clear();
}

ServerStatus Server::status() const {
  ServerStatus status;
  status.workers = state_->workers.size();
  status.connections = state_->metrics.total(base::Metric::connections_open);
  status.requests_active = state_->metrics.total(base::Metric::requests_active);
  return status;
}

}  // namespace gatehouse::proxy
