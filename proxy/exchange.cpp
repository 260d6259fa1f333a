#include "proxy/exchange.hpp"

#include <optional>

#include "base/log.hpp"
#include "proxy/error_page.hpp"
#include "proxy/introduction.hpp"
#include "proxy/relay.hpp"
#include "proxy/rewrite.hpp"
#include "proxy/trust.hpp"
#include "proxy/tunnel.hpp"
#include "proxy/worker.hpp"

namespace gatehouse::proxy {

namespace log = base::log;
using base::Error;
using base::ErrorKind;
using base::Metric;
using base::Retry;
using base::Side;

namespace {

constexpr std::string_view challenge_prefix = "/.well-known/acme-challenge/";
constexpr uint16_t switching_protocols = 101;
constexpr uint16_t client_closed_request = 499;  // for the log only, as nginx writes it

/// The one place where an Error becomes a status.
uint16_t status_of(const Error& error) {
  if (error.side == Side::downstream) {
    switch (error.kind) {
      case ErrorKind::timeout:
        return 408;
      case ErrorKind::limit:
        return 413;
      case ErrorKind::protocol:
        return 400;
      default:
        return client_closed_request;
    }
  }
  if (error.kind == ErrorKind::timeout) return 504;
  return error.kind == ErrorKind::unavailable ? 503 : 502;
}

/// Counts a request among those that an endpoint is working on.
class InFlight {
 public:
  explicit InFlight(EndpointState& state) : state_(state) {
    state_.in_flight.fetch_add(1, std::memory_order_relaxed);
  }
  ~InFlight() { state_.in_flight.fetch_sub(1, std::memory_order_relaxed); }
  InFlight(const InFlight&) = delete;
  InFlight& operator=(const InFlight&) = delete;

 private:
  EndpointState& state_;
};

class Exchange final : public http::ServerStream::Watcher {
 public:
  Exchange(Worker& worker, const ClientFacts& facts, http::ServerStream& stream)
      : worker_(worker),
        facts_(facts),
        stream_(stream),
        policy_(worker.policy()),
        begun_(worker.reactor().now()),
        trusted_(believes_fields(policy_->snapshot->server, facts)) {
    worker_.metrics().add(Metric::requests_active);
    // Before the field is appended to.
    if (trusted_) client_text_ = forwarded_client(policy_->snapshot->server, stream.request());
    stream_.watch(this);
  }
  ~Exchange() {
    stream_.watch(nullptr);
    worker_.metrics().add(Metric::requests_active, -1);
  }

  /// Waits until the answer has left.
  base::Task<void> finish();
  /// Answers here, or says which upstream is to answer.
  const Upstream* route();
  base::Task<void> forward(const Upstream& upstream);
  void record();

 private:
  enum class Next : uint8_t { done, again };

  void on_client_gone() override;
  void refuse(uint16_t status, const char* reason);
  bool admitted(const SiteRules& site);
  bool answered_locally();
  bool came_encrypted();
  bool redirected_to_https(const SiteRules& site);
  bool answered_by_route(const Decision& decision);
  const Endpoint* choose(const Upstream& upstream);
  const void* owner_on(const Endpoint& endpoint) const;
  base::Task<bool> connect(const Endpoint& endpoint);
  base::Task<Next> attempt(const Upstream& upstream, const Endpoint& endpoint);
  base::Task<void> respond(Relay& relay);
  base::Task<void> tunnel();
  bool may_retry(const Upstream& upstream, const Relay* relay);
  void fail();
  void count_failure(uint16_t status);
  void note_slow_reader();

