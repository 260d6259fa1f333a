#include "admin/server.hpp"

#include <filesystem>
#include <fstream>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <catch2/catch.hpp>

#include "admin/api.hpp"
#include "admin/client.hpp"

using namespace gatehouse::admin;
namespace asio = boost::asio;
namespace base = gatehouse::base;

namespace {

class Folder {
 public:
  Folder() {
    char pattern[] = "/tmp/gatehouse-admin-XXXXXX";
    path_ = ::mkdtemp(pattern);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

asio::awaitable<Response> echo(Request request) {
  if (request.path == "/throw") throw std::runtime_error("a handler's own fault");
  co_return Response(
      200, "text/plain",
      request.method + " " + request.path + " " + request.query + " " + request.body);
}

// A server on a thread of its own, as the control thread is.
class Running {
 public:
  explicit Running(ServerSettings settings) : server_(io_, echo) {
    const auto outcome = server_.listen(settings);
    if (outcome.has_error()) throw std::runtime_error(outcome.error().context);
    port_ = server_.port();
    server_.run();
    thread_ = std::thread([this] { io_.run(); });
  }
  ~Running() {
    asio::post(io_, [this] { server_.stop(); });
    thread_.join();
  }
  uint16_t port() const { return port_; }

 private:
  asio::io_context io_;
  Server server_;
  uint16_t port_ = 0;
  std::thread thread_;
};

ServerSettings unix_settings(const std::string& path) {
  ServerSettings settings;
  settings.address = "unix:" + path;
  return settings;
}

ServerSettings tcp_settings() {
  ServerSettings settings;
  settings.address = "127.0.0.1:0";
  settings.token = "t0ken";
  return settings;
}

// Sends bytes as they are; what comes back until the server closes or stays silent.
template <class Protocol>
std::string raw(const typename Protocol::endpoint& endpoint, const std::string& bytes) {
  asio::io_context io;
  typename Protocol::socket socket(io);
  socket.connect(endpoint);
  boost::system::error_code code;
  asio::write(socket, asio::buffer(bytes), code);
  std::string answer;
  asio::async_read(socket, asio::dynamic_buffer(answer), [](const auto&, size_t) {});
  io.run_for(std::chrono::seconds(5));
  return answer;
}

std::string ask_unix(const std::string& path, const std::string& bytes) {
  return raw<asio::local::stream_protocol>(asio::local::stream_protocol::endpoint(path), bytes);
}

std::string ask_tcp(uint16_t port, const std::string& fields, const std::string& method = "GET",
                    const std::string& body = "") {
  const std::string length = body.empty() ? "" : fmt::format("Content-Length: {}\r\n", body.size());
  return raw<asio::ip::tcp>({asio::ip::make_address("127.0.0.1"), port},
                            fmt::format("{} /x HTTP/1.1\r\nConnection: close\r\n{}{}\r\n{}", method,
                                        length, fields, body));
}

std::string status_of(const std::string& answer) {
  return answer.substr(0, answer.find("\r\n"));
}

base::Result<void> listen_once(ServerSettings settings) {
  asio::io_context io;
  Server server(io, echo);
  return server.listen(std::move(settings));
}

}  // namespace

TEST_CASE(
    "The Unix socket is its owner's alone, in a folder made for it, and goes with the server") {
  Folder folder;
  const std::string path = folder.file("run/admin.sock");
  {
    Running running(unix_settings(path));
    struct stat status {};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0600);
    CHECK(S_ISSOCK(status.st_mode));
    const auto answer = Client(*parse_address("unix:" + path), "").request("GET", "/a?b=c");
    REQUIRE(answer.has_value());
    CHECK(answer->status == 200);
    CHECK(answer->body == "GET /a b=c ");
  }
  CHECK(!std::filesystem::exists(path));
}

TEST_CASE("A stale socket file is replaced") {
  Folder folder;
  const std::string path = folder.file("admin.sock");
  const int stale = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path.c_str());
  REQUIRE(::bind(stale, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  ::close(stale);
  Running running(unix_settings(path));
  CHECK(Client(*parse_address("unix:" + path), "").request("GET", "/").has_value());
}

TEST_CASE("A live socket is refused, and goes on answering") {
  Folder folder;
  const std::string path = folder.file("admin.sock");
  Running running(unix_settings(path));
  const auto second = listen_once(unix_settings(path));
  REQUIRE(second.has_error());
  CHECK(second.error().context.find("another gatehouse answers on " + path) != std::string::npos);
  CHECK(Client(*parse_address("unix:" + path), "").request("GET", "/").has_value());
}

TEST_CASE("A file that is no socket is left alone") {
  Folder folder;
  std::ofstream(folder.file("admin.sock")) << "precious";
  const auto outcome = listen_once(unix_settings(folder.file("admin.sock")));
  REQUIRE(outcome.has_error());
  CHECK(outcome.error().context.find("is not a socket") != std::string::npos);
  CHECK(std::filesystem::file_size(folder.file("admin.sock")) == 8);
}

TEST_CASE("A folder that cannot be made is named") {
  const auto outcome = listen_once(unix_settings("/proc/gatehouse/admin.sock"));
  REQUIRE(outcome.has_error());
  CHECK(outcome.error().context.find("/proc/gatehouse") != std::string::npos);
}

TEST_CASE("TCP without a token does not listen") {
  ServerSettings settings = tcp_settings();
  settings.token.clear();
  const auto outcome = listen_once(settings);
  REQUIRE(outcome.has_error());
  CHECK(outcome.error().context.find("admin_token_file") != std::string::npos);
}

TEST_CASE("A TCP port in use is named, with how to find its holder") {
  Running running(tcp_settings());
  ServerSettings settings = tcp_settings();
  settings.address = fmt::format("127.0.0.1:{}", running.port());
  const auto outcome = listen_once(settings);
  REQUIRE(outcome.has_error());
  CHECK(outcome.error().context.find(settings.address) != std::string::npos);
  CHECK(outcome.error().context.find("ss -ltnp") != std::string::npos);
}

TEST_CASE("On TCP the token, the Host and the Origin are checked") {
  Running running(tcp_settings());
  const uint16_t port = running.port();
  const std::string host = fmt::format("Host: 127.0.0.1:{}\r\n", port);
  const std::string token = "Authorization: Bearer t0ken\r\n";
  const auto status = [&](const std::string& fields) { return status_of(ask_tcp(port, fields)); };
  CHECK(status(host + token) == "HTTP/1.1 200 OK");
  CHECK(status(fmt::format("Host: localhost:{}\r\n", port) + token) == "HTTP/1.1 200 OK");
  CHECK(status(host + token + fmt::format("Origin: http://127.0.0.1:{}\r\n", port)) ==
        "HTTP/1.1 200 OK");
  CHECK(status(host) == "HTTP/1.1 401 Unauthorized");
  CHECK(status(host + "Authorization: Bearer t0keN\r\n") == "HTTP/1.1 401 Unauthorized");
  CHECK(status(host + "Authorization: Bearer t0ken2\r\n") == "HTTP/1.1 401 Unauthorized");
  CHECK(status(host + "Authorization: Bearer \r\n") == "HTTP/1.1 401 Unauthorized");
  CHECK(status(host + "Authorization: Basic t0ken\r\n") == "HTTP/1.1 401 Unauthorized");
  CHECK(status("Host: attacker.example\r\n" + token) == "HTTP/1.1 403 Forbidden");
  CHECK(status("Host: 127.0.0.1.attacker.example\r\n" + token) == "HTTP/1.1 403 Forbidden");
  CHECK(status(token) == "HTTP/1.1 403 Forbidden");
  CHECK(status(host + token + "Origin: https://attacker.example\r\n") == "HTTP/1.1 403 Forbidden");
  CHECK(status(host + token + "Origin: null\r\n") == "HTTP/1.1 403 Forbidden");
}

TEST_CASE("On TCP a change demands JSON, which a form of another site cannot send") {
  Running running(tcp_settings());
  const std::string fields =
      fmt::format("Host: 127.0.0.1:{}\r\nAuthorization: Bearer t0ken\r\n", running.port());
  const auto status = [&](const std::string& type) {
    return status_of(ask_tcp(running.port(), fields + type, "POST", "{}"));
  };
  CHECK(status("Content-Type: application/json\r\n") == "HTTP/1.1 200 OK");
  CHECK(status("Content-Type: text/plain\r\n") == "HTTP/1.1 415 Unsupported Media Type");
  CHECK(status("") == "HTTP/1.1 415 Unsupported Media Type");
}

TEST_CASE(
    "Malformed, oversized and unfinished requests get an answer or a close, and nothing else") {
  Folder folder;
  const std::string path = folder.file("admin.sock");
  Running running(unix_settings(path));
  const auto status = [&](const std::string& bytes) { return status_of(ask_unix(path, bytes)); };
  CHECK(status("nonsense\r\n\r\n") == "HTTP/1.1 400 Bad Request");
  CHECK(status("GET / HTTP/1.1\r\nbad field\r\n\r\n") == "HTTP/1.1 400 Bad Request");
  CHECK(status("GET / HTTP/1.1\r\nX: " + std::string(Server::head_bytes_max, 'x') + "\r\n\r\n") ==
        "HTTP/1.1 413 Payload Too Large");
  CHECK(status("POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n") ==
        "HTTP/1.1 413 Payload Too Large");
  CHECK(Client(*parse_address("unix:" + path), "").request("GET", "/").has_value());
}

TEST_CASE("A handler's exception ends its connection, not the server") {
  Folder folder;
  const std::string path = folder.file("admin.sock");
  Running running(unix_settings(path));
  base::Result<Answer> failed = Client(*parse_address("unix:" + path), "").request("GET", "/throw");
  REQUIRE(failed.has_error());
  // A CA that was asked may answer after the server has lost its patience.
  CHECK(failed.error().context.find("may still be under way") != std::string::npos);
  CHECK(Client(*parse_address("unix:" + path), "").request("GET", "/").has_value());
}

TEST_CASE("A connection is kept for the next request and HEAD has no body") {
  Folder folder;
  const std::string path = folder.file("admin.sock");
  Running running(unix_settings(path));
  const std::string answer =
      ask_unix(path, "HEAD /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\nConnection: close\r\n\r\n");
  CHECK(answer.find("GET /b") != std::string::npos);
  CHECK(answer.find("HEAD /a") == std::string::npos);
}

TEST_CASE("Connections past the limit are closed, and those within it served again") {
  Folder folder;
  const std::string path = folder.file("admin.sock");
  Running running(unix_settings(path));
  {
    asio::io_context io;
    std::vector<asio::local::stream_protocol::socket> idle;
    for (size_t i = 0; i < Server::connections_max; ++i) {
      idle.emplace_back(io);
      idle.back().connect(asio::local::stream_protocol::endpoint(path));
      // One answered request each makes sure that the server has accepted it.
      asio::write(idle.back(), asio::buffer(std::string("GET / HTTP/1.1\r\n\r\n")));
      char byte;
      asio::read(idle.back(), asio::buffer(&byte, 1));
    }
    CHECK(ask_unix(path, "GET / HTTP/1.1\r\n\r\n") == "");
  }
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  const Client client(*parse_address("unix:" + path), "");
  while (client.request("GET", "/").has_error())
    REQUIRE(std::chrono::steady_clock::now() < deadline);
}

TEST_CASE("Nobody at the address is an error of its own kind") {
  Folder folder;
  const auto answer =
      Client(*parse_address("unix:" + folder.file("none.sock")), "").request("GET", "/");
  REQUIRE(answer.has_error());
  CHECK(answer.error().kind == base::ErrorKind::not_found);
}

TEST_CASE("Admin addresses are parsed, and what is none is refused") {
  CHECK(parse_address("unix:/run/x.sock")->unix_path == "/run/x.sock");
  CHECK(parse_address("127.0.0.1:2019")->tcp.port() == 2019);
  CHECK(parse_address("[::1]:2019")->tcp.address().is_v6());
  CHECK(parse_address("localhost:2019")->tcp.address().is_loopback());
  for (const std::string text : {"", "unix:", "2019", "127.0.0.1:", "127.0.0.1:x",
                                 "127.0.0.1:70000", "example.com:1", "127.0.0.1:1x", "[::1:2019"})
    CHECK(parse_address(text).has_error());
  CHECK(parse_address("unix:/" + std::string(200, 'x')).has_error());
}
