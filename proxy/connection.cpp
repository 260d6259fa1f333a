#include "proxy/connection.hpp"

#include <array>

#include "proxy/error_page.hpp"
#include "proxy/introduction.hpp"
#include "proxy/worker.hpp"

namespace gatehouse::proxy {

using base::ErrorKind;
using base::Metric;

Connection::DeadlineTimer::DeadlineTimer(Connection& c)
    : Timer([](Timer& self) {
        static_cast<DeadlineTimer&>(self).connection.stream_.fail(ErrorKind::timeout,
                                                                  "no progress in time");
      }),
      connection(c) {}

/// Waits for the end of the batch, where a bounded number of handshakes is worked on.
struct Connection::Turn {
  explicit Turn(Connection& c) noexcept : connection(c) {}
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    connection.turn_ = handle;
    connection.worker_.reactor().defer(connection);
  }
  void await_resume() const noexcept {}
  Connection& connection;
};

Connection::Connection(Worker& worker, size_t listener_id, ClientFacts facts, bool introduced)
    : worker_(worker),
      stream_(worker.reactor(), base::Side::downstream),
      timer_(*this),
      facts_(std::move(facts)),
      listener_id_(listener_id),
      introduced_(introduced),
      counted_(!introduced) {
  facts_.text = facts_.address.to_string();
  facts_.socket = &stream_;
}

Connection::~Connection() {
  worker_.reactor().forget(*this);
}

void Connection::start(int fd) {
  if (!stream_.open(fd)) return worker_.remove(*this);
  base::spawn(run());
}

void Connection::drain() {
  draining_ = true;
  if (http2_) return http2_->drain();
  if (!server_) return;  // in its handshake: the first response will be the last
  server_->close_after_response();
  if (server_->idle()) stream_.fail(ErrorKind::cancelled, "the server is stopping");
}

void Connection::break_off() {
  if (wish_ != nullptr) wish_->set();
  stream_.fail(ErrorKind::cancelled, "the time to drain is over");
  if (server_) server_->give_up();
}

base::Task<void> Connection::run() {
  bool ready = true;
  if (introduced_) {
    auto meeting = meet();
    ready = co_await meeting;
  }
  if (ready && facts_.encrypted) {
    auto securing = secure();
    ready = co_await securing;
    worker_.metrics().add(ready ? Metric::handshakes_completed : Metric::handshakes_failed);
  }
  if (ready && !proved_) {
    auto choosing = speaks_http2();
    const bool http2 = co_await choosing;
    auto serving = http2 ? serve_http2() : serve_http1();
    co_await serving;
  }
  if (ready) {
    auto lingering = linger();
    co_await lingering;
  }
  if (ready && stream_.failed() && stream_.error_kind() == ErrorKind::tls) {
    worker_.metrics().add(Metric::tls_violations);
  }
  server_.reset();
  worker_.remove(*this);
}

/// Learns from the PROXY header who the client is.
base::Task<bool> Connection::meet() {
  worker_.reactor().arm(timer_, worker_.policy()->snapshot->timeouts.handshake);
  auto reading = read_introduction(stream_);
  const http::ProxyHeaderParse parse = co_await reading;
  timer_.disarm();
  if (parse.status == http::ProxyHeaderParse::Status::complete) {
    take_introduction(parse.header, facts_);
    co_return worker_.admit_client(*this);
  }
  const char* problem = parse.problem ? parse.problem : missing_introduction(stream_);
  if (problem != nullptr) {
    worker_.metrics().add(Metric::proxy_headers_refused);
    log_refused_introduction(facts_, problem, worker_.reactor().now());
  }
  co_return false;
}

// --- the handshake

