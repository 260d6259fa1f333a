// Which proxies in front of us are believed, and in what: server.trusted_proxies.
//
// Pure: reads no header and changes no field (introduction, rewrite). Any thread.
#pragma once

#include <string>

#include <boost/asio/ip/address.hpp>

#include "config/snapshot.hpp"
#include "http/message.hpp"
#include "proxy/exchange.hpp"

namespace gatehouse::proxy {

bool contains(const std::vector<config::Network>& networks,
              const boost::asio::ip::address& address);

/// Whether a new connection begins with a PROXY header: the option is on, and the peer is a trusted
/// proxy or came over a Unix socket, which only programs of this machine can reach.
bool must_introduce(const config::Server& server, const ClientFacts& peer);

/// Whether X-Forwarded-* and Forwarded of this client are believed. Where a PROXY header came, the
/// client is who it names: the sender has passed the request's fields on unread, so it does not
/// answer for them.
bool believes_fields(const config::Server& server, const ClientFacts& client);

/// Of a client whose fields are believed: the address in X-Forwarded-For nearest to us that is no
/// trusted proxy's, or the farthest. Empty: the field says nothing that could be used.
std::string forwarded_client(const config::Server& server, const http::RequestHead& request);

}  // namespace gatehouse::proxy
