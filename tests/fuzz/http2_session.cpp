// Frames from a client to our server, or from an origin to our client: whatever comes, nothing
// breaks, what is handed on is valid, and everything ends when the connection does.
//
// The first byte says how the rest is used: see Manner.
#include <algorithm>
#include <array>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>

#include "http/authority.hpp"
#include "http/http2_client.hpp"
#include "http/http2_server.hpp"
#include "http/rules.hpp"
#include "tests/fuzz/target.hpp"
#include "tests/support/manual_clock.hpp"

namespace gatehouse {

namespace http {

namespace {

struct Manner {
  explicit Manner(unsigned char byte)
      : to_client((byte & 1) != 0),
        in_shreds((byte & 2) != 0),
        lazy((byte & 4) != 0),
        time_passes((byte & 8) != 0),
        peer_reads((byte & 16) == 0),
        drains((byte & 32) != 0) {}
  bool to_client;
  bool in_shreds;    // it comes a few bytes at a time
  bool lazy;         // bodies are not read to their end
  bool time_passes;  // between the pieces
  bool peer_reads;   // what we send
  bool drains;
};

constexpr size_t shred_bytes = 11;

/// The thread's reactor, and one connection whose other end the input is.
struct Line {
  Line() {
    const int made = ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends.data());
    ASSERT(made == 0);
  }
  ~Line() { hang_up(); }
  void hang_up() {
    if (ends[1] >= 0) ::close(ends[1]);
    ends[1] = -1;
    turn();
  }
  static void turn() {
    reactor().run([] {});
    while (context().poll() > 0) continue;
  }
  static void pass(std::chrono::milliseconds time) {
    clock().advance(time);
    reactor().run([] { reactor().timers().advance(reactor().now()); });
    turn();
  }
  void receive() {
    std::array<char, 64 * 1024> bytes;
    while (::recv(ends[1], bytes.data(), bytes.size(), 0) > 0) turn();
  }
  void deliver(std::string_view bytes, const Manner& manner) {
    while (!bytes.empty()) {
      const size_t most = manner.in_shreds ? shred_bytes : bytes.size();
      const ssize_t sent =
          ::send(ends[1], bytes.data(), std::min(most, bytes.size()), MSG_NOSIGNAL);
      if (sent <= 0) return;  // nobody reads it any more
      bytes.remove_prefix(static_cast<size_t>(sent));
      turn();
      if (manner.peer_reads) receive();
      if (manner.time_passes) pass(std::chrono::milliseconds(700));
    }
  }

