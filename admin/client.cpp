#include "admin/client.hpp"

#include <optional>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <fmt/format.h>

namespace gatehouse::admin {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::awaitable;
using base::Error;
using base::ErrorKind;
using Socket = asio::generic::stream_protocol::socket;
using Outcome = std::optional<base::Result<Answer>>;

namespace {

constexpr const char* may_go_on =
    "what it was asked for may still be under way: its log tells, and 'gatehouse certs show NAME'";

asio::generic::stream_protocol::endpoint endpoint_of(const Address& address) {
  if (address.unix_path.empty()) return address.tcp;
  return asio::local::stream_protocol::endpoint(address.unix_path);
}

// The Host that the server takes for its own: the address, as written.
std::string host_of(const Address& address) {
  if (!address.unix_path.empty()) return "localhost";
  return address.text.starts_with(':') ? "localhost" + address.text : address.text;
}

Error failure(const Address& address, const boost::system::error_code& code) {
  return base::from_errno(code.value(),
                          fmt::format("cannot ask the running gatehouse at {}", address.text));
}

awaitable<void> exchange(asio::io_context& io, const Address& address,
                         http::request<http::string_body> request, Outcome& outcome) {
  boost::system::error_code code;
  Socket socket(io);
  const auto endpoint = endpoint_of(address);
  co_await socket.async_connect(endpoint, asio::redirect_error(asio::use_awaitable, code));
  if (!code)
    co_await http::async_write(socket, request, asio::redirect_error(asio::use_awaitable, code));
  if (code) {
    outcome = failure(address, code);
    co_return;
  }
  boost::beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(Client::answer_bytes_max);
  co_await http::async_read(socket, buffer, parser,
                            asio::redirect_error(asio::use_awaitable, code));
  if (code) {
    outcome = Error(ErrorKind::protocol, fmt::format("the gatehouse at {} did not answer: {}; {}",
                                                     address.text, code.message(), may_go_on));
    co_return;
  }
  Answer answer;
  answer.status = parser.get().result_int();
  answer.body = std::move(parser.get().body());
  outcome = std::move(answer);
}

}  // namespace

base::Result<Answer> Client::request(std::string method, std::string path, std::string body) const {
  http::request<http::string_body> message;
  message.version(11);
  message.method_string(method);
  message.target(path);
  message.set(http::field::host, host_of(address_));
  message.set(http::field::connection, "close");
  message.set(http::field::content_type, "application/json");
  if (!token_.empty()) message.set(http::field::authorization, "Bearer " + token_);
  message.body() = std::move(body);
  message.prepare_payload();
  asio::io_context io;
  Outcome outcome;
  asio::co_spawn(io, exchange(io, address_, std::move(message), outcome), asio::detached);
  io.run_for(timeout);
  if (outcome) return std::move(*outcome);
  return Error(ErrorKind::timeout, fmt::format("the gatehouse at {} did not answer within {} s; {}",
                                               address_.text, timeout.count(), may_go_on));
}

}  // namespace gatehouse::admin
