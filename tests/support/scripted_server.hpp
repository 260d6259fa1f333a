// An HTTP/1.1 server on a free loopback port whose answers are a function of the test's, faults
// included. Runs on the test's io_context.
#pragma once

#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <fmt/format.h>

namespace gatehouse::test {

struct ScriptedRequest {
  std::string method;
  std::string target;
  std::string head;  // whole, with its fields
  std::string body;
  int connection = 0;  // counted from 1
};

struct ScriptedReply {
  int status = 200;
  std::vector<std::pair<std::string, std::string>> fields;
  std::string body;
  enum class Fault { none, hang, cut_off, endless_body, raw } fault = Fault::none;
  std::string bytes;  // with `raw`: sent as they are, then closed
  bool close_after = false;
};

class ScriptedServer {
 public:
  using Script = std::function<ScriptedReply(const ScriptedRequest&)>;

  ScriptedServer(boost::asio::io_context& control, Script script)
      : control_(control),
        acceptor_(control, {boost::asio::ip::make_address("127.0.0.1"), 0}),
        state_(std::make_shared<State>()) {
    state_->script = std::move(script);
    accept();
  }
  ~ScriptedServer() { state_->script = nullptr; }

  std::string url(const std::string& path = "/") const {
    return fmt::format("http://127.0.0.1:{}{}", port(), path);
  }
  uint16_t port() const { return acceptor_.local_endpoint().port(); }
  const std::vector<ScriptedRequest>& requests() const { return state_->requests; }
  int connections() const { return state_->connections; }

 private:
  using Socket = boost::asio::ip::tcp::socket;

  struct State {
    Script script;
    std::vector<ScriptedRequest> requests;
    int connections = 0;
  };

  void accept() {
    acceptor_.async_accept([this, state = state_](boost::system::error_code error, Socket socket) {
      if (error) return;
      const int number = ++state->connections;
      boost::asio::co_spawn(control_, serve(std::move(socket), state, number),
                            boost::asio::detached);
      accept();
    });
  }

  static boost::asio::awaitable<void> serve(Socket socket, std::shared_ptr<State> state,
                                            int number) {
    namespace asio = boost::asio;
    std::string received;
    boost::system::error_code error;
    auto token = asio::redirect_error(asio::use_awaitable, error);
    for (;;) {
      const size_t head_size = co_await asio::async_read_until(
          socket, asio::dynamic_buffer(received), "\r\n\r\n", token);
      if (error || !state->script) co_return;
      ScriptedRequest request = parse(received.substr(0, head_size));
      request.connection = number;
      const size_t total = head_size + content_length(request.head);
      if (received.size() < total) {
        co_await asio::async_read(socket, asio::dynamic_buffer(received),
                                  asio::transfer_exactly(total - received.size()), token);
        if (error) co_return;
      }
      request.body = received.substr(head_size, total - head_size);
      received.erase(0, total);
      state->requests.push_back(request);
      const ScriptedReply reply = state->script(request);
      if (reply.fault == ScriptedReply::Fault::hang) {
        char byte = 0;  // until the other side gives up
        co_await socket.async_read_some(asio::buffer(&byte, 1), token);
        co_return;
      }
      if (reply.fault == ScriptedReply::Fault::cut_off) co_return;
      const std::string bytes = serialize(reply, request.method == "HEAD");
      co_await asio::async_write(socket, asio::buffer(bytes), token);
      while (!error && reply.fault == ScriptedReply::Fault::endless_body) {
        const std::string more(16 * 1024, 'x');
        co_await asio::async_write(socket, asio::buffer(more), token);
      }
      if (error || reply.fault != ScriptedReply::Fault::none || reply.close_after) co_return;
    }
  }

  static ScriptedRequest parse(std::string head) {
    ScriptedRequest request;
    const size_t first = head.find(' ');
    const size_t second = head.find(' ', first + 1);
    request.method = head.substr(0, first);
    request.target = head.substr(first + 1, second - first - 1);
    request.head = std::move(head);
    return request;
  }

  static size_t content_length(const std::string& head) {
    const size_t found = head.find("Content-Length: ");
    return found == std::string::npos ? 0 : std::strtoul(head.c_str() + found + 16, nullptr, 10);
  }

  static std::string serialize(const ScriptedReply& reply, bool head_only) {
    if (reply.fault == ScriptedReply::Fault::raw) return reply.bytes;
    std::string text = fmt::format("HTTP/1.1 {} Scripted\r\n", reply.status);
    for (const auto& [key, value] : reply.fields) text += key + ": " + value + "\r\n";
    if (reply.fault != ScriptedReply::Fault::endless_body) {
      text += fmt::format("Content-Length: {}\r\n", reply.body.size());
    }
    if (reply.close_after) text += "Connection: close\r\n";
    return text + "\r\n" + (head_only ? std::string() : reply.body);
  }

  boost::asio::io_context& control_;
  boost::asio::ip::tcp::acceptor acceptor_;
  std::shared_ptr<State> state_;
};

}  // namespace gatehouse::test
