#include "admin/server.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <list>
#include <string_view>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <fmt/format.h>

#include "base/log.hpp"

namespace gatehouse::admin {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::awaitable;
using base::Error;
using base::ErrorKind;
using Socket = asio::generic::stream_protocol::socket;
using HttpRequest = http::request<http::string_body>;
using HttpResponse = http::response<http::string_body>;

namespace {

constexpr std::chrono::milliseconds accept_pause{100};

bool same_secret(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned difference = 0;
  for (size_t i = 0; i < a.size(); ++i)
    difference |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i]);
  return difference == 0;
}

// "example:2019" → "example", "[::1]:2019" → "::1".
std::string host_of(std::string_view authority) {
  if (authority.starts_with('[')) return std::string(authority.substr(1, authority.find(']') - 1));
  return std::string(authority.substr(0, authority.find(':')));
}

// A name that a page of an attacker could be bound to (DNS rebinding) is not this server's.
bool own_host(std::string_view authority) {
  const std::string host = host_of(authority);
  boost::system::error_code code;
  asio::ip::make_address(host, code);
  return !code || host == "localhost";
}

bool own_origin(std::string_view origin, std::string_view host) {
  return origin == fmt::format("http://{}", host) || origin == fmt::format("https://{}", host);
}

bool changes_something(http::verb method) {
  return method != http::verb::get && method != http::verb::head && method != http::verb::options;
}

Response refusal(int status, std::string_view reason) {
  return Response(status, "application/json", fmt::format(R"({{"error":"{}"}})", reason));
}

// Why a request is turned away before any endpoint sees it. On a Unix socket the file's mode has
// already said who may ask.
std::optional<Response> turn_away(const HttpRequest& request, bool tcp, const std::string& token) {
  const std::string_view type = request[http::field::content_type];
  const bool json = type.starts_with("application/json");
  if (!tcp) {
    if (changes_something(request.method()) && !request.body().empty() && !json)
      return refusal(415, "send Content-Type: application/json");
    return std::nullopt;
  }
  constexpr std::string_view scheme = "Bearer ";
  const std::string_view credentials = request[http::field::authorization];
  if (!own_host(request[http::field::host]))
    return refusal(403, "the Host field is not an address of this server");
  const std::string_view origin = request[http::field::origin];
  if (!origin.empty() && !own_origin(origin, request[http::field::host]))
    return refusal(403, "the Origin field is another site's");
  if (!credentials.starts_with(scheme) || !same_secret(credentials.substr(scheme.size()), token))
    return refusal(401, "send Authorization: Bearer with the token of server.admin_token_file");
  if (changes_something(request.method()) && !json)
    return refusal(415, "send Content-Type: application/json");
  return std::nullopt;
}

// The parser's complaint, rather than the connection's end.
bool is_malformed(const boost::system::error_code& code) {
  return code.category() == http::make_error_code(http::error::bad_value).category() &&
         code != http::error::end_of_stream && code != http::error::partial_message;
}

Request request_from(HttpRequest& message) {
  Request request;
  const std::string_view target = message.target();
  const size_t question = target.find('?');
  request.method = std::string(message.method_string());
  request.path = std::string(target.substr(0, question));
  if (question != std::string_view::npos) request.query = std::string(target.substr(question + 1));
  request.body = std::move(message.body());
  return request;
}

HttpResponse message_from(Response response, const HttpRequest& request, bool keep_alive) {
  HttpResponse message;
  message.version(11);
  message.result(static_cast<unsigned>(response.status));
  message.set(http::field::content_type, response.content_type);
  message.set(http::field::cache_control, "no-store");
  message.set("X-Content-Type-Options", "nosniff");
  if (response.status == 401) message.set(http::field::www_authenticate, "Bearer");
  if (!response.allow.empty()) message.set(http::field::allow, response.allow);
  message.keep_alive(keep_alive);
  message.body() = std::move(response.body);
  message.prepare_payload();
  if (request.method() == http::verb::head) message.body().clear();
  return message;
}

}  // namespace

/// One connection; what its coroutine needs, kept where stop() can close it.
struct Connection {
  Connection(Socket accepted, asio::io_context& control)
      : socket(std::move(accepted)), deadline(control) {}
  Socket socket;
  asio::steady_timer deadline;
};

struct Server::State : std::enable_shared_from_this<Server::State> {
  State(asio::io_context& io, Handler endpoint)
      : control(io), handler(std::move(endpoint)), listener(io) {}

  awaitable<void> accept_all();
  awaitable<void> serve(std::shared_ptr<Connection> connection);
  awaitable<bool> serve_one(std::shared_ptr<Connection> connection,
                            boost::beast::flat_buffer& buffer);
  awaitable<Response> answer(HttpRequest& message);
  void limit(const std::shared_ptr<Connection>& connection, std::chrono::seconds wait);

  asio::io_context& control;
  Handler handler;
  bool tcp = false;
  std::string token;
  std::optional<ListeningSocket> bound;
  asio::posix::stream_descriptor listener;  // a duplicate of bound's: readable = a client waits
  std::list<std::shared_ptr<Connection>> connections;
  bool stopped = false;
};

