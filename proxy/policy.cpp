#include "proxy/policy.hpp"

namespace gatehouse::proxy {

namespace {

http::Http1Server::Settings server_settings(const config::Snapshot& snapshot) {
  http::Http1Server::Settings settings;
  settings.head = {snapshot.limits.request_header, snapshot.limits.request_fields};
  settings.body_bytes_max = snapshot.limits.request_body;
  settings.body_bytes_a_second = snapshot.limits.request_body_rate;
  settings.header_timeout = snapshot.timeouts.request_header;
  settings.idle_timeout = snapshot.timeouts.idle;
  settings.body_timeout = snapshot.timeouts.body;
  return settings;
}

http::Http2Server::Settings http2_server_settings(const config::Snapshot& snapshot) {
  http::Http2Server::Settings settings;
  settings.session.head = {snapshot.limits.request_header, snapshot.limits.request_fields};
  settings.session.streams_max = snapshot.limits.http2_streams;
  settings.session.header_timeout = snapshot.timeouts.request_header;
  settings.session.stall_timeout = snapshot.timeouts.body;
  settings.body_bytes_max = snapshot.limits.request_body;
  settings.body_bytes_a_second = snapshot.limits.request_body_rate;
  settings.idle_timeout = snapshot.timeouts.idle;
  settings.body_timeout = snapshot.timeouts.body;
  return settings;
}

http::ClientConnection::Settings client_settings(const config::Snapshot& snapshot) {
  http::ClientConnection::Settings settings;
  settings.response_timeout = snapshot.timeouts.upstream_response;
  settings.body_timeout = snapshot.timeouts.body;
  settings.idle_timeout = snapshot.timeouts.upstream_idle;
  return settings;
}

}  // namespace

base::Result<std::shared_ptr<const Policy>> Policy::build(config::SnapshotPtr snapshot,
                                                          UpstreamRegistry& registry) {
  std::shared_ptr<Policy> policy(new Policy(snapshot));
  auto upstreams = registry.build(*snapshot);
  if (!upstreams) return upstreams.error();
  for (const auto& name : policy->router.upstream_names()) {
    Upstream upstream = std::move(upstreams->at(name));
    upstream.index = policy->upstreams.size();
    for (const auto& endpoint : upstream.endpoints) {
      upstream.balanced.push_back({endpoint.state.get(), endpoint.settings->weight,
                                   endpoint.settings->backup,
                                   std::hash<std::string>{}(endpoint.settings->text)});
    }
    policy->upstreams.push_back(std::move(upstream));
  }
  auto tls12 = tls::Context::server(config::TlsVersion::tls12);
  if (!tls12) return tls12.error();
  auto tls13 = tls::Context::server(config::TlsVersion::tls13);
  if (!tls13) return tls13.error();
  auto challenge = tls::Context::challenge();
  if (!challenge) return challenge.error();
  policy->challenge = *challenge;
  policy->tls12 = *tls12;
  policy->tls13 = *tls13;
  policy->server = server_settings(*snapshot);
  policy->http2_server = http2_server_settings(*snapshot);
  policy->client = client_settings(*snapshot);
  policy->https_port = 0;
  for (const auto& address : snapshot->server.https) {
    if (address.unix_path.empty() && policy->https_port == 0) policy->https_port = address.port;
  }
  return std::shared_ptr<const Policy>(std::move(policy));
}

}  // namespace gatehouse::proxy