  static test::ManualClock& clock() {
    static test::ManualClock one;
    return one;
  }
  static boost::asio::io_context& context() {
    static boost::asio::io_context one{1};
    return one;
  }
  static base::Reactor& reactor() {
    static base::Reactor one(context(), clock());
    return one;
  }
  static base::MetricShard& metrics() {
    static base::MetricShard one;
    return one;
  }
  std::array<int, 2> ends{-1, -1};
};

bool is_hop_by_hop(std::string_view name) {
  constexpr std::string_view names[] = {"connection", "keep-alive",        "proxy-connection", "te",
                                        "upgrade",    "transfer-encoding", "http2-settings"};
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

void check_fields(const Fields& fields, const HeadLimits& limits) {
  size_t bytes = 0, lengths = 0;
  for (const Field& field : fields) {
    ASSERT(is_token(field.name) && is_field_value(field.value));
    ASSERT(std::none_of(field.name.begin(), field.name.end(),
                        [](char c) { return c >= 'A' && c <= 'Z'; }));
    ASSERT(field.skip || !is_hop_by_hop(field.name));
    ASSERT(field.id == field_id(field.name));
    lengths += field.name == "content-length";
    if (!field.skip) bytes += field.name.size() + field.value.size();
  }
  ASSERT(lengths <= 1);
  ASSERT(fields.size() <= limits.fields_max + 1);  // and the cookie made of crumbs
  ASSERT(bytes <= limits.bytes_max);
}

void check_chunk(const BodyChunk& chunk) {
  ASSERT(chunk.bytes.size() <= static_cast<size_t>(Http2Session::stream_window_bytes));
  if (chunk.trailers == nullptr) return;
  ASSERT(chunk.last);
  for (const auto& [name, value] : *chunk.trailers) {
    ASSERT(is_token(name) && is_field_value(value) && trailer_allowed(name));
  }
}

BodyChunk piece(std::string_view bytes, bool last) {
  BodyChunk chunk;
  chunk.bytes = bytes;
  chunk.last = last;
  return chunk;
}

const std::string& much() {
  static const std::string bytes(40'000, 'x');
  return bytes;
}

// --- a client's frames

struct Answering final : Http2Server::Handler {
  explicit Answering(const Manner& m) : manner(m) {}
  void on_request(Http2ServerStream& stream) override;
  bool serves(std::string_view host) override {
    ASSERT(!host.empty());
    return host != "other";
  }
  void on_session_ended() override {
    ASSERT(!ended);
    ended = true;
  }

  const Manner& manner;
  std::unique_ptr<Http2Server> server;
  bool ended = false;
};

void check_request(Http2ServerStream& stream, const HeadLimits& limits) {
  const RequestHead& head = stream.request();
  if (stream.refusal()) {
    ASSERT(stream.refusal()->status >= 400 && stream.refusal()->status < 600);
    return;
  }
  OwnedText owned;
  ASSERT(is_token(head.method_text) && !head.host.empty());
  ASSERT(host_name(head.authority, owned) == head.host);
  ASSERT(head.method != Method::connect && head.method != Method::trace);
  ASSERT(head.target.starts_with('/') || (head.target == "*" && head.method == Method::options));
  for (const char c : head.target) ASSERT(c > 0x20 && c < 0x7f && c != '#');
  ASSERT(head.scheme == "http" || head.scheme == "https");
  ASSERT(head.framing != Framing::until_close);
  ASSERT(!head.protocol.empty() || stream.request_complete() == (head.framing == Framing::none));
  check_fields(head.fields, limits);
}

base::Task<void> answer(Answering& all, Http2ServerStream& stream) {
  const RequestHead& request = stream.request();
  const uint64_t length = request.content_length;
  const bool known = request.framing == Framing::length;
  uint64_t come = 0;
  bool read = true;
  while (!stream.request_complete() && !all.manner.lazy) {
    auto reading = stream.read_body();
    read = co_await reading;
    if (!read) break;
    check_chunk(stream.chunk());
    come += stream.chunk().bytes.size();
  }
  if (read && !all.manner.lazy) ASSERT(!known || come == length);
  ResponseHead head;
  head.status = !request.protocol.empty() && !stream.refusal() ? 101 : 200;
  stream.write_head(head, piece("begin", false));
  for (int i = 0; i < 3; ++i) {
    auto drained = stream.drained();
    const bool taken = co_await drained;
    if (!taken) break;
    stream.write_body(piece(much(), i == 2));
  }
  auto drained = stream.drained();
  co_await drained;
  all.server->finish(stream);
}

void Answering::on_request(Http2ServerStream& stream) {
  check_request(stream, server->session_settings().head);
  base::spawn(answer(*this, stream));
}

void judge_server(std::string_view input, const Manner& manner) {
  Line line;
  tls::Stream stream(Line::reactor(), base::Side::downstream);
  ASSERT(stream.open(line.ends[0]));
  Http2Server::Settings settings;
  settings.session.head = {2048, 20};
  settings.session.streams_max = 5;
  settings.session.header_timeout = settings.session.stall_timeout = std::chrono::seconds(10);
  settings.idle_timeout = settings.body_timeout = std::chrono::seconds(10);
  settings.body_bytes_max = 100'000;
  Answering handler(manner);
  handler.server =
      std::make_unique<Http2Server>(stream, Line::reactor(), Line::metrics(), settings, handler);
  handler.server->start();
  line.deliver("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", manner);
  if (manner.drains) handler.server->drain();
  line.deliver(input, manner);
  if (manner.time_passes) Line::pass(std::chrono::seconds(30));
  line.hang_up();
  Line::turn();
  ASSERT(handler.ended && handler.server->ended() && handler.server->unused());
  handler.server.reset();
  stream.close();
}

// --- an origin's

struct Asking {
  std::unique_ptr<Http2Client> client;
  const Manner& manner;
  HeadLimits limits;
  int under_way = 0;
};

base::Task<void> ask(Asking& all, ClientStream& stream, Method method, std::string_view name) {
  ++all.under_way;
  RequestHead head;
  head.method = method;
  head.method_text = name;
  head.target = "/";
  stream.write_head(head, "a.example", piece("", method != Method::post));
  if (method == Method::post) stream.write_body(piece(much(), true));
  uint32_t heads = 0;
  bool come = false;
  do {
    auto reading = stream.read_head();
    come = co_await reading;
    if (!come) break;
    ASSERT(stream.response().status >= 100 && stream.response().status <= 999);
    ASSERT(stream.response().status != 101);
    check_fields(stream.response().fields, all.limits);
    ASSERT(++heads <= ClientConnection::interim_responses_max + 1);
  } while (stream.response().status < 200);
  const bool known = come && stream.response().framing == Framing::length;
  uint64_t read = 0;
  while (come && !all.manner.lazy && !stream.response_complete()) {
    auto reading = stream.read_body();
    come = co_await reading;
    if (!come) break;
    check_chunk(stream.chunk());
    read += stream.chunk().bytes.size();
  }
  if (come && known && !all.manner.lazy) ASSERT(read == stream.response().content_length);
  if (!come) ASSERT(!stream.error().context.empty());
  all.client->end(stream);
  --all.under_way;
}

base::Task<void> greet(Http2Client& client, bool& over) {
  auto greeting = client.greet();
  co_await greeting;
  over = true;
}

void judge_client(std::string_view input, const Manner& manner) {
  Line line;
  ClientConnection::Settings settings;
  settings.head = {2048, 20};
  settings.response_timeout = settings.body_timeout = settings.idle_timeout =
      std::chrono::seconds(10);
  Asking all{std::make_unique<Http2Client>(Line::reactor(), Line::metrics(), settings), manner,
             settings.head};
  Http2Client& client = *all.client;
  ASSERT(client.stream().open(line.ends[0]));
  bool greeted = false;
  base::spawn(greet(client, greeted));
  const std::pair<Method, std::string_view> requests[] = {
      {Method::get, "GET"}, {Method::head, "HEAD"}, {Method::post, "POST"}, {Method::get, "GET"}};
  const size_t half = input.size() / 2;
  for (size_t i = 0; i < std::size(requests); ++i) {
    if (i == 2) line.deliver(input.substr(0, half), manner);
    ClientStream* const stream = client.begin(settings);
    if (stream == nullptr) break;
    base::spawn(ask(all, *stream, requests[i].first, requests[i].second));
    Line::turn();
  }
  line.deliver(input.substr(half), manner);
  if (manner.time_passes) Line::pass(std::chrono::seconds(30));
  line.hang_up();
  Line::turn();
  ASSERT(all.under_way == 0 && greeted && client.finished());
  client.stream().close();
}

}  // namespace

}  // namespace http

void fuzz(std::string_view input) {
  if (input.empty()) return;
  const http::Manner manner(static_cast<unsigned char>(input.front()));
  input.remove_prefix(1);
  manner.to_client ? http::judge_client(input, manner) : http::judge_server(input, manner);
}

}  // namespace gatehouse
