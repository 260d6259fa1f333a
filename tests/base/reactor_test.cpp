#include "base/reactor.hpp"

#include <fcntl.h>
#include <future>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <set>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "base/buffer.hpp"

namespace gatehouse::base {

namespace {

constexpr size_t message_bytes = 100;
constexpr size_t big_bytes = 50 * 1024 * 1024;

uint64_t next_random(uint64_t& state) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

/// FNV-1a over everything given to it, whatever way it is split.
struct Digest {
  uint64_t value = 0xcbf29ce484222325ULL;
  void add(const char* bytes, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      value = (value ^ static_cast<unsigned char>(bytes[i])) * 0x100000001b3ULL;
    }
  }
};

/// Sends back whatever comes, and closes when the peer has.
class Echo final : public Source, public Retirable {
 public:
  Echo(Reactor& reactor, std::set<Echo*>& open) : reactor_(reactor), open_(open) {
    open_.insert(this);
  }
  ~Echo() override { open_.erase(this); }

 private:
  void on_ready() override {
    while (readable || !waiting_.empty()) {
      if (!send_waiting()) return;
      if (!readable) return;
      std::array<char, 64 * 1024> bytes;
      const ssize_t count = ::recv(fd(), bytes.data(), bytes.size(), 0);
      if (count == 0 || (count < 0 && errno != EAGAIN)) {
        reactor_.close(*this);
        reactor_.retire(std::unique_ptr<Retirable>(this));
        return;
      }
      if (count < 0) {
        readable = false;
        return;
      }
      if (static_cast<size_t>(count) < bytes.size() && !hung_up) readable = false;
      waiting_.append({bytes.data(), static_cast<size_t>(count)});
    }
  }
  bool send_waiting() {
    while (!waiting_.empty()) {
      const ssize_t count = ::send(fd(), waiting_.data(), waiting_.size(), MSG_NOSIGNAL);
      if (count <= 0) {
        writable = false;
        return false;
      }
      waiting_.consume(static_cast<size_t>(count));
    }
    waiting_.trim();
    return true;
  }
  Reactor& reactor_;
  std::set<Echo*>& open_;
  ByteQueue waiting_;
};

class Acceptor final : public Source {
 public:
  explicit Acceptor(Reactor& reactor) : reactor_(reactor) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&any), sizeof any) == 0);
    REQUIRE(::listen(fd, 128) == 0);
    socklen_t size = sizeof address;
    REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    REQUIRE(reactor.add_listener(*this, fd, false));
  }
  ~Acceptor() override {
    reactor_.close(*this);
    while (!open_.empty()) delete *open_.begin();  // whose end was not seen any more
  }
  sockaddr_in address{};

 private:
  void on_ready() override {
    const int fd = ::accept4(this->fd(), nullptr, nullptr, SOCK_NONBLOCK);
    if (fd < 0) return;
    auto echo = std::make_unique<Echo>(reactor_, open_);
    if (reactor_.add(*echo, fd)) echo.release();  // it frees itself when the client closes
  }
  Reactor& reactor_;
  std::set<Echo*> open_;
};

