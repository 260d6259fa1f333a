// The admin interface's own small HTTP server: a Unix socket, or TCP with a token.
//
// Not the data path, and no endpoint's meaning (api). Lives on the control thread's io_context.
// Every connection, head, body and wait is bounded.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "admin/listening_socket.hpp"
#include "base/error.hpp"

namespace gatehouse::admin {

struct Request {
  std::string method;
  std::string path;   // without the query, as received
  std::string query;  // without the question mark
  std::string body;
};

struct Response {
  Response() = default;
  Response(int code, std::string type, std::string text)
      : status(code), content_type(std::move(type)), body(std::move(text)) {}

  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::string allow;  // with 405
};

using Handler = std::function<boost::asio::awaitable<Response>(Request request)>;

struct ServerSettings {
  std::string address;         // see Address
  std::string token;           // required on TCP: "Authorization: Bearer TOKEN"
  std::optional<Owner> owner;  // of the Unix socket
};

class Server {
 public:
  static constexpr size_t connections_max = 64;
  static constexpr size_t head_bytes_max = 16 * 1024;
  static constexpr size_t body_bytes_max = 1024 * 1024;
  static constexpr std::chrono::seconds request_timeout{10};   // to receive a request
  static constexpr std::chrono::seconds response_timeout{60};  // to answer it

  Server(boost::asio::io_context& control, Handler handler);
  /// As stop().
  ~Server();

  /// Binds. Errors name the address and the way out. Nothing is accepted before run().
  base::Result<void> listen(ServerSettings settings);
  void run();
  /// Closes the listener and every connection, and removes the socket file.
  void stop();

  /// The port bound, with a TCP address of port 0.
  uint16_t port() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace gatehouse::admin
