// Where the admin interface listens: "unix:/path" or "host:port".
//
// Shared by the server and the client. Pure, any thread.
#pragma once

#include <string>

#include <boost/asio/ip/tcp.hpp>

#include "base/error.hpp"

namespace gatehouse::admin {

struct Address {
  std::string text;       // as written
  std::string unix_path;  // not empty: a Unix socket
  boost::asio::ip::tcp::endpoint tcp;
};

/// "unix:/run/gatehouse/admin.sock", "127.0.0.1:2019", "[::1]:2019", "localhost:2019" (IPv4), and
/// ":2019" for every address. Names other than localhost are refused: nothing is resolved.
base::Result<Address> parse_address(const std::string& text);

}  // namespace gatehouse::admin