base::Task<bool> Connection::secure() {
  const PolicyPtr policy = worker_.policy();
  worker_.reactor().arm(timer_, policy->snapshot->timeouts.handshake);
  tls::ClientHello hello;
  auto reading = read_hello(hello);
  const bool whole = co_await reading;
  if (!whole) co_return false;
  if (hello.offers_acme) {
    auto proving = prove(hello);
    co_return co_await proving;
  }
  std::string address;
  const bool named = !hello.server_name.empty();
  const SiteRules* site =
      named ? policy->router.find_site(hello.server_name) : site_of_address(address);
  const std::string& name = named ? hello.server_name : address;
  if (!named && site == nullptr) site = policy->router.default_site();
  if (site == nullptr || site->settings->certificates == config::CertificateMode::off) {
    co_return refuse_handshake(named ? tls::Alert::unrecognized_name
                                     : tls::Alert::handshake_failure);
  }
  if (hello.has_alpn && !hello.offers_http1 && !hello.offers_h2) {
    co_return refuse_handshake(tls::Alert::no_application_protocol);
  }
  auto choosing = certificate_for(name, *site);
  tls::CertificatePtr certificate = co_await choosing;
  if (certificate == nullptr) co_return false;
  certificate_ = certificate;
  const bool newest = site->settings->tls_min == config::TlsVersion::tls13;
  auto handshake =
      complete_handshake(newest ? *policy->tls13 : *policy->tls12, std::move(certificate));
  const bool done = co_await handshake;
  timer_.disarm();
  if (!done) co_return false;
  if (stream_.resumed()) worker_.metrics().add(Metric::handshakes_resumed);
  facts_.server_name = std::move(hello.server_name);
  facts_.tls_version = stream_.version();
  co_return true;
}

base::Task<bool> Connection::read_hello(tls::ClientHello& hello) {
  auto status = tls::HelloStatus::need_more;
  auto reading = stream_.read_until([&](std::span<char> bytes) {
    status = tls::parse_client_hello({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()},
                                     hello);
    return status != tls::HelloStatus::need_more;
  });
  co_await reading;
  switch (status) {
    case tls::HelloStatus::complete:
      co_return true;
    case tls::HelloStatus::malformed:
    case tls::HelloStatus::too_large:
      co_return refuse_handshake(tls::Alert::decode_error);
    case tls::HelloStatus::not_tls: {
      // Somebody speaks HTTP to the TLS port: say so in words that they understand.
      const std::string_view page =
          "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
          "Content-Length: 52\r\n\r\nThis port speaks HTTPS. Use https:// in the address.\n";
      const auto bytes = stream_.unread();
      const std::string_view begin(bytes.data(), bytes.size());
      const bool http =
          begin.starts_with("GET ") || begin.starts_with("POST ") || begin.starts_with("HEAD ");
      if (http) stream_.write({&page, 1});
      co_return false;
    }
    case tls::HelloStatus::need_more:
      break;  // the client is gone
  }
  co_return false;
}

// A CA that validates TLS-ALPN-01 (RFC 8737 section 3): the handshake is all there is. Whatever
// else such a hello offers, it is worth no order, and no request is ever answered behind it.
base::Task<bool> Connection::prove(const tls::ClientHello& hello) {
  const tls::CertificatePtr certificate = worker_.challenge_certificate(hello.server_name);
  if (certificate == nullptr) co_return refuse_handshake(tls::Alert::no_application_protocol);
  resumable_ = false;
  const tls::ContextPtr context = worker_.policy()->challenge;
  auto handshake = complete_handshake(*context, certificate);
  const bool done = co_await handshake;
  timer_.disarm();
  proved_ = must_linger_ = done;
  if (done) worker_.metrics().add(Metric::challenges_answered);
  co_return done;
}

// The site with exactly the address for a host that the client connected to: a client that wants an
// address names nothing in its hello (RFC 6066 section 3). Null: nobody configured it, and it is
// worth no certificate of its own.
const SiteRules* Connection::site_of_address(std::string& address) const {
  using config::CertificateMode;
  const Router& router = worker_.policy()->router;
  if (!router.names_addresses()) return nullptr;
  const auto destination = destination_of(facts_);
  if (!destination) return nullptr;
  const SiteRules* const site = router.find_address(destination->address());
  if (site == nullptr) return nullptr;
  const auto mode = site->settings->certificates;
  if (mode != CertificateMode::automatic && mode != CertificateMode::internal) return nullptr;
  address = destination->address().to_string();
  return site;
}

