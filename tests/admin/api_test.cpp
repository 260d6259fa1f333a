#include "admin/api.hpp"

#include <boost/json.hpp>
#include <catch2/catch.hpp>

using namespace gatehouse::admin;
namespace acme = gatehouse::acme;
namespace asio = boost::asio;
namespace json = boost::json;

namespace {

struct World {
  bool draining = false;
  int stops = 0;
  ReloadProblems problems;

  asio::awaitable<ReloadProblems> reload() { co_return problems; }

  ApiHooks hooks() {
    ApiHooks made;
    made.metrics = [] { return std::string("gatehouse_requests_total 1\n"); };
    made.status = [this] {
      ProgramStatus status;
      status.version = "1.2.3";
      status.started = std::chrono::system_clock::from_time_t(86'400);
      status.draining = draining;
      status.server.workers = 2;
      return status;
    };
    made.certificates = [] {
      acme::CertificateStatus status;
      status.name = "a.example";
      status.state = "backoff";
      status.last_error = "\"quoted\"\n";
      status.not_after = std::chrono::system_clock::from_time_t(2 * 86'400);
      return std::vector{status};
    };
    made.reload = [this] { return reload(); };
    made.stop = [this] { ++stops; };
    return made;
  }

  Response ask(std::string method, std::string path) {
    Api api(hooks());
    Request request;
    request.method = std::move(method);
    request.path = std::move(path);
    asio::io_context io;
    Response out;
    asio::co_spawn(io, api.handle(std::move(request)),
                   [&](std::exception_ptr problem, Response response) {
                     REQUIRE(!problem);
                     out = std::move(response);
                   });
    io.run();
    return out;
  }
};

}  // namespace

TEST_CASE("healthz is well until the server drains") {
  World world;
  CHECK(world.ask("GET", "/healthz").status == 200);
  CHECK(world.ask("HEAD", "/healthz").status == 200);
  world.draining = true;
  CHECK(world.ask("GET", "/healthz").status == 503);
}

TEST_CASE("metrics are Prometheus text") {
  const Response response = World().ask("GET", "/metrics");
  CHECK(response.content_type == "text/plain; version=0.0.4; charset=utf-8");
  CHECK(response.body == "gatehouse_requests_total 1\n");
}

TEST_CASE("status is JSON with times as text") {
  const auto status = json::parse(World().ask("GET", "/api/status").body);
  CHECK(status.at("version").as_string() == "1.2.3");
  CHECK(status.at("started").as_string() == "1970-01-02T00:00:00Z");
  CHECK(status.at("workers").as_int64() == 2);
  CHECK(status.at("config").is_null());
}

TEST_CASE("certificates are JSON, unknown values null and hostile text escaped") {
  const auto out = json::parse(World().ask("GET", "/api/certificates").body);
  const auto& row = out.at("certificates").as_array().at(0);
  CHECK(row.at("name").as_string() == "a.example");
  CHECK(row.at("last_error").as_string() == "\"quoted\"\n");
  CHECK(row.at("not_after").as_string() == "1970-01-03T00:00:00Z");
  CHECK(row.at("not_before").is_null());
  CHECK(row.at("issuer").is_null());
}

TEST_CASE("A refused reload lists every problem") {
  World world;
  CHECK(world.ask("POST", "/api/reload").status == 200);
  world.problems = {"gatehouse.toml:1:1: bad", "gatehouse.toml:2:1: worse"};
  const Response response = world.ask("POST", "/api/reload");
  CHECK(response.status == 422);
  CHECK(json::parse(response.body).at("problems").as_array().size() == 2);
}

TEST_CASE("stop is passed on") {
  World world;
  CHECK(world.ask("POST", "/api/stop").status == 202);
  CHECK(world.stops == 1);
}

TEST_CASE("Unknown endpoints and wrong methods are refused and change nothing") {
  World world;
  CHECK(world.ask("GET", "/").status == 404);
  CHECK(world.ask("GET", "/api/status/").status == 404);
  CHECK(world.ask("GET", "/../etc/passwd").status == 404);
  const Response wrong = world.ask("GET", "/api/stop");
  CHECK(wrong.status == 405);
  CHECK(wrong.allow == "POST");
  CHECK(world.ask("DELETE", "/api/status").status == 405);
  CHECK(world.stops == 0);
}
