#include "app/self_check.hpp"

#include <deque>
#include <list>
#include <set>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <fmt/format.h>

#include "base/log.hpp"
#include "http/proxy_header.hpp"
#include "proxy/trust.hpp"
#include "tls/certificate_probe.hpp"

namespace gatehouse::app {

namespace asio = boost::asio;
using boost::system::error_code;
using Endpoint = asio::generic::stream_protocol::endpoint;
using Socket = asio::generic::stream_protocol::socket;
using Status = tls::CertificateProbe::Status;

namespace {

constexpr size_t answer_bytes_max = 256 * 1024;
constexpr const char* label_of_wildcards = "gatehouse-self-check";

/// Where a client of this machine reaches the listener. A listener of every address is asked for on
/// loopback, of both families if need be.
std::vector<Endpoint> endpoints_of(const config::ListenAddress& listener) {
  if (!listener.unix_path.empty())
    return {Endpoint(asio::local::stream_protocol::endpoint(listener.unix_path))};
  std::vector<std::string> hosts{listener.host};
  if (listener.host.empty()) hosts = {"127.0.0.1", "::1"};
  if (listener.host == "0.0.0.0") hosts = {"127.0.0.1"};
  if (listener.host == "::") hosts = {"::1", "127.0.0.1"};
  std::vector<Endpoint> found;
  for (const auto& host : hosts) {
    error_code failed;
    const auto address = asio::ip::make_address(host, failed);
    if (!failed) found.emplace_back(asio::ip::tcp::endpoint(address, listener.port));
  }
  return found;
}

/// Us, as the listener sees us.
proxy::ClientFacts facts_of(const Socket& socket) {
  proxy::ClientFacts facts;
  error_code failed;
  const Endpoint own = socket.local_endpoint(failed);
  const auto family = own.protocol().family();
  if (failed || (family != AF_INET && family != AF_INET6)) {
    facts.unix_socket = true;
    return facts;
  }
  asio::ip::tcp::endpoint internet;
  internet.resize(own.size());
  std::memcpy(internet.data(), own.data(), own.size());
  facts.address = internet.address();
  return facts;
}

/// One look. Nothing: the listener cannot be reached, or says nothing.
struct Sight {
  bool reached = false;
  std::string fingerprint;
  std::string problem;
};

asio::awaitable<Sight> see(Socket& socket, const config::Server& server, Endpoint endpoint,
                           std::string name) {
  Sight sight;
  error_code failed;
  co_await socket.async_connect(endpoint, asio::redirect_error(asio::use_awaitable, failed));
  if (failed) co_return sight;
  std::string sending;
  if (proxy::must_introduce(server, facts_of(socket)))
    sending = http::write_proxy_header(config::ProxyProtocol::v2, std::nullopt).view();
  tls::CertificateProbe probe(name);
  Status status = probe.receive({});
  std::array<char, 16384> received;
  for (size_t total = 0; status == Status::need_more && total < answer_bytes_max;) {
    sending += probe.take_output();
    co_await asio::async_write(socket, asio::buffer(sending),
                               asio::redirect_error(asio::use_awaitable, failed));
    sending.clear();
    if (failed) break;
    const size_t count = co_await socket.async_read_some(
        asio::buffer(received), asio::redirect_error(asio::use_awaitable, failed));
    if (failed) break;
    total += count;
    sight.reached = true;
    status = probe.receive({received.data(), count});
  }
  if (status == Status::done) sight.fingerprint = probe.fingerprint();
  if (status == Status::failed) sight.problem = probe.problem();
  // A connection that is cut, or that time ends, says nothing of the certificate.
  if (status == Status::need_more) sight.reached = false;
  co_return sight;
}

}  // namespace

std::string name_to_ask_for(const std::string& name) {
  if (name.starts_with("*.")) return label_of_wildcards + name.substr(1);
  error_code not_one;
  asio::ip::make_address(name, not_one);
  return not_one ? name : std::string();
}

struct SelfCheck::State : std::enable_shared_from_this<SelfCheck::State> {
  explicit State(asio::io_context& io) : control(io) {}

