// TLS connections as load: each does a handshake and one request, then closes, or stays idle.
//
//   bench_handshakes full    ADDRESS PORT NAME PATH CONNECTIONS SECONDS
//   bench_handshakes resumed ADDRESS PORT NAME PATH CONNECTIONS SECONDS
//   bench_handshakes idle | idle-http2 ADDRESS PORT NAME PATH
//
// full and resumed keep CONNECTIONS of them under way and print one line of JSON at the end. idle
// and idle-http2 read numbers from standard input; for each they open so many more and answer
// "ready".
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "connection.hpp"
#include "http2_request.hpp"

namespace {

struct Counts {
  uint64_t done = 0, resumed = 0, failed = 0;
};

struct Client : Connection {
  bool requested = false;
  bool answered = false;
  Http2Answer http2;
};

/// The connections to make: where, and what each asks.
struct Plan {
  SSL_CTX* context;
  Target target;
  std::string request;
  bool http2;
};

/// The newest session a server gave; resumed handshakes all use it (tickets are stateless).
SSL_SESSION* latest_session = nullptr;

int keep_session(SSL*, SSL_SESSION* session) {
  if (latest_session) SSL_SESSION_free(latest_session);
  latest_session = session;
  return 1;
}

/// Handshake, request, response; idle once the whole response has come.
Next step(Client& c, const Plan& plan) {
  ERR_clear_error();
  if (!c.requested) {
    if (int result = SSL_connect(c.ssl); result != 1) return wanted(c.ssl, result);
    const unsigned char* protocol = nullptr;
    unsigned length = 0;
    SSL_get0_alpn_selected(c.ssl, &protocol, &length);
    if (plan.http2 && length != 2) fail("the server does not offer HTTP/2");
    int bytes = static_cast<int>(plan.request.size());
    if (int result = SSL_write(c.ssl, plan.request.data(), bytes); result <= 0)
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
    if (plan.http2) {
      std::string reply = c.http2.take({buffer, static_cast<size_t>(result)});
      if (!reply.empty() && SSL_write(c.ssl, reply.data(), static_cast<int>(reply.size())) <= 0)
        return Next::failed;
      if (c.http2.failed) return Next::failed;
      c.answered = c.http2.ended;
    } else {
      // The bench's response is small and comes in one record or two: its end is not parsed.
      c.answered = true;
    }
  }
}

std::unique_ptr<Client> open_client(const Plan& plan, int poll) {
  auto c = std::make_unique<Client>();
  open_connection(*c, plan.context, plan.target, poll, c.get());
  return c;
}

using Clients = std::unordered_set<Client*>;

/// Runs ready connections; calls `ended(connection, well)` for each that is idle or failed.
template <class Ended>
void poll_once(int poll, const Plan& plan, Ended ended) {
  epoll_event events[256];
  int count = epoll_wait(poll, events, 256, 100);
  for (int i = 0; i < count; ++i) {
    auto* c = static_cast<Client*>(events[i].data.ptr);
    if (c->answered && c->requested && events[i].events == EPOLLOUT) continue;
    Next next = step(*c, plan);
    if (next == Next::idle || next == Next::failed) ended(c, next == Next::idle);
  }
}

/// One connection, for a session that the others resume.
void fetch_session(const Plan& plan) {
  int poll = epoll_create1(0);
  auto c = open_client(plan, poll);
  bool ended = false;
  auto until = Clock::now() + std::chrono::seconds(5);
  while (!ended && Clock::now() < until)
    poll_once(poll, plan, [&](Client*, bool) { ended = true; });
  // Freed without a shutdown, OpenSSL would mark the session as not resumable.
  SSL_shutdown(c->ssl);
  close(poll);
  if (!latest_session) fail("the server gave no session ticket to resume");
  // With its cache on, OpenSSL would use a ticket only once.
  SSL_CTX_set_session_cache_mode(plan.context, SSL_SESS_CACHE_OFF);
}

Counts load(const Plan& plan, size_t width, double seconds, bool resume) {
  if (resume) fetch_session(plan);
  int poll = epoll_create1(0);
  Clients live;
  Counts counts;
  SSL_SESSION* session = nullptr;
  if (resume) {
    session = latest_session;
    SSL_SESSION_up_ref(session);
  }
  auto start_one = [&] {
    auto c = open_client(plan, poll);
    if (session) SSL_set_session(c->ssl, session);
    live.insert(c.release());
  };
  auto until = Clock::now() + std::chrono::duration<double>(seconds);
  for (size_t i = 0; i < width; ++i) start_one();
  while (Clock::now() < until) {
    poll_once(poll, plan, [&](Client* c, bool well) {
      if (!live.erase(c)) return;
      ++(well ? counts.done : counts.failed);
      if (well && SSL_session_reused(c->ssl)) ++counts.resumed;
      if (well) SSL_shutdown(c->ssl);
      delete c;
      start_one();
    });
  }
  for (Client* c : live) delete c;
  close(poll);
  return counts;
}

void hold_idle(const Plan& plan) {
  int poll = epoll_create1(0);
  std::vector<std::unique_ptr<Client>> held;
  for (size_t more; std::cin >> more;) {
    for (size_t i = 0; i < more; ++i) {
      held.push_back(open_client(plan, poll));
      bool ended = false;
      auto until = Clock::now() + std::chrono::seconds(5);
      while (!ended) {
        if (Clock::now() > until) fail("a connection got no answer within 5 s");
        poll_once(poll, plan, [&](Client* c, bool well) {
          if (!well) fail("a connection ended: does the proxy allow so many?");
          if (c == held.back().get()) ended = true;
        });
      }
    }
    std::cout << "ready" << std::endl;
  }
}

}  // namespace

int main(int count, char** arguments) {
  std::string mode = count > 1 ? arguments[1] : "";
  bool loading = mode == "full" || mode == "resumed";
  bool idle = mode == "idle" || mode == "idle-http2";
  if (!(loading && count == 8) && !(idle && count == 6))
    fail(
        "usage: full|resumed ADDRESS PORT NAME PATH CONNECTIONS SECONDS, or idle|idle-http2 "
        "ADDRESS PORT NAME PATH");
  allow_many_files();
  Plan plan{nullptr, parse_target(arguments + 2), {}, mode == "idle-http2"};
  const Target& target = plan.target;
  plan.request = plan.http2
                     ? http2_get(target.name, target.path)
                     : "GET " + target.path + " HTTP/1.1\r\nHost: " + target.name + "\r\n\r\n";
  plan.context = client_context(plan.http2 ? "h2" : "");
  SSL_CTX_set_session_cache_mode(plan.context, SSL_SESS_CACHE_CLIENT);
  SSL_CTX_sess_set_new_cb(plan.context, keep_session);
  if (!loading) {
    hold_idle(plan);
  } else {
    auto width = static_cast<size_t>(std::atoi(arguments[6]));
    Counts counts = load(plan, width, std::atof(arguments[7]), mode == "resumed");
    std::printf("{\"requests\": %llu, \"resumed\": %llu, \"failed\": %llu}\n",
                static_cast<unsigned long long>(counts.done),
                static_cast<unsigned long long>(counts.resumed),
                static_cast<unsigned long long>(counts.failed));
  }
  SSL_CTX_free(plan.context);
  return 0;
}
