#include "admin/api.hpp"

#include <boost/json.hpp>
#include <catch2/catch.hpp>

using namespace gatehouse::admin;
namespace acme = gatehouse::acme;
namespace asio = boost::asio;
namespace base = gatehouse::base;
namespace json = boost::json;

namespace {

struct World {
  bool draining = false;
  int stops = 0;
  ReloadProblems problems;
  std::vector<std::string> asked;
  std::optional<base::Error> failing;

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
    made.certificates = certificates();
    made.reload = [this] { return reload(); };
    made.stop = [this] { ++stops; };
    return made;
  }

  CertificateHooks certificates() {
    CertificateHooks made;
    made.list = [] {
      acme::CertificateStatus status;
      status.name = "a.example";
      status.state = "backoff";
      status.last_error = "\"quoted\"\n";
      status.not_after = std::chrono::system_clock::from_time_t(2 * 86'400);
      return std::vector{status};
    };
    made.show = [this](std::string name) { return show(std::move(name)); };
    made.put = [this](std::string name, std::string chain, std::string key) {
      return done("put " + name + " " + chain + " " + key);
    };
    made.remove = [this](std::string name) { return done("remove " + name); };
    made.renew = [this](std::string name, bool force) {
      return done("renew " + name + (force ? " with force" : ""));
    };
    made.revoke = [this](std::string name, int reason) {
      return done("revoke " + name + " for " + std::to_string(reason));
    };
    made.probe = [](std::string name) { return begin_probe(std::move(name)); };
    made.authorities = [] {
      acme::BudgetStatus standing;
      standing.authority = "a-ca";
      standing.open = true;
      standing.buckets.push_back({"orders", 300, 299, {}});
      return std::vector{standing};
    };
    made.roll_over = [this](std::string authority) { return done("roll over " + authority); };
    return made;
  }

  static Answered<Probe> begin_probe(std::string name) {
    co_return Probe{"/path-for-" + name, "body"};
  }

  Answered<void> done(std::string what) {
    asked.push_back(std::move(what));
    if (failing) co_return *failing;
    co_return base::Result<void>();
  }

  Answered<acme::CertificateDetails> show(std::string name) {
    if (failing) co_return *failing;
    acme::CertificateDetails details;
    details.status.name = name;
    details.status.state = "active";
    details.names = {name, "b.example"};
    details.key = "P-256";
    gatehouse::tls::ChainLink link;
    link.subject = name;
    link.issuer = "An \"issuer\"";
    details.chain = {link};
    acme::NameBudget counted, uncounted;
    counted.authority = "a-ca";
    counted.left.counted = true;
    counted.left.name_set = 3;
    uncounted.authority = "b-ca";
    details.budgets = {counted, uncounted};
    co_return details;
  }

  Response ask(std::string method, std::string path, std::string body = "") {
    Api api(hooks());
    Request request;
    request.method = std::move(method);
    request.path = path.substr(0, path.find('?'));
    if (path.find('?') != std::string::npos) request.query = path.substr(path.find('?') + 1);
    request.body = std::move(body);
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

TEST_CASE("One certificate is shown with its chain and what the limits leave") {
  World world;
  const Response response = world.ask("GET", "/api/certificates/a.example");
  CHECK(response.status == 200);
  const auto out = json::parse(response.body);
  CHECK(out.at("name").as_string() == "a.example");
  CHECK(out.at("names").as_array().size() == 2);
  CHECK(out.at("key_type").as_string() == "P-256");
  CHECK(out.at("chain").as_array().at(0).at("issuer").as_string() == "An \"issuer\"");
  CHECK(out.at("renewal_window").is_null());
  CHECK(out.at("budgets").as_array().at(0).at("name_left").to_number<int>() == 3);
  CHECK(out.at("budgets").as_array().at(1).at("name_left").is_null());
}

TEST_CASE("A path parameter is decoded, put in lower case and checked") {
  World world;
  const auto shown = [&](const std::string& name) {
    const Response response = world.ask("GET", "/api/certificates/" + name);
    return response.status == 200 ? std::string(json::parse(response.body).at("name").as_string())
                                  : std::to_string(response.status);
  };
  CHECK(shown("A.Example") == "a.example");
  CHECK(shown("a.example.") == "a.example");
  CHECK(shown("%2A.a.example") == "*.a.example");
  CHECK(shown("*.a.example") == "*.a.example");
  CHECK(shown("%61.example") == "a.example");
  CHECK(shown("2001%3adb8::1") == "2001:db8::1");
  CHECK(shown("192.0.2.1") == "192.0.2.1");
  CHECK(shown("_dmarc.a.example") == "_dmarc.a.example");
  for (const std::string bad : {"",
                                "%",
                                "%2",
                                "%zz",
                                "a%2fb",
                                "..",
                                ".",
                                "a..b",
                                "-a.example",
                                "a.example-",
                                "*",
                                "*.",
                                "a.*.example",
                                "**.example",
                                "a%00b",
                                "a%0ab",
                                "a b",
                                "%ff",
                                "192.0.2.256",
                                "fe80::1%25eth0",
                                "a.example%2frenew",
                                "a/../b"}) {
    INFO(bad);
    CHECK((shown(bad) == "400" || shown(bad) == "404"));
  }
  CHECK(shown(std::string(64, 'a') + ".example") == "400");
  CHECK(shown(std::string(300, 'a')) == "400");
  CHECK(world.asked.empty());
}

TEST_CASE("A custom certificate is passed on, and the answer does not hold its key") {
  World world;
  const Response response =
      world.ask("PUT", "/api/certificates/a.example", R"({"certificate":"CHAIN","key":"SECRET"})");
  CHECK(response.status == 200);
  CHECK(world.asked == std::vector<std::string>{"put a.example CHAIN SECRET"});
  CHECK(response.body.find("SECRET") == std::string::npos);
}

TEST_CASE("What is no custom certificate is refused and passed to nobody") {
  World world;
  for (const std::string body :
       {"", "{", "[]", "null", "{}", R"({"certificate":"C"})", R"({"key":"K"})",
        R"({"certificate":1,"key":"K"})", R"({"certificate":"","key":""})",
        R"({"certificate":"C","key":"SECRET","more":1})", R"({"certificate":["C"],"key":{}})"}) {
    INFO(body);
    const Response response = world.ask("PUT", "/api/certificates/a.example", body);
    CHECK(response.status == 400);
    CHECK(json::parse(response.body).at("error").is_string());
    CHECK(response.body.find("SECRET") == std::string::npos);
  }
  CHECK(world.ask("PUT", "/api/certificates/a.example", std::string(100'000, '[')).status == 400);
  CHECK(world.asked.empty());
}

TEST_CASE("The kind of an error gives its status, its sentence is the answer's") {
  using base::ErrorKind;
  World world;
  struct Case {
    ErrorKind kind;
    int status;
  };
  for (const Case& one : {Case{ErrorKind::not_found, 404}, Case{ErrorKind::invalid, 422},
                          Case{ErrorKind::unavailable, 409}, Case{ErrorKind::limit, 409},
                          Case{ErrorKind::protocol, 502}, Case{ErrorKind::io, 500}}) {
    world.failing = base::Error(one.kind, "a \"sentence\"");
    for (const char* const method : {"GET", "DELETE"}) {
      const Response response = world.ask(method, "/api/certificates/a.example");
      CHECK(response.status == one.status);
      CHECK(json::parse(response.body).at("error").as_string() == "a \"sentence\"");
    }
  }
}

TEST_CASE("To renew takes force, and nothing else") {
  World world;
  CHECK(world.ask("POST", "/api/certificates/a.example/renew").status == 202);
  CHECK(world.ask("POST", "/api/certificates/a.example/renew?force=true").status == 202);
  CHECK(world.ask("POST", "/api/certificates/a.example/renew?force=false").status == 202);
  CHECK(world.asked == std::vector<std::string>{"renew a.example", "renew a.example with force",
                                                "renew a.example"});
  for (const char* const query : {"?force", "?force=yes", "?farce=true", "?force=true&x=1"})
    CHECK(world.ask("POST", std::string("/api/certificates/a.example/renew") + query).status ==
          400);
  CHECK(world.asked.size() == 3);
}

TEST_CASE("To revoke takes one of the reasons that a CA takes") {
  World world;
  const std::string path = "/api/certificates/a.example/revoke";
  CHECK(world.ask("POST", path).status == 200);
  CHECK(world.ask("POST", path, "{}").status == 200);
  CHECK(world.ask("POST", path, R"({"reason":"keyCompromise"})").status == 200);
  CHECK(world.asked == std::vector<std::string>{"revoke a.example for 0", "revoke a.example for 0",
                                                "revoke a.example for 1"});
  for (const char* const body :
       {R"({"reason":"boredom"})", R"({"reason":1})", R"({"reason":null})", R"({"x":""})", "[]"})
    CHECK(world.ask("POST", path, body).status == 400);
  CHECK(world.asked.size() == 3);
}

TEST_CASE("CAs are listed, their accounts' keys changed, and probes begun") {
  World world;
  const auto list = json::parse(world.ask("GET", "/api/authorities").body);
  CHECK(list.at("authorities").as_array().at(0).at("answers").as_bool() == false);
  const auto& limits = list.at("authorities").as_array().at(0).at("limits").as_array();
  REQUIRE(limits.size() == 1);
  CHECK(limits[0].at("what").as_string() == "orders");
  CHECK(limits[0].at("left").to_number<int>() == 299);
  CHECK(world.ask("POST", "/api/accounts/a-ca/rollover").status == 200);
  CHECK(world.asked == std::vector<std::string>{"roll over a-ca"});
  CHECK(world.ask("POST", "/api/accounts/a%2Fca/rollover").status == 400);
  CHECK(world.ask("POST", "/api/accounts//rollover").status == 400);
  const auto probe = json::parse(world.ask("POST", "/api/probes/a.example").body);
  CHECK(probe.at("path").as_string() == "/path-for-a.example");
}

TEST_CASE("An endpoint with several methods names them all") {
  World world;
  const Response refused = world.ask("POST", "/api/certificates/a.example");
  CHECK(refused.status == 405);
  CHECK(refused.allow == "GET, PUT, DELETE");
  CHECK(world.ask("GET", "/api/certificates/a.example/renew").allow == "POST");
  CHECK(world.ask("GET", "/api/certificates/a.example/renew/").status == 404);
  CHECK(world.ask("GET", "/api/certificates/").status == 400);
  CHECK(world.ask("HEAD", "/api/certificates/a.example").status == 200);
}