awaitable<void> Server::State::accept_all() {
  const auto self = shared_from_this();
  asio::steady_timer pause(control);
  while (!stopped) {
    boost::system::error_code code;
    co_await listener.async_wait(asio::posix::stream_descriptor::wait_read,
                                 asio::redirect_error(asio::use_awaitable, code));
    if (stopped) co_return;
    const int accepted =
        ::accept4(listener.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (accepted < 0 || connections.size() >= connections_max) {
      if (accepted >= 0) ::close(accepted);
      if (accepted < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)) continue;
      pause.expires_after(accept_pause);
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, code));
      continue;
    }
    Socket socket(control);
    socket.assign(asio::generic::stream_protocol(tcp ? AF_INET : AF_UNIX, 0), accepted, code);
    auto connection = std::make_shared<Connection>(std::move(socket), control);
    connections.push_back(connection);
    asio::co_spawn(control, serve(std::move(connection)), asio::detached);
  }
}

awaitable<void> Server::State::serve(std::shared_ptr<Connection> connection) {
  const auto self = shared_from_this();
  boost::beast::flat_buffer buffer(head_bytes_max + body_bytes_max);
  try {
    for (bool more = true; more && !stopped;) more = co_await serve_one(connection, buffer);
  } catch (const std::exception& problem) {
    base::log::error("admin: a request failed: {}", problem.what());
  }
  connection->deadline.cancel();
  boost::system::error_code ignored;
  connection->socket.shutdown(Socket::shutdown_both, ignored);
  connection->socket.close(ignored);
  connections.remove(connection);
}

// False when the connection is at its end.
awaitable<bool> Server::State::serve_one(std::shared_ptr<Connection> connection,
                                         boost::beast::flat_buffer& buffer) {
  http::request_parser<http::string_body> parser;
  parser.header_limit(head_bytes_max);
  parser.body_limit(body_bytes_max);
  boost::system::error_code code;
  limit(connection, request_timeout);
  co_await http::async_read(connection->socket, buffer, parser,
                            asio::redirect_error(asio::use_awaitable, code));
  const bool too_large = code == http::error::header_limit || code == http::error::body_limit;
  const bool malformed = is_malformed(code);
  if (code && !too_large && !malformed) co_return false;
  limit(connection, response_timeout);
  HttpRequest request = parser.release();
  Response response;
  if (too_large) {
    response = refusal(413, "the request is too large");
  } else if (malformed) {
    response = refusal(400, "the request is malformed");
  } else {
    response = co_await answer(request);
  }
  const bool keep = !code && request.keep_alive();
  HttpResponse message = message_from(std::move(response), request, keep);
  http::response_serializer<http::string_body> serializer(message);
  co_await http::async_write(connection->socket, serializer,
                             asio::redirect_error(asio::use_awaitable, code));
  co_return keep && !code;
}

awaitable<Response> Server::State::answer(HttpRequest& message) {
  std::optional<Response> refused = turn_away(message, tcp, token);
  if (refused) co_return std::move(*refused);
  Request request = request_from(message);
  Response response = co_await handler(std::move(request));
  co_return response;
}

// Past the deadline the connection is closed, whatever it is doing.
void Server::State::limit(const std::shared_ptr<Connection>& connection,
                          std::chrono::seconds wait) {
  connection->deadline.expires_after(wait);
  connection->deadline.async_wait([held = std::weak_ptr<Connection>(connection)](auto code) {
    const auto late = held.lock();
    if (code || !late) return;
    boost::system::error_code ignored;
    late->socket.close(ignored);
  });
}

Server::Server(asio::io_context& control, Handler handler)
    : state_(std::make_shared<State>(control, std::move(handler))) {}

Server::~Server() {
  stop();
}

base::Result<void> Server::listen(ServerSettings settings) {
  auto address = parse_address(settings.address);
  if (!address) return address.error();
  state_->tcp = address->unix_path.empty();
  if (state_->tcp && settings.token.empty()) {
    return Error(ErrorKind::invalid,
                 fmt::format("server.admin: {} is reachable by every program on the network; set "
                             "server.admin_token_file, or use a Unix socket",
                             settings.address));
  }
  auto bound = ListeningSocket::open(*address, settings.owner);
  if (!bound) return bound.error();
  state_->bound.emplace(std::move(*bound));
  state_->token = std::move(settings.token);
  boost::system::error_code code;
  state_->listener.assign(::fcntl(state_->bound->descriptor(), F_DUPFD_CLOEXEC, 0), code);
  if (code) return Error(ErrorKind::io, "server.admin: " + code.message(), code.value());
  return {};
}

void Server::run() {
  asio::co_spawn(state_->control, state_->accept_all(), asio::detached);
}

void Server::stop() {
  if (state_->stopped) return;
  state_->stopped = true;
  boost::system::error_code ignored;
  state_->listener.close(ignored);
  state_->bound.reset();
  for (const auto& connection : state_->connections) {
    connection->deadline.cancel();
    connection->socket.close(ignored);
  }
}

uint16_t Server::port() const {
  return state_->bound ? state_->bound->port() : 0;
}

}  // namespace gatehouse::admin
