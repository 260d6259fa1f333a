#include "proxy/upstream.hpp"

namespace gatehouse::proxy {

namespace {

http::Origin make_origin(const config::Upstream& group, const config::Endpoint& endpoint,
                         tls::ContextPtr context) {
  http::Origin origin;
  origin.text = endpoint.text;
  origin.host = endpoint.host;
  origin.port = endpoint.port;
  origin.unix_path = endpoint.unix_path;
  origin.tls = std::move(context);
  origin.tls_name = group.tls.name.empty() ? endpoint.host : group.tls.name;
  origin.verify = group.tls.verify;
  origin.http2 = config::is_http2(group.protocol);
  origin.proxy_protocol = group.proxy_protocol;
  return origin;
}

/// Two endpoints with the same key may share pooled connections.
std::string identity(const config::Upstream& group, const http::Origin& origin) {
  std::string key = group.name + '\n' + origin.text + '\n' + origin.tls_name;
  if (origin.http2) key += "\nh2";
  if (origin.tls != nullptr) {
    key += "\ntls " + group.tls.ca + ' ' + group.tls.certificate + ' ' + group.tls.key +
           (group.tls.verify ? " verified" : " unverified");
  }
  if (origin.proxy_protocol == config::ProxyProtocol::v1) key += "\nPROXY v1";
  if (origin.proxy_protocol == config::ProxyProtocol::v2) key += "\nPROXY v2";
  return key;
}

}  // namespace

base::Result<std::map<std::string, Upstream>> UpstreamRegistry::build(
    const config::Snapshot& snapshot) {
  std::map<std::string, Upstream> built;
  for (const auto& [name, group] : snapshot.upstreams) {
    tls::ContextPtr context;
    const bool http2 = config::is_http2(group.protocol);
    if (config::is_encrypted(group.protocol)) {
      auto made = tls::Context::client(group.tls, http2);
      if (!made) return made.error();
      context = *made;
    }
    Upstream& upstream = built[name];
    upstream.settings = &group;
    for (const auto& settings : group.servers) {
      Endpoint endpoint;
      endpoint.settings = &settings;
      endpoint.origin = make_origin(group, settings, context);
      const auto key = identity(group, endpoint.origin);
      auto [known, added] = known_.try_emplace(key, Known{known_.size(), nullptr});
      if (added) known->second.state = std::make_shared<EndpointState>();
      endpoint.id = known->second.id;
      endpoint.state = known->second.state;
      upstream.endpoints.push_back(std::move(endpoint));
    }
  }
  return built;
}

}  // namespace gatehouse::proxy
