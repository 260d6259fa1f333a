// What changes in the fields of a message on its way through.
//
// Hop-by-hop fields are already marked by http::rules; this adds and replaces. Works by marking
// `skip` and adding, on the worker's thread; allocates only where a setting of the site asks for
// it.
#pragma once

#include <string>
#include <string_view>

#include "config/snapshot.hpp"
#include "http/message.hpp"

namespace gatehouse::proxy {

/// What is known of the client's side of a request.
struct Downstream {
  std::string_view address;  // text, no port
  bool encrypted = false;
  bool trusted = false;  // one of server.trusted_proxies
};

/// X-Forwarded-For, -Proto, -Host and Via; a client's own are replaced unless it is trusted; then
/// the site's request_headers.
void rewrite_request(http::RequestHead& head, const Downstream& downstream,
                     const config::Site& site);
/// Date, if the origin sent none; Via; Strict-Transport-Security on encrypted connections; then the
/// site's response_headers.
void rewrite_response(http::ResponseHead& head, bool encrypted, const config::Site& site);

/// The Host to be sent upstream: the request's, the endpoint's, or a literal.
std::string_view upstream_host(const http::RequestHead& head, const config::Upstream& upstream,
                               const config::Endpoint& endpoint);

/// Takes `prefix` off the path ("/api/x" without "/api" is "/x", "/api?q" is "/?q"), only where a
/// segment ends. A target that had to be normalised to show the prefix is forwarded normalised.
void strip_prefix(http::RequestHead& head, std::string_view prefix);

/// A redirect's Location: {uri} {host} {path} {query} replaced. Empty: it would hold characters
/// that no Location may.
std::string redirect_location(const config::Redirect& redirect, const http::RequestHead& head);

}  // namespace gatehouse::proxy
