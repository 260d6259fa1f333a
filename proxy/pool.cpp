#include "proxy/pool.hpp"

#include <algorithm>

namespace gatehouse::proxy {

using base::Metric;
using Client = std::unique_ptr<http::Http1Client>;

Pool::~Pool() {
  clear();
}

Client Pool::acquire(size_t endpoint_id, const http::Http1Client::Settings& settings) {
  auto& idle = at(endpoint_id).idle;
  while (!idle.empty()) {
    Client client = std::move(idle.back());
    idle.pop_back();
    metrics_.add(Metric::upstream_idle, -1);
    if (client->wake(settings)) return client;
    discard(std::move(client));
  }
  return nullptr;
}

void Pool::release(size_t endpoint_id, Client client) {
  if (!client->reusable()) return discard(std::move(client));
  auto& idle = at(endpoint_id).idle;
  if (idle.size() == idle_max) {
    discard(std::move(idle.front()));
    idle.erase(idle.begin());
    metrics_.add(Metric::upstream_idle, -1);
  }
  client->rest(*this);
  idle.push_back(std::move(client));
  metrics_.add(Metric::upstream_idle);
}

void Pool::discard(Client client) {
  client->stream().close();
  reactor_.retire(std::move(client));
}

void Pool::clear() {
  for (auto& kept : kept_) {
    if (kept == nullptr) continue;
    metrics_.add(Metric::upstream_idle, -static_cast<int64_t>(kept->idle.size()));
    for (auto& client : kept->idle) discard(std::move(client));
    kept->idle.clear();
  }
}

void Pool::on_idle_lost(http::Http1Client& client) {
  for (auto& kept : kept_) {
    if (kept == nullptr) continue;
    const auto found = std::find_if(kept->idle.begin(), kept->idle.end(),
                                    [&](const Client& each) { return each.get() == &client; });
    if (found == kept->idle.end()) continue;
    Client lost = std::move(*found);
    kept->idle.erase(found);
    metrics_.add(Metric::upstream_idle, -1);
    return discard(std::move(lost));
  }
}

Pool::Kept& Pool::at(size_t endpoint_id) {
  if (endpoint_id >= kept_.size()) kept_.resize(endpoint_id + 1);
  auto& kept = kept_[endpoint_id];
  if (kept == nullptr) kept = std::make_unique<Kept>();
  return *kept;
}

}  // namespace gatehouse::proxy
