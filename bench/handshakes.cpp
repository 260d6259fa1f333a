// TLS connections as load: each does a handshake and one request, then closes, or stays idle.
//
//   bench_handshakes full    ADDRESS PORT NAME PATH CONNECTIONS SECONDS
//   bench_handshakes resumed ADDRESS PORT NAME PATH CONNECTIONS SECONDS
//   bench_handshakes idle    ADDRESS PORT NAME PATH
//
// full and resumed keep CONNECTIONS of them under way and print one line of JSON at the end. idle
// reads numbers from standard input; for each it opens so many more and answers "ready".
#include <arpa/inet.h>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <unordered_set>
#include <vector>

#include <openssl/err.h>
#include <openssl/ssl.h>

namespace {

using Clock = std::chrono::steady_clock;

struct Target {
  sockaddr_in address{};
  std::string name;
  std::string request;
};

struct Counts {
  uint64_t done = 0, resumed = 0, failed = 0;
};

[[noreturn]] void fail(const std::string& what) {
  std::cerr << "bench_handshakes: " << what << '\n';
  std::exit(1);
}

struct Connection {
  int fd = -1;
  SSL* ssl = nullptr;
  bool requested = false;
  bool answered = false;

  Connection() = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() {
    if (ssl) SSL_free(ssl);
    if (fd >= 0) close(fd);
  }
};

/// The newest session a server gave; resumed handshakes all use it (tickets are stateless).
SSL_SESSION* latest_session = nullptr;

int keep_session(SSL*, SSL_SESSION* session) {
  if (latest_session) SSL_SESSION_free(latest_session);
  latest_session = session;
  return 1;
}

SSL_CTX* client_context() {
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256");
  SSL_CTX_set1_groups_list(context, "X25519");
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT);
  SSL_CTX_sess_set_new_cb(context, keep_session);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  return context;
}

/// What one step of a connection wants next.
enum class Next { read, write, idle, failed };

Next wanted(SSL* ssl, int result) {
  switch (SSL_get_error(ssl, result)) {
    case SSL_ERROR_WANT_READ:
      return Next::read;
    case SSL_ERROR_WANT_WRITE:
      return Next::write;
    default:
      return Next::failed;
  }
}

/// Handshake, request, response; idle once the whole response has come.
Next step(Connection& c, const Target& target) {
  ERR_clear_error();
  if (!c.requested) {
    if (int result = SSL_connect(c.ssl); result != 1) return wanted(c.ssl, result);
    int length = static_cast<int>(target.request.size());
    if (int result = SSL_write(c.ssl, target.request.data(), length); result <= 0)
      return wanted(c.ssl, result);
    c.requested = true;
  }
  char buffer[16384];
  for (;;) {
    int result = SSL_read(c.ssl, buffer, sizeof buffer);
    if (result <= 0) {
      if (c.answered && SSL_get_error(c.ssl, result) == SSL_ERROR_WANT_READ) return Next::idle;
      return wanted(c.ssl, result);
    }
    // The bench's response is small and comes in one record or two: its end is not parsed.
    c.answered = true;
  }
}

std::unique_ptr<Connection> open_connection(SSL_CTX* context, const Target& target, int poll) {
  auto c = std::make_unique<Connection>();
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (c->fd < 0) fail("socket: too many open files? raise ulimit -n");
  int one = 1;
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  // Closing with a reset leaves no TIME_WAIT behind: a minute of load would use every port.
  linger abort_on_close{1, 0};
  setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &abort_on_close, sizeof abort_on_close);
  const auto* address = reinterpret_cast<const sockaddr*>(&target.address);
  if (connect(c->fd, address, sizeof target.address) != 0 && errno != EINPROGRESS)
    fail("cannot connect: is the proxy running?");
  c->ssl = SSL_new(context);
  SSL_set_fd(c->ssl, c->fd);
  SSL_set_tlsext_host_name(c->ssl, target.name.c_str());
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLET;
  event.data.ptr = c.get();
  epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &event);
  return c;
}

using Connections = std::unordered_set<Connection*>;

/// Runs ready connections; calls `ended(connection, well)` for each that is idle or failed.
template <class Ended>
void poll_once(int poll, const Target& target, Ended ended) {
  epoll_event events[256];
  int count = epoll_wait(poll, events, 256, 100);
  for (int i = 0; i < count; ++i) {
    auto* c = static_cast<Connection*>(events[i].data.ptr);
    if (c->answered && c->requested && events[i].events == EPOLLOUT) continue;
    Next next = step(*c, target);
    if (next == Next::idle || next == Next::failed) ended(c, next == Next::idle);
  }
}