  struct Check {
    std::string name;
    tls::CertificatePtr certificate;
    std::function<bool()> current;
    Report report;
  };

  void start_next();
  static asio::awaitable<void> run(std::shared_ptr<State> self, Check check);
  asio::awaitable<Problem> look(const Check& check);

  asio::io_context& control;
  config::SnapshotPtr snapshot;
  std::list<Check> waiting;
  std::multiset<std::string> running;  // the server names that are asked for
  bool told_blind = false;
  bool closed = false;
};

SelfCheck::SelfCheck(asio::io_context& control) : state_(std::make_shared<State>(control)) {}

SelfCheck::~SelfCheck() {
  close();
}

void SelfCheck::configure(config::SnapshotPtr snapshot) {
  state_->snapshot = std::move(snapshot);
}

bool SelfCheck::looks_at(const std::string& server_name) const {
  return state_->running.contains(server_name);
}

void SelfCheck::close() {
  state_->closed = true;
  state_->waiting.clear();
}

void SelfCheck::check(std::string name, tls::CertificatePtr certificate,
                      std::function<bool()> current, Report report) {
  auto& state = *state_;
  if (state.closed) return;
  for (auto& one : state.waiting) {
    if (one.name != name) continue;
    const Report superseded = std::exchange(one.report, std::move(report));
    one.certificate = std::move(certificate);
    one.current = std::move(current);
    return superseded(std::nullopt);
  }
  if (state.waiting.size() >= waiting_max) return report(std::nullopt);
  state.waiting.push_back(
      {std::move(name), std::move(certificate), std::move(current), std::move(report)});
  state.start_next();
}

void SelfCheck::State::start_next() {
  while (running.size() < running_max && !waiting.empty() && !closed) {
    running.insert(name_to_ask_for(waiting.front().name));
    Check check = std::move(waiting.front());
    waiting.pop_front();
    asio::co_spawn(control, run(shared_from_this(), std::move(check)), asio::detached);
  }
}

asio::awaitable<void> SelfCheck::State::run(std::shared_ptr<State> self, Check check) {
  Problem problem;
  asio::steady_timer interval(self->control);
  for (unsigned looks = 0; looks < looks_max && !self->closed && check.current(); ++looks) {
    error_code ignored;
    if (looks > 0) {
      interval.expires_after(look_interval);
      co_await interval.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    problem = co_await self->look(check);
    if (!problem || problem->empty()) break;
  }
  self->running.erase(self->running.find(name_to_ask_for(check.name)));
  if (self->closed) co_return;
  // What took its place meanwhile has a check of its own.
  check.report(check.current() ? problem : std::nullopt);
  self->start_next();
}

asio::awaitable<SelfCheck::Problem> SelfCheck::State::look(const Check& check) {
  const std::string name = name_to_ask_for(check.name);
  const config::SnapshotPtr with = snapshot;
  if (name.empty() || !with) co_return std::nullopt;
  for (const auto& listener : with->server.https) {
    const std::vector<Endpoint> endpoints = endpoints_of(listener);
    for (const Endpoint& endpoint : endpoints) {
      const auto socket = std::make_shared<Socket>(control);
      asio::steady_timer patience(control, look_patience);
      patience.async_wait([socket](const error_code& cancelled) {
        error_code ignored;
        if (!cancelled) socket->close(ignored);
      });
      Sight sight = co_await see(*socket, with->server, endpoint, name);
      patience.cancel();
      if (!sight.reached) continue;
      if (sight.fingerprint == check.certificate->fingerprint()) co_return std::string();
      if (!sight.problem.empty())
        co_return fmt::format("the handshake at {} fails ({})", listener.text, sight.problem);
      co_return fmt::format("{} shows another certificate (fingerprint {})", listener.text,
                            sight.fingerprint);
    }
  }
  if (!std::exchange(told_blind, true))
    base::log::warn(
        "new certificates cannot be looked at from here: no HTTPS address answers a connection of "
        "this machine");
  co_return std::nullopt;
}

}  // namespace gatehouse::app
