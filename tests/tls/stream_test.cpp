#include "tls/stream.hpp"

#include <memory>
#include <vector>

#include <catch2/catch.hpp>
#include <openssl/err.h>

#include "base/task.hpp"
#include "tests/support/stage.hpp"
#include "tests/tls/memory_handshake.hpp"
#include "tls/certificate_builder.hpp"
#include "tls/record_layer.hpp"
#include "tls/ticket_keys.hpp"

namespace gatehouse::tls {

namespace {

using gatehouse::test::SocketPair;
using gatehouse::test::Stage;

std::string pattern(size_t size, uint64_t seed) {
  std::string text(size, '\0');
  for (auto& byte : text) {
    seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
    byte = static_cast<char>(seed >> 56);
  }
  return text;
}

/// Two ends of a TCP connection: Unix sockets know no reset.
struct TcpPair {
  TcpPair() {
    const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr address{};
    address.sa_family = AF_INET;
    REQUIRE(::bind(listener, &address, sizeof address) == 0);
    REQUIRE(::listen(listener, 1) == 0);
    socklen_t size = sizeof address;
    ::getsockname(listener, &address, &size);
    theirs = ::socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(::connect(theirs, &address, size) == 0);
    ours = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK);
    ::close(listener);
  }
  ~TcpPair() {
    if (theirs >= 0) ::close(theirs);
  }
  void send(std::string_view bytes) const {
    REQUIRE(::send(theirs, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(bytes.size()));
  }
  void finish() const { ::shutdown(theirs, SHUT_WR); }
  void reset() {
    const linger now{1, 0};
    setsockopt(theirs, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    ::close(std::exchange(theirs, -1));
  }
  int ours = -1;  // the stream's
  int theirs = -1;
};

Io write(Stream& stream, std::string_view bytes) {
  return stream.write({&bytes, 1});
}

struct Filled final : base::Parked {
  explicit Filled(Stream& s)
      : Parked([](Parked& self) { return static_cast<Filled&>(self).await_ready(); }), stream(s) {}
  bool await_ready() { return (state = stream.fill()) != Io::again; }
  void await_suspend(std::coroutine_handle<> handle) {
    waiting = handle;
    stream.reading.park(*this);
  }
  Io await_resume() const noexcept { return state; }
  Stream& stream;
  Io state = Io::again;
};

struct Flushed final : base::Parked {
  explicit Flushed(Stream& s)
      : Parked([](Parked& self) { return static_cast<Flushed&>(self).await_ready(); }), stream(s) {}
  bool await_ready() { return (state = stream.flush()) != Io::again; }
  void await_suspend(std::coroutine_handle<> handle) {
    waiting = handle;
    stream.writing.park(*this);
  }
  Io await_resume() const noexcept { return state; }
  Stream& stream;
  Io state = Io::again;
};

/// Reads to the end into `out`.
base::Task<void> read_all(Stream& stream, std::string& out, Io& end) {
  for (;;) {
    Filled filled(stream);
    const Io state = co_await filled;
    if (state != Io::ok) {
      end = state;
      co_return;
    }
    const auto bytes = stream.unread();
    out.append(bytes.data(), bytes.size());
    stream.consume(bytes.size());
  }
}

base::Task<void> write_all(Stream& stream, std::string_view bytes, size_t piece, bool& done) {
  while (!bytes.empty()) {
    const auto part = bytes.substr(0, piece);
    write(stream, part);
    bytes.remove_prefix(part.size());
    Flushed flushed(stream);
    const Io state = co_await flushed;
    if (state != Io::ok) co_return;
  }
  stream.shutdown_write();
  done = true;
}

base::Task<void> shake(Stream& stream, int& result) {
  auto handshake = stream.handshaken();
  const bool well = co_await handshake;
  result = well ? 1 : -1;
}

/// Both ends of one connection as streams.
struct Joined {
  Joined() {
    REQUIRE(server.open(pair.ours));
    REQUIRE(client.open(std::exchange(pair.theirs, -1)));
  }
  void secure(const Context& server_context, const Context& client_context,
              const Certificate& certificate) {
    REQUIRE(server.start_server(server_context, certificate));
    REQUIRE(client.start_client(client_context, "example.com", false));
    int server_result = 0, client_result = 0;
    base::spawn(shake(server, server_result));
    base::spawn(shake(client, client_result));
    stage.until([&] { return server_result != 0 && client_result != 0; });
    REQUIRE(server_result == 1);
    REQUIRE(client_result == 1);
  }
  Stage stage;
  SocketPair pair;
  Stream server{stage.reactor, base::Side::downstream};
  Stream client{stage.reactor, base::Side::upstream};
};

ContextPtr server_context() {
  return Context::server(config::TlsVersion::tls12).value();
}
ContextPtr client_context() {
  config::UpstreamTls settings;
  settings.verify = false;
  return Context::client(settings).value();
}
CertificatePtr certificate() {
  return make_self_signed({"example.com"}, std::chrono::hours(1)).value();
}

}  // namespace

TEST_CASE("a plain stream reads what came, keeps what is not consumed, and sees the end") {
  Stage stage;
  SocketPair pair, other;
  Stream stream(stage.reactor, base::Side::downstream);
  Stream neighbour(stage.reactor, base::Side::downstream);
  REQUIRE(stream.open(pair.ours));
  REQUIRE(neighbour.open(other.ours));
  CHECK(stream.fill() == Io::again);
  pair.send("hello world");
  other.send("something else");
  stage.settle();
  REQUIRE(stream.fill() == Io::ok);
  stream.consume(6);
  // The window is everybody's: what is unread must survive the neighbour's reading.
  REQUIRE(neighbour.fill() == Io::ok);
  CHECK(std::string(stream.unread().data(), stream.unread().size()) == "world");
  CHECK(std::string(neighbour.unread().data(), neighbour.unread().size()) == "something else");
  pair.send("!");
  pair.finish();
  stage.settle();
  REQUIRE(stream.fill() == Io::ok);
  CHECK(std::string(stream.unread().data(), stream.unread().size()) == "world!");
  CHECK(stream.fill() == Io::eof);
  CHECK(stream.unread_size() == 6);
}

TEST_CASE("bytes cross whole in both directions, plain and encrypted, whatever blocks") {
  const bool encrypted = GENERATE(false, true);
  const size_t piece = GENERATE(as<size_t>{}, 1'000, 65'536, 200'000);
  Joined joined;
  const auto one = server_context(), two = client_context();
  const auto own = certificate();
  if (encrypted) joined.secure(*one, *two, *own);
  const std::string down = pattern(5'000'000, 1), up = pattern(3'000'000, 2);
  std::string got_down, got_up;
  Io end_down = Io::again, end_up = Io::again;
  bool sent_down = false, sent_up = false;
  base::spawn(read_all(joined.client, got_down, end_down));
  base::spawn(read_all(joined.server, got_up, end_up));
  base::spawn(write_all(joined.server, down, piece, sent_down));
  base::spawn(write_all(joined.client, up, piece, sent_up));
  joined.stage.until([&] { return end_down != Io::again && end_up != Io::again; });
  CHECK(sent_down);
  CHECK(sent_up);
  CHECK(end_down == Io::eof);
  CHECK(end_up == Io::eof);
  CHECK((got_down == down));
  CHECK((got_up == up));
}

TEST_CASE("pieces of a write arrive in order and share records") {
  Joined joined;
  const auto one = server_context(), two = client_context();
  const auto own = certificate();
  joined.secure(*one, *two, *own);
  const std::string body = pattern(40'000, 3);
  const std::array<std::string_view, 4> pieces = {"head\r\n", "5\r\n", body, "\r\n0\r\n\r\n"};
  CHECK(joined.server.write(pieces) == Io::ok);
  joined.server.shutdown_write();
  std::string got;
  Io end = Io::again;
  base::spawn(read_all(joined.client, got, end));
  joined.stage.until([&] { return end != Io::again; });
  CHECK((got == "head\r\n5\r\n" + body + "\r\n0\r\n\r\n"));
}

TEST_CASE("a TLS end without close_notify is a failure towards origins, an end towards clients") {
  const bool server_leaves = GENERATE(true, false);
  Joined joined;
  const auto one = server_context(), two = client_context();
  const auto own = certificate();
  joined.secure(*one, *two, *own);
  Stream& leaves = server_leaves ? joined.server : joined.client;
  Stream& stays = server_leaves ? joined.client : joined.server;
  write(leaves, "last words");
  leaves.close();
  std::string got;
  Io end = Io::again;
  base::spawn(read_all(stays, got, end));
  joined.stage.until([&] { return end != Io::again; });
  CHECK(got == "last words");
  CHECK(end == (server_leaves ? Io::failed : Io::eof));
}

TEST_CASE("data that follows the handshake in the same bytes is not lost") {
  Joined joined;
  const auto one = server_context(), two = client_context();
  const auto own = certificate();
  REQUIRE(joined.server.start_server(*one, *own));
  REQUIRE(joined.client.start_client(*two, "example.com", false));
  int server_result = 0, client_result = 0;
  base::spawn(shake(joined.client, client_result));
  base::spawn(shake(joined.server, server_result));
  // The client ends its handshake first (TLS 1.3) and speaks at once.
  joined.stage.until([&] { return client_result != 0; });
  REQUIRE(client_result == 1);
  write(joined.client, "GET / HTTP/1.1\r\n\r\n");
  std::string got;
  Io end = Io::again;
  joined.stage.until([&] { return server_result != 0; });
  REQUIRE(server_result == 1);
  got.assign(joined.server.unread().data(), joined.server.unread_size());
  joined.server.consume(joined.server.unread_size());
  base::spawn(read_all(joined.server, got, end));
  joined.stage.until([&] { return got.size() == 18; });
  joined.client.shutdown_write();
  joined.stage.until([&] { return end != Io::again; });
  CHECK(got == "GET / HTTP/1.1\r\n\r\n");
}

namespace {

/// Answers the first bytes, and notes what the peer had received by then.
base::Task<void> answer_once(Stream& stream, SocketPair& pair, std::string_view answer,
                             std::string& at_once) {
  Filled filled(stream);
  co_await filled;
  stream.consume(stream.unread_size());
  write(stream, answer);
  at_once = pair.receive();
}

}  // namespace

TEST_CASE("small writes of a busy batch are sent at its end, others at once") {
  const bool busy = GENERATE(true, false);
  const bool small = GENERATE(true, false);
  Stage stage;
  SocketPair one, two;
  Stream first(stage.reactor, base::Side::downstream);
  Stream second(stage.reactor, base::Side::downstream);
  REQUIRE(first.open(one.ours));
  REQUIRE(second.open(two.ours));
  stage.settle();
  const std::string answer(small ? Stream::held_bytes_max : Stream::held_bytes_max + 1, 'a');
  std::string got_one, got_two;
  base::spawn(answer_once(first, one, answer, got_one));
  base::spawn(answer_once(second, two, answer, got_two));
  one.send("?");
  if (busy) two.send("?");
  stage.settle();
  CHECK((got_one == (busy && small ? std::string() : answer)));
  CHECK_FALSE(first.pending());
  if (busy && small) {
    CHECK((one.receive() == answer));
    CHECK((two.receive() == answer));
  }
  two.send("?");
  stage.settle();
}

TEST_CASE("what a busy batch holds is sent before a close, and dropped by an abort") {
  const bool aborted = GENERATE(false, true);
  Stage stage;
  SocketPair one, two;
  Stream first(stage.reactor, base::Side::downstream);
  Stream second(stage.reactor, base::Side::downstream);
  REQUIRE(first.open(one.ours));
  REQUIRE(second.open(two.ours));
  stage.settle();
  const auto end_after = [aborted](Stream& stream, SocketPair& pair,
                                   std::string& got) -> base::Task<void> {
    auto answering = answer_once(stream, pair, "last words", got);
    co_await answering;
    aborted ? stream.abort() : stream.close();
  };
  std::string got_one, got_two;
  base::spawn(end_after(first, one, got_one));
  base::spawn(end_after(second, two, got_two));
  one.send("?");
  two.send("?");
  stage.settle();
  CHECK(got_one.empty());
  CHECK(one.receive() == (aborted ? "" : "last words"));
  CHECK(two.receive() == (aborted ? "" : "last words"));
  CHECK(one.closed);
}

TEST_CASE("a peer that does not read gets the rest of what was held when it does") {
  Stage stage;
  SocketPair one, two;
  Stream first(stage.reactor, base::Side::downstream);
  Stream second(stage.reactor, base::Side::downstream);
  REQUIRE(first.open(one.ours));
  REQUIRE(second.open(two.ours));
  stage.settle();
  // As much as the socket takes, less than what will be held.
  std::string sent;
  const std::string filler(1000, 'f');
  while (::send(one.ours, filler.data(), filler.size(), MSG_DONTWAIT) > 0) sent += filler;
  char byte = 'f';
  while (::send(one.ours, &byte, 1, MSG_DONTWAIT) > 0) sent += byte;
  std::string got_one, got_two;
  const std::string answer(4000, 'a');
  const auto answer_blind = [](Stream& stream, std::string_view text) -> base::Task<void> {
    Filled filled(stream);
    co_await filled;
    stream.consume(stream.unread_size());
    write(stream, text);
  };
  base::spawn(answer_blind(first, answer));
  base::spawn(answer_blind(second, answer));
  one.send("?");
  two.send("?");
  stage.settle();
  CHECK(first.pending());
  std::string received;
  stage.until([&] {
    received += one.receive();
    return received.size() >= sent.size() + answer.size();
  });
  CHECK((received == sent + answer));
  CHECK_FALSE(first.pending());
}

TEST_CASE("the end of writing comes behind all that was written, and reading goes on") {
  const bool encrypted = GENERATE(false, true);
  Joined joined;
  const auto one = server_context(), two = client_context();
  const auto own = certificate();
  if (encrypted) joined.secure(*one, *two, *own);
  // More than the socket takes: the end has to wait.
  const std::string body = pattern(200'000, 7);
  std::string sent;
  while (!joined.server.pending()) {
    write(joined.server, body);
    sent += body;
  }
  joined.server.shutdown_write();
  joined.server.shutdown_write();
  std::string got, back;
  Io end = Io::again, back_end = Io::again;
  bool done = false;
  base::spawn(read_all(joined.server, back, back_end));
  base::spawn(read_all(joined.client, got, end));
  joined.stage.until([&] { return end != Io::again; });
  CHECK(end == Io::eof);
  CHECK(got == sent);
  CHECK(back_end == Io::again);
  base::spawn(write_all(joined.client, body, 10'000, done));
  joined.stage.until([&] { return back_end != Io::again; });
  CHECK(back_end == Io::eof);
  CHECK(back == body);
}

TEST_CASE("a failed stream resumes whoever waits, and refuses further work") {
  Joined joined;
  std::string got;
  Io end = Io::again;
  base::spawn(read_all(joined.server, got, end));
  joined.server.fail(base::ErrorKind::timeout, "too slow");
  CHECK(end == Io::failed);
  CHECK(joined.server.failed());
  CHECK(joined.server.error().kind == base::ErrorKind::timeout);
  CHECK(write(joined.server, "x") == Io::failed);
  CHECK(joined.server.fill() == Io::failed);
}

TEST_CASE("garbage instead of a handshake is an error with a reason") {
  Stage stage;
  SocketPair pair;
  Stream stream(stage.reactor, base::Side::downstream);
  const auto context = server_context();
  const auto own = certificate();
  REQUIRE(stream.open(pair.ours));
  REQUIRE(stream.start_server(*context, *own));
  int result = 0;
  base::spawn(shake(stream, result));
  pair.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
  stage.until([&] { return result != 0; });
  CHECK(result == -1);
  CHECK(stream.error().kind == base::ErrorKind::tls);
  CHECK_FALSE(stream.error().context.empty());
}

TEST_CASE("what was sent before a broken connection can still be read") {
  Stage stage;
  SocketPair pair;
  Stream stream(stage.reactor, base::Side::upstream);
  REQUIRE(stream.open(pair.ours));
  pair.send("HTTP/1.1 413 Content Too Large\r\n\r\n");
  pair.close_theirs();
  stage.settle();
  const std::string body(100'000, 'x');
  CHECK(write(stream, body) == Io::failed);
  CHECK_FALSE(stream.failed());
  REQUIRE(stream.fill() == Io::ok);
  CHECK(stream.unread_size() == 34);
}

TEST_CASE("a reset that a write was told of is no end of what is read") {
  const bool ended_first = GENERATE(false, true);
  TcpPair pair;
  Stage stage;
  Stream stream(stage.reactor, base::Side::upstream);
  REQUIRE(stream.open(pair.ours));
  pair.send("all that there is");
  if (ended_first) pair.finish();
  stage.settle();
  REQUIRE(stream.fill() == Io::ok);
  pair.reset();
  CHECK(write(stream, "more") == Io::failed);
  stage.settle();
  CHECK(stream.fill() == (ended_first ? Io::eof : Io::failed));
  CHECK(stream.failed() == !ended_first);
}

TEST_CASE("the peer of a stream that is aborted, or fails with bytes left, sees a reset") {
  const bool aborted = GENERATE(true, false);
  TcpPair pair;
  Stage stage;
  Stream stream(stage.reactor, base::Side::downstream);
  REQUIRE(stream.open(pair.ours));
  stage.settle();
  if (aborted) {
    stream.abort();
  } else {
    const std::string much(64 * 1024 * 1024, 'x');
    CHECK(write(stream, much) == Io::again);
    stream.fail(base::ErrorKind::timeout, "the client reads too slowly");
    stream.close();
  }
  std::vector<char> received(1024 * 1024);
  ssize_t count = 1;
  while (count > 0) count = ::recv(pair.theirs, received.data(), received.size(), 0);
  CHECK(count == -1);
  CHECK(errno == ECONNRESET);
}

namespace {

/// A stream that reads all it can, and an OpenSSL client at the other end of its socket.
struct WithOpenssl {
  explicit WithOpenssl(int version = TLS1_3_VERSION, const std::string& suite = {}) {
    REQUIRE(server.open(pair.ours));
    REQUIRE(server.start_server(*one, *own));
    REQUIRE(SSL_set_max_proto_version(client.get(), version) == 1);
    if (!suite.empty()) REQUIRE(SSL_set_ciphersuites(client.get(), suite.c_str()) == 1);
    SSL_set_fd(client.get(), pair.theirs);
    int result = 0;
    base::spawn(shake(server, result));
    stage.until([&] { return SSL_connect(client.get()) == 1 && result != 0; });
    REQUIRE(result == 1);
    base::spawn(read_all(server, got, end));
  }
  ~WithOpenssl() { server.fail(base::ErrorKind::cancelled, "the test is over"); }
  /// What the client is sent, until it is so much or the end.
  std::string client_reads(size_t size) {
    std::string text;
    char bytes[4096];
    stage.until([&] {
      const int count = SSL_read(client.get(), bytes, sizeof bytes);
      if (count > 0) text.append(bytes, static_cast<size_t>(count));
      const int problem = SSL_get_error(client.get(), count);
      return text.size() >= size || problem == SSL_ERROR_ZERO_RETURN || problem == SSL_ERROR_SSL;
    });
    return text;
  }
  void client_writes(std::string_view text) const {
    REQUIRE(SSL_write(client.get(), text.data(), static_cast<int>(text.size())) ==
            static_cast<int>(text.size()));
  }
  /// The alert that ended the client's connection.
  int alert_received() {
    CHECK(client_reads(1).empty());
    const int reason = ERR_GET_REASON(ERR_peek_error());
    ERR_clear_error();
    return reason;
  }

  Stage stage;
  SocketPair pair;
  ContextPtr one = server_context();
  CertificatePtr own = certificate();
  SslContextPtr two = test::plain_client();
  SslPtr client{SSL_new(two.get())};
  Stream server{stage.reactor, base::Side::downstream};
  std::string got;
  Io end = Io::again;
};

}  // namespace

TEST_CASE("an OpenSSL client speaks with a stream under either version and every suite") {
  const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
  const std::string suite =
      version == TLS1_2_VERSION
          ? std::string()
          : GENERATE(as<std::string>{}, "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                     "TLS_CHACHA20_POLY1305_SHA256");
  WithOpenssl both(version, suite);
  CHECK(both.server.version() == (version == TLS1_2_VERSION ? "TLSv1.2" : "TLSv1.3"));
  CHECK_FALSE(both.server.resumed());
  CHECK(both.server.encrypted());
  both.client_writes("a request");
  both.stage.until([&] { return both.got == "a request"; });
  write(both.server, "a response");
  CHECK(both.client_reads(10) == "a response");
  SSL_shutdown(both.client.get());
  both.stage.until([&] { return both.end != Io::again; });
  CHECK(both.end == Io::eof);
  both.server.shutdown_write();
  CHECK(both.client_reads(1).empty());
  CHECK(SSL_get_shutdown(both.client.get()) == (SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN));
}

TEST_CASE("a client may change its keys, and have ours changed") {
  const int kind = GENERATE(SSL_KEY_UPDATE_NOT_REQUESTED, SSL_KEY_UPDATE_REQUESTED);
  WithOpenssl both;
  for (int round = 0; round < 5; ++round) {
    both.got.clear();
    REQUIRE(SSL_key_update(both.client.get(), kind) == 1);
    both.client_writes("under a new key");
    both.stage.until([&] { return both.got == "under a new key"; });
    write(both.server, "and back");
    CHECK(both.client_reads(8) == "and back");
  }
}

TEST_CASE("endless key updates end the connection") {
  WithOpenssl both;
  for (uint64_t i = 0; i <= RecordLayer::key_updates_max; ++i) {
    CHECK(both.end == Io::again);
    REQUIRE(SSL_key_update(both.client.get(), SSL_KEY_UPDATE_NOT_REQUESTED) == 1);
    REQUIRE(SSL_do_handshake(both.client.get()) == 1);
    both.stage.settle();
  }
  both.stage.until([&] { return both.end != Io::again; });
  CHECK(both.end == Io::failed);
  CHECK(both.server.error().context == "too many TLS KeyUpdates");
}

TEST_CASE("records are understood however they arrive, and a changed one is refused") {
  const bool changed = GENERATE(false, true);
  WithOpenssl both;
  // What the client would send, byte by byte.
  BIO* const memory = BIO_new(BIO_s_mem());
  SSL_set0_wbio(both.client.get(), memory);
  const std::string text = pattern(20'000, 7);
  both.client_writes(text);
  both.client_writes("!");
  std::string wire = bio_text(memory);
  if (changed) wire[wire.size() - 1] ^= 1;
  for (size_t at = 0; at < wire.size(); ++at) {
    both.pair.send(wire.substr(at, 1));
    both.stage.settle();
  }
  CHECK((both.got == (changed ? text : text + "!")));
  CHECK(both.end == (changed ? Io::failed : Io::again));
  if (!changed) return;
  CHECK(both.server.error().kind == base::ErrorKind::tls);
  CHECK(both.alert_received() == SSL_R_SSLV3_ALERT_BAD_RECORD_MAC);
}

TEST_CASE("a record longer than any may be is refused before it has come") {
  WithOpenssl both;
  both.pair.send(std::string_view("\x17\x03\x03\x41\x01", 5));  // 16 KiB + 257
  both.stage.until([&] { return both.end != Io::again; });
  CHECK(both.end == Io::failed);
  CHECK(both.alert_received() == SSL_R_TLSV1_ALERT_RECORD_OVERFLOW);
}

TEST_CASE("session tickets go along with the answer to a request that came with the handshake") {
  use_ticket_keys(TicketKeys::create());
  Stage stage;
  SocketPair pair;
  Stream server(stage.reactor, base::Side::downstream);
  const auto one = server_context();
  const auto own = certificate();
  REQUIRE(server.open(pair.ours));
  REQUIRE(server.start_server(*one, *own));
  const auto two = test::plain_client();
  test::End client(two.get(), false);
  int result = 0;
  base::spawn(shake(server, result));
  const auto exchange = [&] {
    pair.send(test::take_output(client));
    stage.settle();
    const std::string answer = pair.receive();
    BIO_write(client.in, answer.data(), static_cast<int>(answer.size()));
    return answer;
  };
  SSL_do_handshake(client.ssl.get());
  exchange();
  REQUIRE(SSL_do_handshake(client.ssl.get()) == 1);
  SECTION("with a request: one send for both") {
    REQUIRE(SSL_write(client.ssl.get(), "request", 7) == 7);
    CHECK(exchange().empty());
    REQUIRE(result == 1);
    CHECK(std::string(server.unread().data(), server.unread_size()) == "request");
    CHECK(write(server, "answer") == Io::ok);
    CHECK_FALSE(server.pending());
    exchange();
    char answer[16] = {};
    CHECK(SSL_read(client.ssl.get(), answer, sizeof answer) == 6);
    CHECK(std::string_view(answer) == "answer");
  }
  SECTION("without one: at once") {
    CHECK_FALSE(exchange().empty());
    char byte = 0;
    CHECK(SSL_read(client.ssl.get(), &byte, 1) == -1);
  }
  CHECK(SSL_SESSION_is_resumable(SSL_get0_session(client.ssl.get())) == 1);
  use_ticket_keys(nullptr);
}

}  // namespace gatehouse::tls