  Worker& worker_;
  const ClientFacts& facts_;
  http::ServerStream& stream_;
  const PolicyPtr policy_;
  const base::Monotonic::time_point begun_;
  const bool trusted_;  // what the request says of where it came from is believed
  base::Monotonic::time_point sent_;
  const SiteRules* site_ = nullptr;
  const RouteRules* route_ = nullptr;
  const Endpoint* endpoint_ = nullptr;
  Pool::Lease client_;
  Pool::Opening opening_;
  std::optional<Error> error_;
  std::string client_text_;  // as a trusted proxy said; empty: it is the connection's
  const char* reason_ = nullptr;
  ReplayBody body_{stream_};
  uint64_t tried_ = 0;
  uint64_t bytes_in_ = 0;
  uint64_t bytes_out_ = 0;
  std::chrono::microseconds upstream_time_{0};
  uint32_t attempts_ = 0;
  uint16_t status_ = 0;
  bool gone_ = false;
  bool head_sent_ = false;
  bool fresh_only_ = false;  // a pooled connection was stale: the others may be too
};

// --- deciding

const Upstream* Exchange::route() {
  if (!facts_.encrypted && answered_locally()) return nullptr;
  auto& request = stream_.request();
  site_ = request.host.empty() ? policy_->router.default_site()
                               : policy_->router.find_site(request.host);
  if (site_ == nullptr) {
    refuse(404, "no site has this host");
    return nullptr;
  }
  if (facts_.encrypted && site_->settings->tls_min == config::TlsVersion::tls13 &&
      facts_.tls_version != "TLSv1.3") {
    refuse(421, "the site wants a newer version of TLS than its connection has");
    return nullptr;
  }
  if (!admitted(*site_) || redirected_to_https(*site_)) return nullptr;
  if (facts_.stand_in) {
    status_ = 503;
    reason_ = facts_.why.empty() ? "the certificate is not there yet" : facts_.why.c_str();
    write_error_page(stream_, {503, static_cast<uint32_t>(facts_.retry_after.count())});
    return nullptr;
  }
  thread_local std::string scratch;
  const Decision decision = policy_->router.match(*site_, request, scratch);
  if (decision.refusal != 0) {
    refuse(decision.refusal, decision.refusal == 400 ? "an ambiguous path" : "no route");
    return nullptr;
  }
  route_ = decision.route;
  if (answered_by_route(decision)) return nullptr;
  const uint64_t body_max = policy_->server.body_bytes_max;
  if (body_max != 0 && request.content_length > body_max) {
    refuse(413, "the body is larger than limits.request_body");
    return nullptr;
  }
  return &policy_->upstreams[decision.upstream];
}

// Ahead of redirects, access rules and limits: the CA must always get its answer.
bool Exchange::answered_locally() {
  const auto& request = stream_.request();
  if (!request.target.starts_with(challenge_prefix) || !worker_.local()) return false;
  if (request.method != http::Method::get && request.method != http::Method::head) return false;
  if (request.host.empty()) return false;
  const std::string* body = worker_.local()(worker_.index(), request.host, request.target);
  if (body == nullptr) return false;
  worker_.metrics().add(Metric::challenges_answered);
  status_ = 200;
  bytes_out_ = body->size();
  write_text(stream_, 200, *body, "application/octet-stream");
  return true;
}

bool Exchange::admitted(const SiteRules& site) {
  const auto& settings = *site.settings;
  if (settings.access_allow.empty() && settings.access_deny.empty()) return true;
  const bool denied = contains(settings.access_deny, facts_.address);
  const bool allowed =
      settings.access_allow.empty() || contains(settings.access_allow, facts_.address);
  if (!denied && allowed) return true;
  refuse(403, "the site's access list does not admit this address");
  return false;
}

/// A proxy in front of us took TLS off: a redirect would come back the same way, for ever.
bool Exchange::came_encrypted() {
  const auto* proto = trusted_ ? stream_.request().find(http::FieldId::x_forwarded_proto) : nullptr;
  return proto != nullptr && http::equal_ignoring_case(proto->value, "https");
}

bool Exchange::redirected_to_https(const SiteRules& site) {
  const auto& settings = *site.settings;
  if (facts_.encrypted || !settings.redirect_http || came_encrypted()) return false;
  if (settings.certificates == config::CertificateMode::off || policy_->https_port == 0) {
    return false;
  }
  const std::string_view host = stream_.request().host;
  if (host.empty()) return false;
  std::string location = std::string("https://").append(host);
  if (policy_->https_port != 443) location += ':' + std::to_string(policy_->https_port);
  const auto target = stream_.request().target;
  location += target.starts_with('/') ? target : std::string_view("/");
  status_ = 308;
  write_redirect(stream_, 308, location);
  return true;
}

bool Exchange::answered_by_route(const Decision& decision) {
  if (decision.route == nullptr) return false;
  const auto& settings = *decision.route->settings;
  if (settings.redirect) {
    const std::string location = redirect_location(*settings.redirect, stream_.request());
    if (location.empty()) {
      refuse(400, "the redirect's location would be invalid");
    } else {
      status_ = settings.redirect->status;
      write_redirect(stream_, status_, location);
    }
    return true;
  }
  if (!settings.respond) return false;
  status_ = settings.respond->status;
  bytes_out_ = settings.respond->body.size();
  write_text(stream_, status_, settings.respond->body);
  return true;
}

void Exchange::refuse(uint16_t status, const char* reason) {
  status_ = status;
  reason_ = reason;
  worker_.metrics().add(Metric::requests_refused);
  write_error_page(stream_, {status});
}

// --- forwarding

base::Task<void> Exchange::forward(const Upstream& upstream) {
  auto& request = stream_.request();
  rewrite_request(request, {facts_.text, facts_.encrypted, trusted_}, *site_->settings);
  if (route_ != nullptr && !route_->settings->strip_prefix.empty()) {
    strip_prefix(request, route_->settings->strip_prefix);
  }
  worker_.retry_budget(upstream.index).earn(upstream.settings->retry_budget);
  for (;;) {
    const Endpoint* endpoint = choose(upstream);
    if (endpoint == nullptr) {
      if (!error_) {
        error_ = Error(ErrorKind::unavailable, Side::upstream, Retry::never,
                       "every server of upstream " + upstream.settings->name + " is busy or down");
      }
      fail();
      co_return;
    }
    ++attempts_;
    if (attempts_ > 1) worker_.metrics().add(Metric::upstream_retries);
    auto trying = attempt(upstream, *endpoint);
    const Next next = co_await trying;
    if (next == Next::done) co_return;
  }
}

const Endpoint* Exchange::choose(const Upstream& upstream) {
  if (upstream.settings->connections_max != 0) {
    uint32_t in_flight = 0;
    for (const auto& each : upstream.endpoints) {
      in_flight += each.state->in_flight.load(std::memory_order_relaxed);
    }
    if (in_flight >= upstream.settings->connections_max) return nullptr;
  }
  const auto policy = upstream.settings->balance;
  const std::string_view input = policy == config::Balance::hash_uri
                                     ? stream_.request().target
                                     : std::string_view(facts_.text);
  const auto index =
      pick(upstream.balanced, policy, input, tried_, worker_.balance_turn(upstream.index));
  if (!index) return nullptr;
  tried_ |= uint64_t{1} << (*index % 64);
  return &upstream.endpoints[*index];
}

base::Task<Exchange::Next> Exchange::attempt(const Upstream& upstream, const Endpoint& endpoint) {
  const InFlight in_flight(*endpoint.state);
  endpoint_ = &endpoint;
  error_.reset();
  const void* owner = owner_on(endpoint);
  if (!fresh_only_) client_ = worker_.pool().acquire(endpoint.id, policy_->client, owner);
  if (!client_) {
    auto connecting = connect(endpoint);
    const bool connected = co_await connecting;
    if (!connected) {
      if (may_retry(upstream, nullptr)) co_return Next::again;
      fail();
      co_return Next::done;
    }
  } else {
    worker_.metrics().add(Metric::upstream_reuses);
  }
  sent_ = worker_.reactor().now();
  Relay relay(stream_, *client_, body_);
  relay.start(upstream_host(stream_.request(), *upstream.settings, *endpoint.settings));
  bool come = false;
  for (;;) {
    auto reading = client_->read_head();
    come = co_await reading;
    if (!come || client_->response().status >= 200) break;
    if (client_->response().status == switching_protocols) break;
    stream_.write_interim(client_->response());
    auto drained = stream_.drained();
    co_await drained;
  }
  upstream_time_ =
      std::chrono::duration_cast<std::chrono::microseconds>(worker_.reactor().now() - sent_);
  if (come && client_->response().status == switching_protocols) {
    auto tunnelling = tunnel();
    co_await tunnelling;
    co_return Next::done;
  }
  // To a client that asks for a tunnel over HTTP/2, any success says that it has one (RFC 8441).
  const bool misleading = come && client_->response().status < 300 &&
                          stream_.request().version == http::Version::http2 &&
                          !stream_.request().protocol.empty();
  if (come && !misleading) {
    auto responding = respond(relay);
    co_await responding;
    co_return Next::done;
  }
  if (misleading) {
    error_ = Error(ErrorKind::protocol, Side::upstream, Retry::never,
                   "a success that is no tunnel, to a request for one");
  } else {
    const Error failure = client_->error();
    // But not for a client that waits for the origin's 100 before its next piece.
    const bool comes = !stream_.request().expect_continue || body_.begun();
    if (failure.retry == Retry::if_reused && body_.repeatable() && comes) {
      auto settling = relay.settle();
      co_await settling;
    }
    error_ = relay.upload_error() ? *relay.upload_error() : failure;
  }
  const bool again = may_retry(upstream, &relay);
  auto finishing = relay.finish();
  co_await finishing;
  bytes_in_ += relay.bytes_up();
  client_.release();
  if (again) co_return Next::again;
  fail();
  co_return Next::done;
}

/// A connection that begins with a PROXY header speaks for one client's connection and is used
/// again only for that, as HAProxy does: its origin takes every request on it for that client's.
const void* Exchange::owner_on(const Endpoint& endpoint) const {
  return endpoint.origin.proxy_protocol == config::ProxyProtocol::off ? nullptr : &facts_;
}

base::Task<bool> Exchange::connect(const Endpoint& endpoint) {
  http::ProxyHeaderText introduction;
  const void* owner = owner_on(endpoint);
  if (owner != nullptr) introduction = introduce(endpoint.origin.proxy_protocol, facts_);
  auto opening = worker_.pool().open(endpoint, policy_->snapshot->timeouts.upstream_connect,
                                     policy_->client, {owner, introduction.view()}, opening_);
  auto opened = co_await opening;
  if (!opened) {
    error_ = opened.error();
    co_return false;
  }
  client_ = std::move(*opened);
  if (!gone_) co_return true;
  client_.release();
  error_ = Error(ErrorKind::cancelled, Side::downstream, Retry::never, "the client went away");
  co_return false;
}

base::Task<void> Exchange::respond(Relay& relay) {
  auto& response = client_->response();
  status_ = response.status;
  rewrite_response(response, facts_.encrypted, *site_->settings);
  auto downloading = relay.download();
  const Relay::End end = co_await downloading;
  if (end == Relay::End::not_begun || end == Relay::End::cut_short) error_ = client_->error();
  if (relay.uploading()) {
    auto finishing = relay.finish();
    co_await finishing;
  }
  bytes_in_ += relay.bytes_up();
  bytes_out_ = relay.bytes_down();
  client_.release();
  head_sent_ = end != Relay::End::not_begun;
  if (end == Relay::End::complete) co_return;
  if (end == Relay::End::client_lost) {
    note_slow_reader();
    gone_ = true;
  }
  fail();
}

// Neither connection serves a request afterwards: the pool only closes this one.
base::Task<void> Exchange::tunnel() {
  status_ = switching_protocols;
  rewrite_response(client_->response(), facts_.encrypted, *site_->settings);
  worker_.metrics().add(Metric::tunnels);
  worker_.metrics().add(Metric::tunnels_active);
  Tunnel tunnel(stream_, *client_, worker_.reactor(), policy_->snapshot->timeouts.tunnel);
  auto running = tunnel.run();
  co_await running;
  worker_.metrics().add(Metric::tunnels_active, -1);
  error_ = tunnel.error();
  if (error_ && error_->kind == ErrorKind::timeout) {
    const bool origin = error_->side == Side::upstream;
    worker_.metrics().add(origin ? Metric::upstream_timeouts : Metric::downstream_timeouts);
  }
  bytes_in_ = tunnel.bytes_up();
  bytes_out_ = tunnel.bytes_down();
  client_.release();
}

// Only if no byte of the response has come and the request may be sent again: nothing was sent, or
// a pooled connection turned out closed, or repeating does no harm.
bool Exchange::may_retry(const Upstream& upstream, const Relay* relay) {
  if (gone_ || error_->side != Side::upstream) return false;
  if (error_->kind == ErrorKind::unavailable && error_->retry == Retry::never) return false;
  if (!body_.repeatable() || (relay != nullptr && relay->uploading())) return false;
  if (client_ && client_->response_begun()) return false;
  if (error_->retry == Retry::if_reused) {
    // The endpoint is not to blame: once more, on a new connection. It counts all the same, or an
    // origin that breaks its kept connections would be sent everything twice.
    if (fresh_only_ || !worker_.retry_budget(upstream.index).spend()) return false;
    fresh_only_ = true;
    tried_ = 0;
    return true;
  }
  if (attempts_ >= upstream.settings->retry_attempts) return false;
  const bool harmless =
      error_->retry == Retry::always ||
      (error_->kind != ErrorKind::timeout && http::is_idempotent(stream_.request().method));
  if (!harmless || !worker_.retry_budget(upstream.index).spend()) return false;
  // An origin that has not touched the request may well take it the next time, on a connection that
  // it is not about to close.
  if (relay != nullptr && error_->retry == Retry::always) tried_ = 0;
  return true;
}

// Ends an exchange that went wrong: with an error page if nothing was sent yet, else so that the
// client sees that something is missing.
void Exchange::fail() {
  const uint16_t status = gone_ ? client_closed_request : status_of(*error_);
  count_failure(status);
  if (status == client_closed_request || head_sent_) {
    if (!head_sent_) status_ = status;
    stream_.abort();
    return;
  }
  status_ = status;
  write_error_page(stream_, {status_, status_ == 503 ? 5U : 0U});
}

void Exchange::count_failure(uint16_t status) {
  auto& metrics = worker_.metrics();
  if (status == client_closed_request) {
    metrics.add(Metric::requests_cancelled);
    return;
  }
  const bool timeout = error_->kind == ErrorKind::timeout;
  if (error_->side == Side::downstream) {
    if (timeout) {
      metrics.add(Metric::downstream_timeouts);
      metrics.add(Metric::slow_bodies);
    }
    return;
  }
  metrics.add(Metric::upstream_failures);
  if (timeout) metrics.add(Metric::upstream_timeouts);
  // When something of our own has run out, every request says the same.
  static base::log::Throttle throttle;
  if (error_->kind == ErrorKind::unavailable && !throttle.allows(worker_.reactor().now())) return;
  log::warn("{} {}{}: {}", stream_.request().method_text, stream_.request().authority,
            stream_.request().target.substr(0, 200), error_->context);
}

base::Task<void> Exchange::finish() {
  auto drained = stream_.drained();
  const bool taken = co_await drained;
  if (!taken && !error_ && !gone_) note_slow_reader();
}

/// The client takes no more of the answer. If it is still there, it was too slow.
void Exchange::note_slow_reader() {
  const Error error = stream_.error();
  if (error.kind != ErrorKind::timeout) return;
  reason_ = "the client reads too slowly";
  worker_.metrics().add(Metric::slow_readers);
  worker_.metrics().add(Metric::downstream_timeouts);
}

void Exchange::on_client_gone() {
  gone_ = true;
  if (client_) return client_->cancel(ErrorKind::cancelled, "the client went away");
  opening_.cancel();
}

// --- recording

AccessRecord make_record(Worker& worker, const ClientFacts& facts, http::RequestHead& request) {
  AccessRecord record;
  record.time = worker.reactor().wall_now();
  record.client = facts.text;
  record.method = request.method_text;
  record.scheme = facts.encrypted ? "https" : "http";
  record.host = request.authority;
  record.target = request.target;
  record.protocol = request.version == http::Version::http2    ? "HTTP/2.0"
                    : request.version == http::Version::http10 ? "HTTP/1.0"
                                                               : "HTTP/1.1";
  if (const auto* field = request.find(http::FieldId::referer)) record.referer = field->value;
  if (const auto* field = request.find(http::FieldId::user_agent)) {
    record.user_agent = field->value;
  }
  record.tls_version = facts.tls_version;
  return record;
}

void Exchange::record() {
  auto& metrics = worker_.metrics();
  const auto duration =
      std::chrono::duration_cast<std::chrono::microseconds>(worker_.reactor().now() - begun_);
  metrics.add(Metric::requests);
  const int family = status_ < 200   ? 0
                     : status_ < 300 ? 1
                     : status_ < 400 ? 2
                     : status_ < 500 ? 3
                                     : 4;
  metrics.add(static_cast<Metric>(static_cast<int>(Metric::responses_1xx) + family));
  metrics.add(Metric::downstream_bytes_in, static_cast<int64_t>(bytes_in_));
  metrics.add(Metric::downstream_bytes_out, static_cast<int64_t>(bytes_out_));
  // The hours of a tunnel would say nothing about requests.
  if (family > 0) metrics.record_duration(static_cast<uint64_t>(duration.count()));
  if (!worker_.access_log().enabled()) return;
  AccessRecord record = make_record(worker_, facts_, stream_.request());
  if (!client_text_.empty()) record.client = client_text_;
  if (endpoint_ != nullptr) record.upstream = endpoint_->settings->text;
  if (reason_ != nullptr) {
    record.error = reason_;
  } else if (gone_) {
    record.error = "the client went away";
  } else if (error_) {
    record.error = error_->context;
  }
  record.status = status_;
  record.retries = static_cast<uint8_t>(attempts_ > 1 ? attempts_ - 1 : 0);
  record.bytes_in = bytes_in_;
  record.bytes_out = bytes_out_;
  record.duration = duration;
  record.upstream_duration = upstream_time_;
  worker_.access_log().write(record);
}

}  // namespace

base::Task<void> answer(Worker& worker, const ClientFacts& facts, http::ServerStream& stream) {
  Exchange exchange(worker, facts, stream);
  const Upstream* upstream = exchange.route();
  if (upstream != nullptr) {
    auto forwarding = exchange.forward(*upstream);
    co_await forwarding;
  }
  auto finishing = exchange.finish();
  co_await finishing;
  exchange.record();
}

void log_refusal(Worker& worker, const ClientFacts& facts, http::ServerStream& stream,
                 const http::Refusal& refusal) {
  if (!worker.access_log().enabled()) return;
  AccessRecord record = make_record(worker, facts, stream.request());
  record.status = refusal.status;
  record.error = refusal.reason;
  worker.access_log().write(record);
}

}  // namespace gatehouse::proxy
