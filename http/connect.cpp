#include "http/connect.hpp"

#include <cerrno>
#include <cstring>
#include <netinet/tcp.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/ip/tcp.hpp>

#include "http/http1_client.hpp"
#include "http/http2_client.hpp"

namespace gatehouse::http {

namespace asio = boost::asio;
using base::Error;
using base::ErrorKind;
using base::Retry;
using base::Side;
using Connection = std::unique_ptr<ClientConnection>;

/// The deadline of one connect: breaks whatever is being waited for.
struct Deadline : base::Timer {
  explicit Deadline(Connecting& c)
      : Timer([](Timer& self) { static_cast<Deadline&>(self).expire(); }), connecting(c) {
    connecting.deadline_ = this;
  }
  ~Deadline() { connecting.deadline_ = nullptr; }
  void expire() {
    expired = true;
    // Whoever is resumed may end the connect, and this with it.
    if (resolving != nullptr) return std::exchange(resolving, nullptr)->set();
    if (stream != nullptr) stream->fail(ErrorKind::timeout, "no connection in time");
  }
  Connecting& connecting;
  tls::Stream* stream = nullptr;
  base::Event* resolving = nullptr;
  bool expired = false;
};

void Connecting::cancel() {
  if (deadline_ != nullptr) deadline_->expire();
}

namespace {

Error connect_error(ErrorKind kind, const Origin& origin, const std::string& text, int cause = 0) {
  return Error(kind, Side::upstream, Retry::always,
               "cannot connect to " + origin.text + ": " + text, cause);
}

/// Completes when a connecting socket is connected or has failed.
struct Connected final : base::Parked {
  explicit Connected(tls::Stream& s) noexcept
      : Parked([](Parked& self) { return static_cast<Connected&>(self).await_ready(); }),
        stream(s) {}
  bool await_ready() const { return stream.writable || stream.failed(); }
  void await_suspend(std::coroutine_handle<> handle) {
    waiting = handle;
    stream.writing.park(*this);
  }
  void await_resume() const noexcept {}
  tls::Stream& stream;
};

/// What a resolution leaves behind, also when nobody waits for it any more.
struct Resolution {
  explicit Resolution(asio::io_context& context) : resolver(context) {}
  asio::ip::tcp::resolver resolver;
  base::Event done;
  bool abandoned = false;
  std::string problem;
  std::vector<SocketAddress> addresses;
};

SocketAddress socket_address(const asio::ip::tcp::endpoint& endpoint) {
  SocketAddress address;
  address.size = static_cast<socklen_t>(endpoint.size());
  std::memcpy(&address.storage, endpoint.data(), endpoint.size());
  return address;
}

void start(base::Reactor& reactor, const std::shared_ptr<Resolution>& resolution,
           const Origin& origin) {
  resolution->resolver.async_resolve(
      origin.host, std::to_string(origin.port), asio::ip::resolver_base::numeric_service,
      [&reactor, resolution](const boost::system::error_code& error,
                             const asio::ip::tcp::resolver::results_type& results) {
        if (resolution->abandoned) return;
        if (error) resolution->problem = error.message();
        for (const auto& result : results) {
          if (resolution->addresses.size() == ResolvedAddresses::addresses_max) break;
          resolution->addresses.push_back(socket_address(result.endpoint()));
        }
        reactor.run([&] { resolution->done.set(); });
      });
}

bool unix_address(const std::string& path, SocketAddress& out) {
  sockaddr_un address{};
  if (path.size() >= sizeof address.sun_path) return false;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  std::memcpy(&out.storage, &address, sizeof address);
  out.size = sizeof address;
  return true;
}

/// Fills `resolved`; nothing on success.
base::Task<std::optional<Error>> resolve(base::Reactor& reactor, const Origin& origin,
                                         ResolvedAddresses& resolved, Deadline& deadline) {
  if (!origin.unix_path.empty()) {
    SocketAddress address;
    if (!unix_address(origin.unix_path, address)) {
      co_return connect_error(ErrorKind::invalid, origin, "the socket's path is too long");
    }
    resolved.addresses.assign(1, address);
    co_return std::nullopt;
  }
  if (!resolved.addresses.empty() && resolved.until > reactor.now()) co_return std::nullopt;
  boost::system::error_code not_literal;
  const auto literal = asio::ip::make_address(origin.host, not_literal);
  if (!not_literal) {
    resolved.addresses.assign(1, socket_address({literal, origin.port}));
    resolved.until = base::Monotonic::time_point::max();
    co_return std::nullopt;
  }
  const auto resolution = std::make_shared<Resolution>(reactor.context());
  start(reactor, resolution, origin);
  deadline.resolving = &resolution->done;
  co_await resolution->done;
  deadline.resolving = nullptr;
  resolution->abandoned = true;
  if (deadline.expired) {
    co_return connect_error(ErrorKind::timeout, origin, "its name was not resolved in time");
  }
  if (resolution->addresses.empty()) {
    co_return connect_error(ErrorKind::resolve, origin,
                            "its name has no address (" + resolution->problem + ")");
  }
  resolved.addresses = std::move(resolution->addresses);
  resolved.until = reactor.now() + ResolvedAddresses::lifetime;
  co_return std::nullopt;
}

int start_connecting(const SocketAddress& address) {
  const int fd = ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  static const int descriptors_max = base::descriptors_within(descriptors_percent);
  if (fd >= descriptors_max) {
    ::close(fd);
    errno = EMFILE;
    return -1;
  }
  if (address.storage.ss_family != AF_UNIX) {
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  const auto* where = reinterpret_cast<const sockaddr*>(&address.storage);
  if (::connect(fd, where, address.size) == 0 || errno == EINPROGRESS) return fd;
  const int cause = errno;
  ::close(fd);
  errno = cause;
  return -1;
}

/// One address: 0, or the errno.
base::Task<int> connect_one(const SocketAddress& address, tls::Stream& stream) {
  const int fd = start_connecting(address);
  if (fd < 0) co_return errno;
  if (!stream.open(fd)) co_return errno;
  stream.writable = false;
  Connected connected(stream);
  co_await connected;
  if (stream.failed()) co_return ETIMEDOUT;
  int problem = 0;
  socklen_t size = sizeof problem;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &size);
  co_return problem;
}

Connection make_connection(base::Reactor& reactor, base::MetricShard& metrics, const Origin& origin,
                           const ClientConnection::Settings& settings) {
  if (origin.http2) return std::make_unique<Http2Client>(reactor, metrics, settings);
  return std::make_unique<Http1Client>(reactor, settings);
}

/// On a connected socket: TLS, and what the version of HTTP has to say first. Nothing on success.
base::Task<std::optional<Error>> begin_session(const Origin& origin, ClientConnection& connection) {
  auto& stream = connection.stream();
  if (origin.tls != nullptr) {
    bool shaken = stream.start_client(*origin.tls, origin.tls_name, origin.verify);
    if (shaken) {
      auto handshake = stream.handshaken();
      shaken = co_await handshake;
    }
    if (!shaken) {
      const Error cause = stream.error();
      co_return connect_error(cause.kind, origin, "TLS: " + cause.context);
    }
    if (origin.http2 && !stream.http2()) {
      co_return connect_error(ErrorKind::protocol, origin,
                              "it does not offer HTTP/2 over TLS (ALPN h2)");
    }
  }
  auto greeting = connection.greet();
  const bool greeted = co_await greeting;
  if (greeted) co_return std::nullopt;
  if (stream.failed()) {
    const Error cause = stream.error();
    co_return connect_error(cause.kind, origin, "no SETTINGS of HTTP/2 came: " + cause.context);
  }
  const std::string other = origin.tls == nullptr ? "http1" : "https";
  co_return connect_error(ErrorKind::protocol, origin,
                          "it does not begin as HTTP/2 does; if it speaks HTTP/1.1, the upstream's "
                          "protocol is \"" +
                              other + "\"");
}

}  // namespace

base::Task<base::Result<Connection>> connect(base::Reactor& reactor, base::MetricShard& metrics,
                                             const Origin& origin, ResolvedAddresses& resolved,
                                             config::Duration timeout,
                                             const ClientConnection::Settings& settings,
                                             std::string_view preamble, Connecting& connecting) {
  Deadline deadline(connecting);
  reactor.arm(deadline, timeout);
  const auto unresolved = co_await resolve(reactor, origin, resolved, deadline);
  if (unresolved) co_return *unresolved;
  // A copy: another connect may refresh the shared list meanwhile.
  const auto addresses = resolved.addresses;
  int problem = ETIMEDOUT;
  for (const auto& address : addresses) {
    if (deadline.expired) break;
    Connection connection = make_connection(reactor, metrics, origin, settings);
    auto& stream = connection->stream();
    deadline.stream = &stream;
    problem = co_await connect_one(address, stream);
    if (problem == 0 && !preamble.empty() && stream.write({&preamble, 1}) == tls::Io::failed) {
      problem = ECONNRESET;
    }
    std::optional<Error> broken;
    if (problem == 0) {
      auto beginning = begin_session(origin, *connection);
      broken = co_await beginning;
    }
    deadline.stream = nullptr;
    if (problem == 0 && !broken) co_return std::move(connection);
    stream.close();
    reactor.retire(std::move(connection));
    if (broken) co_return *broken;
  }
  if (deadline.expired) {
    co_return connect_error(ErrorKind::timeout, origin,
                            "no connection within timeouts.upstream_connect");
  }
  if (base::out_of_resources(problem)) {
    // Ours, not the origin's: another attempt, or another server, would end the same.
    Error error = connect_error(ErrorKind::unavailable, origin, std::strerror(problem), problem);
    error.retry = Retry::never;
    co_return error;
  }
  resolved.until = {};  // the name may have moved
  const Error cause = base::from_errno(problem, "");
  co_return connect_error(cause.kind, origin, std::strerror(problem), problem);
}

}  // namespace gatehouse::http