/// One connection, for a session that the others resume.
void fetch_session(SSL_CTX* context, const Target& target) {
  int poll = epoll_create1(0);
  auto c = open_connection(context, target, poll);
  bool ended = false;
  auto until = Clock::now() + std::chrono::seconds(5);
  while (!ended && Clock::now() < until)
    poll_once(poll, target, [&](Connection*, bool) { ended = true; });
  // Freed without a shutdown, OpenSSL would mark the session as not resumable.
  SSL_shutdown(c->ssl);
  close(poll);
  if (!latest_session) fail("the server gave no session ticket to resume");
  // With its cache on, OpenSSL would use a ticket only once.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
}

Counts load(SSL_CTX* context, const Target& target, size_t width, double seconds, bool resume) {
  if (resume) fetch_session(context, target);
  int poll = epoll_create1(0);
  Connections live;
  Counts counts;
  SSL_SESSION* session = nullptr;
  if (resume) {
    session = latest_session;
    SSL_SESSION_up_ref(session);
  }
  auto start_one = [&] {
    auto c = open_connection(context, target, poll);
    if (session) SSL_set_session(c->ssl, session);
    live.insert(c.release());
  };
  auto until = Clock::now() + std::chrono::duration<double>(seconds);
  for (size_t i = 0; i < width; ++i) start_one();
  while (Clock::now() < until) {
    poll_once(poll, target, [&](Connection* c, bool well) {
      if (!live.erase(c)) return;
      ++(well ? counts.done : counts.failed);
      if (well && SSL_session_reused(c->ssl)) ++counts.resumed;
      if (well) SSL_shutdown(c->ssl);
      delete c;
      start_one();
    });
  }
  for (Connection* c : live) delete c;
  close(poll);
  return counts;
}

void hold_idle(SSL_CTX* context, const Target& target) {
  int poll = epoll_create1(0);
  std::vector<std::unique_ptr<Connection>> held;
  for (size_t more; std::cin >> more;) {
    for (size_t i = 0; i < more; ++i) {
      held.push_back(open_connection(context, target, poll));
      bool ended = false;
      auto until = Clock::now() + std::chrono::seconds(5);
      while (!ended) {
        if (Clock::now() > until) fail("a connection got no answer within 5 s");
        poll_once(poll, target, [&](Connection* c, bool well) {
          if (!well) fail("a connection ended: does the proxy allow so many?");
          if (c == held.back().get()) ended = true;
        });
      }
    }
    std::cout << "ready" << std::endl;
  }
}

Target parse_target(char** arguments) {
  Target target;
  target.address.sin_family = AF_INET;
  target.address.sin_port = htons(static_cast<uint16_t>(std::atoi(arguments[1])));
  if (inet_pton(AF_INET, arguments[0], &target.address.sin_addr) != 1)
    fail("ADDRESS is an IPv4 address");
  target.name = arguments[2];
  target.request =
      "GET " + std::string(arguments[3]) + " HTTP/1.1\r\nHost: " + target.name + "\r\n\r\n";
  return target;
}

}  // namespace

int main(int count, char** arguments) {
  std::string mode = count > 1 ? arguments[1] : "";
  bool loading = mode == "full" || mode == "resumed";
  if (!(loading && count == 8) && !(mode == "idle" && count == 6))
    fail(
        "usage: full|resumed ADDRESS PORT NAME PATH CONNECTIONS SECONDS, or idle ADDRESS PORT "
        "NAME PATH");
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  Target target = parse_target(arguments + 2);
  SSL_CTX* context = client_context();
  if (!loading) {
    hold_idle(context, target);
  } else {
    auto width = static_cast<size_t>(std::atoi(arguments[6]));
    Counts counts = load(context, target, width, std::atof(arguments[7]), mode == "resumed");
    std::printf("{\"requests\": %llu, \"resumed\": %llu, \"failed\": %llu}\n",
                static_cast<unsigned long long>(counts.done),
                static_cast<unsigned long long>(counts.resumed),
                static_cast<unsigned long long>(counts.failed));
  }
  SSL_CTX_free(context);
  return 0;
}
