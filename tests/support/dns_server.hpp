// A DNS server on a free loopback port, UDP and TCP, whose answers are a function of the test's,
// faults included. And the bytes of DNS messages, written by hand: a second opinion on the parser.
// Runs on the test's io_context.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "config/snapshot.hpp"

namespace gatehouse::test::dns {

inline std::string number16(unsigned value) {
  return {static_cast<char>(value >> 8), static_cast<char>(value & 0xff)};
}

/// Labels with their lengths in front, the root at the end.
inline std::string name_bytes(std::string_view name) {
  std::string result;
  while (!name.empty()) {
    const auto label = name.substr(0, name.find('.'));
    result += static_cast<char>(label.size());
    result += label;
    name.remove_prefix(std::min(name.size(), label.size() + 1));
  }
  return result + '\0';
}

inline std::string record(std::string_view name, unsigned type, std::string_view data) {
  return name_bytes(name) + number16(type) + number16(1) + number16(0) + number16(60) +
         number16(static_cast<unsigned>(data.size())) + std::string(data);
}
inline std::string caa(std::string_view name, std::string_view tag, std::string_view value,
                       uint8_t flags = 0) {
  std::string data(1, static_cast<char>(flags));
  data += static_cast<char>(tag.size());
  data += tag;
  data += value;
  return record(name, 257, data);
}
inline std::string cname(std::string_view name, std::string_view target) {
  return record(name, 5, name_bytes(target));
}
inline std::string ns(std::string_view name, std::string_view target) {
  return record(name, 2, name_bytes(target));
}
inline std::string soa(std::string_view zone) {
  return record(zone, 6, name_bytes("ns.test") + name_bytes("root.test") + std::string(20, '\1'));
}

/// What a test answers.
struct Reply {
  int rcode = 0;
  std::vector<std::string> records;    // the answer section
  std::vector<std::string> authority;  // the authority section
  bool truncated = false;              // over UDP: no records, and the sign to come by TCP
  bool silent = false;
  unsigned id_added = 0;   // to the question's: not 0 is a forgery
  std::string other_name;  // not empty: the question is said to have been this one
  std::string before;      // a datagram sent first
  std::string raw;         // not empty: instead of a message
};

inline std::string message(unsigned id, std::string_view name, unsigned type, const Reply& reply) {
  const unsigned flags = 0x8180U | (reply.truncated ? 0x0200U : 0U) | unsigned(reply.rcode);
  const bool cut = reply.truncated;
  std::string result = number16(id) + number16(flags) + number16(1) +
                       number16(cut ? 0 : unsigned(reply.records.size())) +
                       number16(cut ? 0 : unsigned(reply.authority.size())) + number16(0);
  result += name_bytes(name) + number16(type) + number16(1);
  if (cut) return result;
  for (const auto& bytes : reply.records) result += bytes;
  for (const auto& bytes : reply.authority) result += bytes;
  return result;
}

struct Asked {
  std::string name;
  unsigned type = 0;
  unsigned id = 0;
  bool tcp = false;
  uint16_t port = 0;  // the client's
};

class Server {
 public:
  using Script = std::function<Reply(const Asked&)>;

  Server(boost::asio::io_context& control, Script script)
      : state_(std::make_shared<State>(control)) {
    namespace ip = boost::asio::ip;
    state_->script = std::move(script);
    // The same port for both: another process may have the TCP one.
    for (int tries = 0; tries < 100; ++tries) {
      boost::system::error_code error;
      ip::udp::socket udp(control, ip::udp::endpoint(ip::address_v4::loopback(), 0));
      const ip::tcp::endpoint same(ip::address_v4::loopback(), udp.local_endpoint().port());
      ip::tcp::acceptor acceptor(control);
      acceptor.open(same.protocol());
      acceptor.bind(same, error);
      if (!error) acceptor.listen(16, error);
      if (error) continue;
      state_->udp = std::move(udp);
      state_->acceptor = std::move(acceptor);
      break;
    }
    boost::asio::co_spawn(control, serve_udp(state_), boost::asio::detached);
    boost::asio::co_spawn(control, serve_tcp(state_), boost::asio::detached);
  }
  ~Server() {
    state_->script = nullptr;
    boost::system::error_code ignored;
    state_->udp.close(ignored);
    state_->acceptor.close(ignored);
  }

