// The PROXY protocol on the way in and out: whom a connection that a proxy made is for.
//
// Not the header's bytes (http/proxy_header), and not who is believed (trust). Lives on one
// worker's thread.
#pragma once

#include "base/task.hpp"
#include "http/proxy_header.hpp"
#include "proxy/exchange.hpp"
#include "tls/stream.hpp"

namespace gatehouse::proxy {

/// Reads until the header is whole or cannot become one, and takes it out of the stream. Has no
/// deadline of its own: whoever waits fails the stream. `need_more`: the stream ended before.
base::Task<http::ProxyHeaderParse> read_introduction(tls::Stream& stream);

/// From here on the client is who the header names; otherwise it stays the peer.
void take_introduction(const http::ProxyHeader& header, ClientFacts& facts);

/// Where the client connected to: as a PROXY header said, else the socket's own address. None: a
/// Unix socket.
std::optional<boost::asio::ip::tcp::endpoint> destination_of(const ClientFacts& facts);

/// Why a stream ended before its header was whole; null: nothing was refused, the peer said nothing
/// and left, or we closed it.
const char* missing_introduction(tls::Stream& stream);

/// Says once a second at most why a trusted proxy's connections are closed: its administrator and
/// ours must agree on the option.
void log_refused_introduction(const ClientFacts& peer, const char* problem,
                              base::Monotonic::time_point now);

/// The header for a new connection to an origin, on behalf of this client.
http::ProxyHeaderText introduce(config::ProxyProtocol version, const ClientFacts& facts);

}  // namespace gatehouse::proxy
