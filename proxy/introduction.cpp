#include "proxy/introduction.hpp"

#include <sys/socket.h>

#include "base/log.hpp"
#include "proxy/listener.hpp"

namespace gatehouse::proxy {

namespace ip = boost::asio::ip;
using http::ProxyHeader;
using http::ProxyHeaderParse;

namespace {

/// The client is worth naming even if nobody can say where it connected to: zeroes then.
ip::tcp::endpoint destination_or_any(const ClientFacts& facts) {
  if (const auto known = destination_of(facts)) return *known;
  if (facts.address.is_v6()) return {ip::address_v6::any(), 0};
  return {ip::address_v4::any(), 0};
}

}  // namespace

std::optional<ip::tcp::endpoint> destination_of(const ClientFacts& facts) {
  if (facts.destination) return *facts.destination;
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  const bool known =
      facts.socket != nullptr &&
      ::getsockname(facts.socket->fd(), reinterpret_cast<sockaddr*>(&storage), &size) == 0 &&
      storage.ss_family != AF_UNIX;
  if (!known) return std::nullopt;
  return internet_endpoint(storage);
}

base::Task<ProxyHeaderParse> read_introduction(tls::Stream& stream) {
  ProxyHeaderParse parse;
  auto reading = stream.read_until([&](std::span<char> bytes) {
    parse = http::parse_proxy_header({bytes.data(), bytes.size()});
    return parse.status != ProxyHeaderParse::Status::need_more;
  });
  co_await reading;
  if (parse.status == ProxyHeaderParse::Status::complete) stream.consume(parse.header.size);
  co_return parse;
}

void take_introduction(const ProxyHeader& header, ClientFacts& facts) {
  facts.unnamed = header.speaker == ProxyHeader::Speaker::unnamed;
  if (header.speaker != ProxyHeader::Speaker::client) return;
  const auto& [source, destination] = header.addresses;
  facts.address = source.address();
  facts.port = source.port();
  facts.text = facts.address.to_string();
  facts.unix_socket = false;
  facts.destination = destination;
}

const char* missing_introduction(tls::Stream& stream) {
  if (stream.failed()) {
    const bool late = stream.error_kind() == base::ErrorKind::timeout;
    return late ? "it did not come within timeouts.handshake" : nullptr;
  }
  return stream.unread_size() == 0 ? nullptr : "the connection ended inside it";
}

void log_refused_introduction(const ClientFacts& peer, const char* problem,
                              base::Monotonic::time_point now) {
  static base::log::Throttle throttle;
  if (!throttle.allows(now)) return;
  base::log::warn(
      "closed a connection of {}: PROXY header: {}; with server.proxy_protocol every connection of "
      "trusted_proxies and of Unix sockets must begin with one",
      peer.unix_socket ? "a Unix socket" : peer.text, problem);
}

http::ProxyHeaderText introduce(config::ProxyProtocol version, const ClientFacts& facts) {
  if (facts.unix_socket) return http::write_proxy_header(version, std::nullopt);
  return http::write_proxy_header(
      version, http::ProxyAddresses{{facts.address, facts.port}, destination_or_any(facts)});
}

}  // namespace gatehouse::proxy