/// An echo server on a thread of its own.
class EchoServer {
 public:
  EchoServer() : reactor_(context_), acceptor_(reactor_), thread_([this] { context_.run(); }) {}
  ~EchoServer() {
    reactor_.post([this] { context_.stop(); });
    thread_.join();
  }
  int connect() const {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    // A lost wake-up shows as a read that never returns.
    const timeval patience{20, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    REQUIRE(::connect(fd, reinterpret_cast<const sockaddr*>(&acceptor_.address),
                      sizeof acceptor_.address) == 0);
    return fd;
  }
  Reactor& reactor() { return reactor_; }

 private:
  boost::asio::io_context context_{1};
  Reactor reactor_;
  Acceptor acceptor_;
  std::thread thread_;
};

bool send_all(int fd, const char* bytes, size_t count) {
  while (count > 0) {
    const ssize_t sent = ::send(fd, bytes, count, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes += sent;
    count -= static_cast<size_t>(sent);
  }
  return true;
}

bool receive_all(int fd, char* bytes, size_t count) {
  while (count > 0) {
    const ssize_t received = ::recv(fd, bytes, count, 0);
    if (received <= 0) return false;
    bytes += received;
    count -= static_cast<size_t>(received);
  }
  return true;
}

/// Sends `rounds` messages on each of `connections`, and reads each answer.
size_t exchange(const EchoServer& server, size_t connections, size_t rounds) {
  std::vector<int> clients;
  for (size_t i = 0; i < connections; ++i) clients.push_back(server.connect());
  std::array<char, message_bytes> message{}, answer{};
  size_t complete = 0;
  for (size_t round = 0; round < rounds; ++round) {
    for (const int fd : clients) {
      message[0] = static_cast<char>(round);
      if (!send_all(fd, message.data(), message.size())) return complete;
    }
    for (const int fd : clients) {
      if (!receive_all(fd, answer.data(), answer.size()) || answer[0] != message[0]) {
        return complete;
      }
      ++complete;
    }
  }
  for (const int fd : clients) ::close(fd);
  return complete;
}

}  // namespace

TEST_CASE("no wake-up is lost in 200,000 requests on one connection") {
  EchoServer server;
  CHECK(exchange(server, 1, 200'000) == 200'000);
}

TEST_CASE("no wake-up is lost in 200,000 requests on 64 connections") {
  EchoServer server;
  CHECK(exchange(server, 64, 3'125) == 200'000);
}

TEST_CASE("a closed source hears nothing more, whoever else has the same open file") {
  boost::asio::io_context context;
  Reactor reactor(context);
  int pair[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
  std::set<Echo*> open;
  Echo source(reactor, open);
  REQUIRE(reactor.add(source, pair[0]));
  const int kept = ::fcntl(pair[0], F_DUPFD_CLOEXEC, 0);
  REQUIRE(kept >= 0);
  context.poll();
  reactor.close(source);
  context.poll();
  const uint64_t batches = reactor.batch();
  REQUIRE(::send(pair[1], "x", 1, MSG_NOSIGNAL) == 1);
  context.poll();
  CHECK(reactor.batch() == batches);
  ::close(kept);
  ::close(pair[1]);
}

TEST_CASE("a FIN that comes with the last data is seen after that data") {
  EchoServer server;
  for (int i = 0; i < 2'000; ++i) {
    const int fd = server.connect();
    const std::string message(1 + static_cast<size_t>(i) * 37 % 70'000, 'x');
    std::thread sender([&] {
      send_all(fd, message.data(), message.size());
      ::shutdown(fd, SHUT_WR);
    });
    std::string answer(message.size(), '\0');
    CHECK(receive_all(fd, answer.data(), answer.size()));
    char more = 0;
    CHECK(::recv(fd, &more, 1, 0) == 0);  // the server has closed as well
    sender.join();
    ::close(fd);
    if (answer != message) FAIL("the echo differs at message " << i);
  }
}

TEST_CASE("writes that block for 50 MB arrive whole") {
  EchoServer server;
  const int fd = server.connect();
  const int small = 16 * 1024;  // so that the server's writes block, again and again
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  Digest sent, received;
  std::thread sender([&] {
    uint64_t state = 42;
    std::array<uint64_t, 8192> words;
    for (size_t done = 0; done < big_bytes; done += sizeof words) {
      for (auto& word : words) word = next_random(state);
      const auto* bytes = reinterpret_cast<const char*>(words.data());
      sent.add(bytes, sizeof words);
      if (!send_all(fd, bytes, sizeof words)) return;
    }
  });
  std::vector<char> bytes(256 * 1024);
  for (size_t done = 0; done < big_bytes;) {
    const ssize_t count = ::recv(fd, bytes.data(), bytes.size(), 0);
    if (count <= 0) break;
    received.add(bytes.data(), static_cast<size_t>(count));
    done += static_cast<size_t>(count);
  }
  sender.join();
  ::close(fd);
  CHECK(received.value == sent.value);
}

TEST_CASE("posted changes run on the reactor's thread, in order") {
  EchoServer server;
  std::vector<int> seen;
  std::promise<void> done;
  for (int i = 0; i < 100; ++i) server.reactor().post([&seen, i] { seen.push_back(i); });
  server.reactor().post([&done] { done.set_value(); });
  done.get_future().wait();
  REQUIRE(seen.size() == 100);
  CHECK(std::is_sorted(seen.begin(), seen.end()));
}

namespace {

struct Count final : Deferred {
  explicit Count(int& t) : total(t) {}
  void on_deferred() override { ++total; }
  int& total;
};

}  // namespace

TEST_CASE("deferred work runs once for each request, and not after it was forgotten") {
  boost::asio::io_context context(1);
  Reactor reactor(context);
  int total = 0;
  std::vector<std::unique_ptr<Count>> works;
  for (int i = 0; i < 50; ++i) works.push_back(std::make_unique<Count>(total));
  reactor.post([&] {
    for (auto& work : works) {
      reactor.defer(*work);
      reactor.defer(*work);
    }
    reactor.forget(*works[3]);
    reactor.forget(*works[40]);
  });
  while (total < 48) context.run_one();
  context.poll();
  CHECK(total == 48);
}

TEST_CASE(
    "work at a batch's end runs once, before what is deferred, and not after it was forgotten") {
  boost::asio::io_context context(1);
  Reactor reactor(context);
  struct Note final : Deferred {
    Note(std::string& l, char c) : log(l), letter(c) {}
    void on_deferred() override { log += letter; }
    std::string& log;
    char letter;
  };
  std::string log;
  Note deferred(log, 'd'), first(log, '1'), second(log, '2'), forgotten(log, 'x');
  reactor.post([&] {
    reactor.defer(deferred);
    reactor.at_batch_end(first);
    reactor.at_batch_end(forgotten);
    reactor.at_batch_end(second);
    reactor.at_batch_end(first);
    reactor.forget(forgotten);
    CHECK_FALSE(reactor.busy());
    CHECK(log.empty());
  });
  while (log.size() < 3) context.run_one();
  CHECK(log == "12d");
}

TEST_CASE(
    "of work at a batch's end only so much comes together, and a lone event is no busy batch") {
  boost::asio::io_context context(1);
  Reactor reactor(context);
  struct Asking final : Source, Deferred {
    Asking(Reactor& r, size_t& w, size_t& m) : reactor(r), waiting(w), most(m) {}
    ~Asking() override {
      reactor.forget(*this);
      reactor.close(*this);
    }
    void on_ready() override {
      busy = reactor.busy();
      if (std::exchange(asked, true)) return;
      reactor.at_batch_end(*this);
      most = std::max(most, ++waiting);
    }
    void on_deferred() override {
      --waiting;
      done = true;
    }
    Reactor& reactor;
    size_t& waiting;
    size_t& most;
    bool asked = false, done = false, busy = false;
  };
  size_t waiting = 0, most = 0;
  const size_t count = GENERATE(as<size_t>{}, 1, 2, 16, 100);
  std::vector<std::unique_ptr<Asking>> sources;
  std::vector<int> others;
  for (size_t i = 0; i < count; ++i) {
    int both[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, both) == 0);
    sources.push_back(std::make_unique<Asking>(reactor, waiting, most));
    REQUIRE(reactor.add(*sources.back(), both[0]));
    others.push_back(both[1]);
  }
  const auto all_done = [&] {
    return std::all_of(sources.begin(), sources.end(), [](const auto& s) { return s->done; });
  };
  while (!all_done()) context.run_one();
  CHECK(waiting == 0);
  CHECK(most == std::min(count, Reactor::batch_end_work_max));
  for (const auto& source : sources) CHECK(source->busy == (count > 1));
  CHECK_FALSE(reactor.busy());
  for (const int fd : others) ::close(fd);
}

}  // namespace gatehouse::base
