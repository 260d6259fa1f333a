// One request from its head to the end of its response, or of the tunnel that it asked for: route,
// admit, pick, forward, retry, record.
//
// Sees only http::ServerStream and http::ClientStream, no version of HTTP. A coroutine on one
// worker's thread.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include <boost/asio/ip/tcp.hpp>

#include "base/reactor.hpp"
#include "base/task.hpp"
#include "http/rules.hpp"
#include "http/stream.hpp"

namespace gatehouse::proxy {

class Worker;

/// What is known of the connection that a request came on.
struct ClientFacts {
  boost::asio::ip::address address;  // with a Unix socket, which has none: 127.0.0.1
  uint16_t port = 0;
  std::string text;          // the address, without port
  bool unix_socket = false;  // `address` stands in for one that nobody knows
  bool unnamed = false;      // a PROXY header came, and it named nobody: `address` is its sender's
  std::optional<boost::asio::ip::tcp::endpoint> destination;  // as a PROXY header said
  const base::Source* socket = nullptr;                       // the client's, for getsockname
  bool encrypted = false;
  std::string server_name;  // SNI; empty: none, or plain
  std::string_view tls_version;
  bool stand_in = false;  // served behind a self-signed stand-in: requests get 503
  std::chrono::seconds retry_after{0};
  std::string why;  // of a stand-in, for the access log: visitors are not told
};

/// Answers the stream's request. Never fails: whatever goes wrong has been answered, or the stream
/// was aborted, and recorded once when the task ends. `facts` and `stream` outlive the task.
base::Task<void> answer(Worker& worker, const ClientFacts& facts, http::ServerStream& stream);

/// Records a request that was malformed and never became an exchange.
void log_refusal(Worker& worker, const ClientFacts& facts, http::ServerStream& stream,
                 const http::Refusal& refusal);

}  // namespace gatehouse::proxy