// The table, or whoever keeps it: a handshake that waits for an issuance holds the raw bytes of its
// ClientHello and no SSL object.
base::Task<tls::CertificatePtr> Connection::certificate_for(const std::string& name,
                                                            const SiteRules& site) {
  const auto table = worker_.certificates();
  if (name.empty()) {
    if (table->default_certificate() == nullptr) refuse_handshake(tls::Alert::handshake_failure);
    co_return table->default_certificate();
  }
  const bool on_demand = site.settings->certificates == config::CertificateMode::on_demand;
  const auto found = table->find(name);
  using Match = tls::CertificateTable::Match;
  if (found.match == Match::exact || found.match == Match::wildcard) {
    worker_.seen(name);
    co_return *found.certificate;
  }
  stream_.observe(this);
  timer_.disarm();  // the keeper of the table has limits of its own
  worker_.metrics().add(Metric::handshakes_parked);
  // Shared with the answer, which may come after the connection was broken off.
  struct Wish {
    base::Event delivered;
    tls::Acquired acquired;
  };
  const auto wish = std::make_shared<Wish>();
  wish_ = &wish->delivered;
  worker_.acquire(name, facts_.text, [wish](tls::Acquired result) {
    if (wish->delivered.happened()) return;
    wish->acquired = std::move(result);
    wish->delivered.set();
  });
  co_await wish->delivered;
  wish_ = nullptr;
  const tls::Acquired& acquired = wish->acquired;
  worker_.metrics().add(Metric::handshakes_parked, -1);
  stream_.observe(nullptr);
  worker_.reactor().arm(timer_, worker_.policy()->snapshot->timeouts.handshake);
  if (!stream_.is_open() || stream_.failed()) co_return nullptr;
  switch (acquired.outcome) {
    case tls::Acquired::Outcome::denied:
      refuse_handshake(tls::Alert::unrecognized_name);
      break;
    case tls::Acquired::Outcome::failed:
      refuse_handshake(tls::Alert::internal_error);
      break;
    case tls::Acquired::Outcome::fallback:
      resumable_ = false;  // or its sessions would outlive it
      worker_.metrics().add(Metric::fallback_served);
      facts_.stand_in = on_demand;
      facts_.retry_after = acquired.retry_after;
      if (on_demand) facts_.why = acquired.why;
      break;
    case tls::Acquired::Outcome::ready:
      break;
  }
  co_return acquired.certificate;
}

base::Task<bool> Connection::complete_handshake(const tls::Context& context,
                                                tls::CertificatePtr certificate) {
  Turn turn(*this);
  co_await turn;
  if (stream_.failed() || !stream_.is_open()) co_return false;
  if (!stream_.start_server(context, *certificate, resumable_)) {
    co_return refuse_handshake(tls::Alert::internal_error);
  }
  auto handshake = stream_.handshaken();
  co_return co_await handshake;
}

bool Connection::refuse_handshake(tls::Alert alert) {
  const auto record = tls::alert_record(alert);
  const std::string_view bytes(record.data(), record.size());
  stream_.write({&bytes, 1});
  return false;
}

void Connection::on_deferred() {
  std::exchange(turn_, {}).resume();
}

void Connection::on_hang_up() {
  // While the handshake waits for a certificate: the answer will come, but there is nobody to give
  // it to, and the descriptor need not wait for it.
  stream_.close();
}

// --- requests

