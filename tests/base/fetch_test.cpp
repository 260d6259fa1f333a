#include "base/fetch.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <unistd.h>

#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <catch2/catch.hpp>

#include "tests/support/await.hpp"
#include "tests/support/scripted_server.hpp"

namespace gatehouse::base {

namespace {

namespace asio = boost::asio;
using test::ScriptedReply;
using test::ScriptedRequest;
using test::ScriptedServer;
using Fault = ScriptedReply::Fault;

FetchRequest to(const std::string& url) {
  FetchRequest request;
  request.url = url;
  return request;
}

ScriptedReply plain(const ScriptedRequest&) {
  ScriptedReply reply;
  reply.body = "hello";
  return reply;
}

}  // namespace

TEST_CASE("a response comes back whole, with its fields in lower case") {
  asio::io_context control;
  ScriptedServer server(control, [](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.status = 404;
    reply.fields = {{"X-Thing", "  one "}, {"x-thing", "two"}, {"Replay-Nonce", "abc"}};
    reply.body = std::string("zero\0byte", 9);
    return reply;
  });
  Fetcher fetcher(control);
  const auto response = test::await(control, fetcher.fetch(to(server.url("/path?q=1"))));
  REQUIRE(response.has_value());
  CHECK(response->status == 404);
  CHECK(response->body == std::string("zero\0byte", 9));
  CHECK(response->field("x-thing") == "one");
  CHECK(response->field("replay-nonce") == "abc");
  CHECK(response->field("absent").empty());
  CHECK(server.requests().at(0).target == "/path?q=1");
  CHECK(server.requests().at(0).head.find("User-Agent: gatehouse/") != std::string::npos);
}

TEST_CASE("a POST sends its body and fields, and nothing of curl's own ideas") {
  asio::io_context control;
  ScriptedServer server(control, plain);
  Fetcher fetcher(control);
  FetchRequest request = to(server.url());
  request.method = "POST";
  request.body = GENERATE(std::string(), std::string("{}"), std::string(200'000, 'b'));
  request.fields = {{"Content-Type", "application/jose+json"}};
  const auto response = test::await(control, fetcher.fetch(request));
  REQUIRE(response.has_value());
  const auto& seen = server.requests().at(0);
  CHECK(seen.method == "POST");
  CHECK(seen.body == request.body);
  CHECK(seen.head.find("Content-Type: application/jose+json") != std::string::npos);
  CHECK(seen.head.find("Expect") == std::string::npos);
}

TEST_CASE("methods are sent as asked") {
  asio::io_context control;
  ScriptedServer server(control, plain);
  Fetcher fetcher(control);
  FetchRequest request = to(server.url());
  request.method = GENERATE("GET", "HEAD", "DELETE", "PUT");
  const auto response = test::await(control, fetcher.fetch(request));
  REQUIRE(response.has_value());
  CHECK(server.requests().at(0).method == request.method);
  CHECK(response->body == (request.method == "HEAD" ? "" : "hello"));
}

TEST_CASE("connections are kept and used again") {
  asio::io_context control;
  ScriptedServer server(control, plain);
  Fetcher fetcher(control);
  for (int i = 0; i < 5; ++i) {
    REQUIRE(test::await(control, fetcher.fetch(to(server.url()))).has_value());
  }
  CHECK(server.connections() == 1);
}

TEST_CASE("a hundred requests at once all end") {
  asio::io_context control;
  ScriptedServer server(control, plain);
  Fetcher fetcher(control);
  int good = 0;
  for (int i = 0; i < 100; ++i) {
    asio::co_spawn(control, fetcher.fetch(to(server.url())),
                   [&](std::exception_ptr, Result<FetchResponse> response) {
                     good += response.has_value() && response->body == "hello" ? 1 : 0;
                   });
  }
  while (good < 100 && control.run_one_for(std::chrono::seconds(20)) > 0) {
  }
  CHECK(good == 100);
}

TEST_CASE("a POST on a connection that turns out closed is not repeated, a GET is") {
  asio::io_context control;
  ScriptedServer server(control, [](const ScriptedRequest& request) {
    ScriptedReply reply;
    reply.body = "first";
    if (request.connection == 1 && request.target == "/second") reply.fault = Fault::cut_off;
    return reply;
  });
  Fetcher fetcher(control);
  REQUIRE(test::await(control, fetcher.fetch(to(server.url("/first")))).has_value());
  FetchRequest request = to(server.url("/second"));
  request.method = GENERATE("GET", "POST");
  const auto response = test::await(control, fetcher.fetch(request));
  if (request.method == "GET") {
    CHECK(response.has_value());
    CHECK(server.requests().size() == 3);
  } else {
    REQUIRE(response.has_error());
    CHECK(response.error().retry == Retry::if_reused);
    CHECK(server.requests().size() == 2);
  }
}

TEST_CASE("a body over the limit is an error of kind limit, however it is framed") {
  asio::io_context control;
  ScriptedServer server(control, [](const ScriptedRequest& request) {
    ScriptedReply reply;
    reply.body = std::string(1001, 'x');
    if (request.target == "/endless") reply.fault = Fault::endless_body;
    return reply;
  });
  Fetcher fetcher(control);
  FetchRequest request = to(server.url(GENERATE("/", "/endless")));
  request.response_body_max = 1000;
  const auto response = test::await(control, fetcher.fetch(request));
  REQUIRE(response.has_error());
  CHECK(response.error().kind == ErrorKind::limit);
  CHECK(response.error().context.find("127.0.0.1") != std::string::npos);
  request.response_body_max = 1001;
  request.url = server.url("/");
  CHECK(test::await(control, fetcher.fetch(request)).has_value());
}

TEST_CASE("a head over the limit is an error of kind limit") {
  asio::io_context control;
  const int fields = GENERATE(5, 1000);
  ScriptedServer server(control, [fields](const ScriptedRequest&) {
    ScriptedReply reply;
    const std::string value(fields == 5 ? 20'000 : 5, 'v');
    for (int i = 0; i < fields; ++i) reply.fields.emplace_back("X-Field", value);
    return reply;
  });
  Fetcher fetcher(control);
  const auto response = test::await(control, fetcher.fetch(to(server.url())));
  REQUIRE(response.has_error());
  CHECK(response.error().kind == ErrorKind::limit);
}

TEST_CASE("a server that never answers runs into the time limit") {
  asio::io_context control;
  ScriptedServer server(control, [](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.fault = Fault::hang;
    return reply;
  });
  Fetcher fetcher(control);
  FetchRequest request = to(server.url());
  request.timeout = std::chrono::milliseconds(100);
  const auto response = test::await(control, fetcher.fetch(request));
  REQUIRE(response.has_error());
  CHECK(response.error().kind == ErrorKind::timeout);
  CHECK(response.error().retry == Retry::never);
}

TEST_CASE("nobody listening, a broken answer and a cut-off one are told apart") {
  asio::io_context control;
  uint16_t closed_port = 0;
  { closed_port = ScriptedServer(control, plain).port(); }
  ScriptedServer server(control, [](const ScriptedRequest& request) {
    ScriptedReply reply;
    reply.fault = Fault::raw;
    if (request.target == "/nonsense") reply.bytes = "nonsense\r\n\r\n";
    if (request.target == "/short") {
      reply.bytes = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc";
    }
    if (request.target == "/nothing") reply.fault = Fault::cut_off;
    return reply;
  });
  Fetcher fetcher(control);
  const auto kind = [&](const std::string& url) {
    const auto response = test::await(control, fetcher.fetch(to(url)));
    REQUIRE(response.has_error());
    CHECK(response.error().context.find("127.0.0.1") != std::string::npos);
    return response.error().kind;
  };
  CHECK(kind(fmt::format("http://127.0.0.1:{}/", closed_port)) == ErrorKind::refused);
  CHECK(kind(server.url("/nonsense")) == ErrorKind::protocol);
  CHECK(kind(server.url("/short")) == ErrorKind::closed);
  CHECK(kind(server.url("/nothing")) == ErrorKind::closed);
}

TEST_CASE("an interim response and its fields are not the answer") {
  asio::io_context control;
  ScriptedServer server(control, [](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.fault = Fault::raw;
    reply.bytes =
        "HTTP/1.1 103 Early Hints\r\nX-Early: yes\r\n\r\n"
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    return reply;
  });
  Fetcher fetcher(control);
  const auto response = test::await(control, fetcher.fetch(to(server.url())));
  REQUIRE(response.has_value());
  CHECK(response->status == 200);
  CHECK(response->field("x-early").empty());
}

TEST_CASE("redirects are followed only when asked for, and never out of HTTP") {
  asio::io_context control;
  ScriptedServer server(control, [](const ScriptedRequest& request) {
    ScriptedReply reply;
    reply.body = "target";
    if (request.target == "/from") {
      reply.status = 302;
      reply.fields = {{"Location", "/to"}};
      reply.body = "moved";
    }
    if (request.target == "/file") {
      reply.status = 302;
      reply.fields = {{"Location", "file:///etc/passwd"}};
    }
    if (request.target == "/loop") {
      reply.status = 302;
      reply.fields = {{"Location", "/loop"}};
    }
    return reply;
  });
  Fetcher fetcher(control);
  FetchRequest request = to(server.url("/from"));
  auto response = test::await(control, fetcher.fetch(request));
  REQUIRE(response.has_value());
  CHECK(response->status == 302);
  CHECK(response->body == "moved");
  request.follow_redirects = true;
  response = test::await(control, fetcher.fetch(request));
  REQUIRE(response.has_value());
  CHECK(response->body == "target");
  request.url = server.url("/file");
  CHECK(test::await(control, fetcher.fetch(request)).has_error());
  request.url = server.url("/loop");
  CHECK(test::await(control, fetcher.fetch(request)).has_error());
}

TEST_CASE("addresses and fields that make no sense are refused before anything is sent") {
  asio::io_context control;
  ScriptedServer server(control, plain);
  Fetcher fetcher(control);
  for (const std::string url :
       {"", "file:///etc/passwd", "ftp://127.0.0.1/", "//127.0.0.1/", "gopher://x", "http://"}) {
    const auto response = test::await(control, fetcher.fetch(to(url)));
    REQUIRE(response.has_error());
    CHECK(response.error().kind == ErrorKind::invalid);
  }
  FetchRequest request = to(server.url());
  request.fields = {{"X-Field", "value\r\nX-Smuggled: yes"}};
  CHECK(test::await(control, fetcher.fetch(request)).has_error());
  CHECK(server.requests().empty());
}

TEST_CASE("a user's name and password in an address are not in the error") {
  asio::io_context control;
  Fetcher fetcher(control);
  FetchRequest request = to("http://user:secret@127.0.0.1:1/");
  const auto response = test::await(control, fetcher.fetch(request));
  REQUIRE(response.has_error());
  CHECK(response.error().context.find("secret") == std::string::npos);
}

TEST_CASE("a missing or empty file of trusted roots is named in the error") {
  asio::io_context control;
  Fetcher fetcher(control);
  FetchRequest request = to("https://127.0.0.1:1/");
  request.ca_file = "/nonexistent/root.pem";
  auto response = test::await(control, fetcher.fetch(request));
  REQUIRE(response.has_error());
  CHECK(response.error().context.find("/nonexistent/root.pem") != std::string::npos);
  const auto path =
      std::filesystem::temp_directory_path() / fmt::format("gatehouse-fetch-{}.pem", ::getpid());
  std::ofstream(path) << "no certificate";
  request.ca_file = path;
  response = test::await(control, fetcher.fetch(request));
  std::filesystem::remove(path);
  REQUIRE(response.has_error());
  CHECK(response.error().kind == ErrorKind::invalid);
}

TEST_CASE("plain HTTP where TLS is expected is an error of kind tls") {
  asio::io_context control;
  boost::asio::ip::tcp::acceptor acceptor(control, {asio::ip::make_address("127.0.0.1"), 0});
  acceptor.async_accept([](boost::system::error_code, asio::ip::tcp::socket socket) {
    asio::write(socket, asio::buffer(std::string_view("HTTP/1.1 400 Bad Request\r\n\r\n")));
  });
  Fetcher fetcher(control);
  const auto url = fmt::format("https://127.0.0.1:{}/", acceptor.local_endpoint().port());
  const auto response = test::await(control, fetcher.fetch(to(url)));
  REQUIRE(response.has_error());
  CHECK(response.error().kind == ErrorKind::tls);
}

TEST_CASE("a request that is cancelled leaves nothing behind") {
  using namespace asio::experimental::awaitable_operators;
  asio::io_context control;
  ScriptedServer server(control, [](const ScriptedRequest& request) {
    ScriptedReply reply = plain(request);
    if (request.target == "/hang") reply.fault = Fault::hang;
    return reply;
  });
  Fetcher fetcher(control);
  asio::steady_timer timer(control, std::chrono::milliseconds(50));
  auto race = [](Fetcher* f, std::string url, asio::steady_timer* t) -> asio::awaitable<size_t> {
    FetchRequest request;
    request.url = std::move(url);
    auto winner = co_await (f->fetch(std::move(request)) || t->async_wait(asio::use_awaitable));
    co_return winner.index();
  };
  CHECK(test::await(control, race(&fetcher, server.url("/hang"), &timer)) == 1);
  CHECK(test::await(control, fetcher.fetch(to(server.url("/")))).has_value());
}

TEST_CASE("a fetcher that goes ends its requests, and one whose io_context goes does no harm") {
  auto control = std::make_unique<asio::io_context>();
  auto server = std::make_unique<ScriptedServer>(*control, [](const ScriptedRequest&) {
    ScriptedReply reply;
    reply.fault = Fault::hang;
    return reply;
  });
  auto fetcher = std::make_unique<Fetcher>(*control);
  std::optional<ErrorKind> ended;
  asio::co_spawn(*control, fetcher->fetch(to(server->url())),
                 [&](std::exception_ptr, Result<FetchResponse> response) {
                   if (response.has_error()) ended = response.error().kind;
                 });
  while (server->requests().empty()) control->run_one();
  SECTION("the fetcher goes first") {
    fetcher.reset();
    control->run_for(std::chrono::milliseconds(100));
    CHECK(ended == ErrorKind::cancelled);
  }
  SECTION("everything goes at once") {
    fetcher.reset();
    server.reset();
    control.reset();
    CHECK_FALSE(ended);
  }
}

}  // namespace gatehouse::base