  config::NameServer address() const {
    config::NameServer result;
    result.address = boost::asio::ip::address_v4::loopback();
    result.port = state_->udp.local_endpoint().port();
    return result;
  }
  const std::vector<Asked>& asked() const { return state_->asked; }
  void script(Script next) { state_->script = std::move(next); }

 private:
  struct State {
    explicit State(boost::asio::io_context& control) : udp(control), acceptor(control) {}
    boost::asio::ip::udp::socket udp;
    boost::asio::ip::tcp::acceptor acceptor;
    Script script;
    std::vector<Asked> asked;
  };

  static Asked parse(std::string_view bytes) {
    Asked asked;
    const auto byte = [&](size_t at) { return static_cast<unsigned char>(bytes[at]); };
    asked.id = unsigned(byte(0)) << 8 | byte(1);
    size_t at = 12;
    for (; byte(at) != 0; at += byte(at) + 1u) {
      if (!asked.name.empty()) asked.name += '.';
      asked.name += bytes.substr(at + 1, byte(at));
    }
    asked.type = unsigned(byte(at + 1)) << 8 | byte(at + 2);
    return asked;
  }

  static std::string bytes_of(const Asked& asked, const Reply& reply) {
    if (!reply.raw.empty()) return reply.raw;
    return message(asked.id + reply.id_added,
                   reply.other_name.empty() ? asked.name : reply.other_name, asked.type, reply);
  }

  static boost::asio::awaitable<void> serve_udp(std::shared_ptr<State> state) {
    namespace asio = boost::asio;
    boost::system::error_code error;
    auto token = asio::redirect_error(asio::use_awaitable, error);
    std::array<char, 2048> buffer;
    while (!error) {
      asio::ip::udp::endpoint from;
      const size_t size = co_await state->udp.async_receive_from(asio::buffer(buffer), from, token);
      if (error || !state->script) co_return;
      Asked asked = parse(std::string_view(buffer.data(), size));
      asked.port = from.port();
      state->asked.push_back(asked);
      const Reply reply = state->script(asked);
      if (reply.silent) continue;
      if (!reply.before.empty()) {
        co_await state->udp.async_send_to(asio::buffer(reply.before), from, token);
      }
      const std::string bytes = bytes_of(asked, reply);
      co_await state->udp.async_send_to(asio::buffer(bytes), from, token);
    }
  }

  static boost::asio::awaitable<void> serve_tcp(std::shared_ptr<State> state) {
    namespace asio = boost::asio;
    boost::system::error_code error;
    auto token = asio::redirect_error(asio::use_awaitable, error);
    for (;;) {
      asio::ip::tcp::socket socket(state->acceptor.get_executor());
      co_await state->acceptor.async_accept(socket, token);
      if (error || !state->script) co_return;
      std::array<unsigned char, 2> length{};
      co_await asio::async_read(socket, asio::buffer(length), token);
      std::string query(size_t(length[0]) << 8 | length[1], '\0');
      if (!error) co_await asio::async_read(socket, asio::buffer(query), token);
      if (error) continue;
      Asked asked = parse(query);
      asked.tcp = true;
      state->asked.push_back(asked);
      Reply reply = state->script(asked);
      reply.truncated = false;
      if (reply.silent) continue;  // closed without an answer
      const std::string bytes = bytes_of(asked, reply);
      const std::string framed = number16(static_cast<unsigned>(bytes.size())) + bytes;
      co_await asio::async_write(socket, asio::buffer(framed), token);
      error = {};
    }
  }

  std::shared_ptr<State> state_;
};

}  // namespace gatehouse::test::dns