/// With prior knowledge: whether the client begins with the preface (RFC 9113 section 3.4).
base::Task<bool> Connection::speaks_http2() {
  if (facts_.encrypted) co_return stream_.http2();
  const auto& snapshot = *worker_.policy()->snapshot;
  if (!snapshot.server.h2c) co_return false;
  worker_.reactor().arm(timer_, snapshot.timeouts.request_header);
  constexpr std::string_view preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  bool http2 = false;
  auto reading = stream_.read_until([&](std::span<char> bytes) {
    const size_t count = std::min(bytes.size(), preface.size());
    const bool same = std::string_view(bytes.data(), count) == preface.substr(0, count);
    http2 = same && count == preface.size();
    return !same || http2;
  });
  co_await reading;
  timer_.disarm();
  if (stream_.failed() && stream_.error_kind() == ErrorKind::timeout) {
    worker_.metrics().add(Metric::downstream_timeouts);
  }
  co_return http2;
}

base::Task<void> Connection::serve_http1() {
  server_.emplace(stream_, worker_.reactor(), worker_.policy()->server);
  if (draining_) server_->close_after_response();
  for (;;) {
    auto reading = server_->read_request();
    const bool come = co_await reading;
    if (!come) break;
    auto exchange = answer(worker_, facts_, *server_);
    co_await exchange;
    must_linger_ = !server_->request_complete() || stream_.unread_size() > 0;
    if (!server_->finish_request()) break;
    server_->change(worker_.policy()->server);
  }
  if (!server_->refusal()) co_return;
  must_linger_ = true;
  auto refusing = answer_refusal(*server_, *server_->refusal());
  co_await refusing;
}

base::Task<void> Connection::serve_http2() {
  http::Http2Server::Handler& handler = *this;
  http2_ = std::make_unique<http::Http2Server>(stream_, worker_.reactor(), worker_.metrics(),
                                               worker_.policy()->http2_server, handler);
  http2_->start();
  if (draining_) http2_->drain();
  co_await http2_over_;
  must_linger_ = true;
}

void Connection::on_request(http::Http2ServerStream& stream) {
  http2_->change(worker_.policy()->http2_server);
  base::spawn(answer_stream(stream));
}

base::Task<void> Connection::answer_stream(http::Http2ServerStream& stream) {
  if (stream.refusal()) {
    auto refusing = answer_refusal(stream, *stream.refusal());
    co_await refusing;
  } else {
    auto exchange = answer(worker_, facts_, stream);
    co_await exchange;
  }
  http2_->finish(stream);
  if (http2_->ended() && http2_->unused()) http2_over_.set();
}

void Connection::on_session_ended() {
  if (http2_->unused()) http2_over_.set();
}

bool Connection::serves(std::string_view host) {
  if (!facts_.encrypted) return true;
  if (host == facts_.server_name) return true;
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return !facts_.stand_in && certificate_->covers(host);
}

base::Task<void> Connection::answer_refusal(http::ServerStream& stream, http::Refusal refusal) {
  worker_.metrics().add(Metric::requests_refused);
  worker_.metrics().add(Metric::requests);
  if (refusal.status == 408) {
    worker_.metrics().add(Metric::slow_heads);
    worker_.metrics().add(Metric::downstream_timeouts);
  }
  worker_.metrics().add(Metric::responses_4xx, refusal.status < 500 ? 1 : 0);
  worker_.metrics().add(Metric::responses_5xx, refusal.status < 500 ? 0 : 1);
  write_error_page(stream, ErrorPage{refusal.status});
  log_refusal(worker_, facts_, stream, refusal);
  auto drained = stream.drained();
  co_await drained;
}

// A close with unread bytes would send a RST, and the client might lose the response it has not
// read yet: say FIN first, read what still comes for a moment, then close.
base::Task<void> Connection::linger() {
  if (!stream_.is_open() || stream_.failed()) co_return;
  if (server_) server_->watch(nullptr);
  stream_.shutdown_write();
  if (!must_linger_ || stream_.hung_up) co_return;
  worker_.reactor().arm(timer_, linger_time);
  size_t total = 0;
  auto discarding = stream_.read_until([&](std::span<char> bytes) {
    total += bytes.size();
    stream_.consume(bytes.size());
    return total >= linger_bytes_max;
  });
  co_await discarding;
}

}  // namespace gatehouse::proxy
