#include "config/describe.hpp"

#include <catch2/catch.hpp>

#include "tests/config/loaded.hpp"

namespace gatehouse::config {

namespace {

TEST_CASE("a configuration is described in a few lines") {
  const auto snapshot = loaded(
      "[on_demand]\nask = 'http://127.0.0.1:5555/allowed'\n[[site]]\nhosts = ['a.com', 'b.com']\n"
      "upstream = 'shop'\n[[site.route]]\npath = '/api/*'\nmethods = ['GET']\nupstream = 'x:81'\n"
      "[[site.route]]\npath = '/old'\nredirect = '/new'\n"
      "[[site]]\nhosts = ['*']\nupstream = 'localhost:8080'\ncertificates = 'on_demand'\n"
      "[upstream.shop]\nservers = ['10.0.0.1:80', { address = '10.0.0.2:80', backup = true }]\n");
  CHECK(describe(*snapshot) ==
        "listening  http :80 · https :443 · admin unix:/run/gatehouse/admin.sock\n"
        "storage    /var/lib/gatehouse\n"
        "authority  letsencrypt https://acme-v02.api.letsencrypt.org/directory\n"
        "on demand  ask http://127.0.0.1:5555/allowed\n"
        "2 sites\n"
        "  a.com, b.com → shop (10.0.0.1:80, 10.0.0.2:80 (backup)), certificate from letsencrypt\n"
        "    GET /api/* → x:81\n"
        "    /old → redirect 308 /new\n"
        "  * → localhost:8080, certificates on demand from letsencrypt\n");
}

TEST_CASE("who decides on demand is said") {
  const auto with = [](const std::string& lines) {
    return describe(
        *loaded("[on_demand]\n" + lines + "[[site]]\nhosts = ['a.com']\nupstream = 'a:1'\n"));
  };
  CHECK(with("allow = ['*.a.com', 'b.com']\n").find("on demand  allow *.a.com, b.com\n") !=
        std::string::npos);
  CHECK(with("ask = 'http://a/'\nallow = ['*.a.com']\ndeny = ['x.a.com']\n")
            .find("on demand  ask http://a/ · allow *.a.com · deny x.a.com\n") !=
        std::string::npos);
}

TEST_CASE("who is believed, and who is told of clients, is said") {
  const std::string shop =
      "[[site]]\nhosts = ['a.com']\nupstream = 'shop'\n[upstream.shop]\nservers = ['a:1']\n"
      "proxy_protocol = 'v2'\n";
  const auto with = [&](const std::string& lines) {
    return describe(*loaded("[server]\n" + lines + shop));
  };
  CHECK(with("").find("proxies") == std::string::npos);
  CHECK(with("").find("  a.com → shop (a:1, PROXY protocol v2), ") != std::string::npos);
  const std::string trusted = "trusted_proxies = ['10.0.0.0/8', '::1']\n";
  CHECK(with(trusted).find("\nproxies    10.0.0.0/8, ::1/128\n") != std::string::npos);
  CHECK(with(trusted + "proxy_protocol = true\n")
            .find("\nproxies    PROXY protocol from 10.0.0.0/8, ::1/128\n") != std::string::npos);
  CHECK(with("proxy_protocol = true\nhttp = ['unix:/run/a']\n")
            .find("\nproxies    PROXY protocol from Unix sockets\n") != std::string::npos);
  const auto json =
      describe_json(*loaded("[server]\n" + trusted + "proxy_protocol = true\n" + shop));
  CHECK(json.find(R"("trusted_proxies":["10.0.0.0/8","::1/128"],"proxy_protocol":true,)") !=
        std::string::npos);
  CHECK(json.find(R"("protocol":"http1","proxy_protocol":"v2",)") != std::string::npos);
}

TEST_CASE("long lists are cut") {
  std::string text;
  for (int i = 0; i < 60; ++i) {
    const auto n = std::to_string(i);
    text += "[[site]]\nhosts = ['a" + n + ".com', 'b" + n + ".com', 'c" + n + ".com', 'd" + n +
            ".com', 'e" + n + ".com']\nupstream = 'a:1'\n";
  }
  const auto description = describe(*loaded(text));
  CHECK(description.find("  a0.com, b0.com, c0.com, d0.com and 1 more → a:1") != std::string::npos);
  CHECK(description.find("60 sites\n") != std::string::npos);
  CHECK(description.find("  and 10 more\n") != std::string::npos);
}

TEST_CASE("programs get the same as one JSON object, without secrets") {
  const auto snapshot = loaded(
      "[server]\nadmin = '127.0.0.1:2019'\nadmin_token = 'tell-nobody'\n[[site]]\n"
      "hosts = ['a.com']\nupstream = 'unix:/run/\"a\\b'\n[[site.route]]\npath = '/x'\n"
      "respond = '204'\n");
  CHECK(describe_json(*snapshot) ==
        R"({"files":["t.toml"],"http":[":80"],"https":[":443"],"trusted_proxies":[],)"
        R"("proxy_protocol":false,"admin":"127.0.0.1:2019",)"
        R"("storage":"/var/lib/gatehouse","authorities":["letsencrypt"],)"
        R"("on_demand":{"configured":false,"ask":"","allow":[],"deny":[]},"notify":{},)"
        R"("sites":[{"hosts":["a.com"],"upstream":"unix:/run/\"a\\b","certificates":"auto",)"
        R"("certificate":"","redirect_http":true,)"
        R"("routes":[{"path":"/x","methods":[],"respond":204}]}],)"
        R"("upstreams":[{"name":"unix:/run/\"a\\b","protocol":"http1","proxy_protocol":"",)"
        R"("servers":[{"address":"unix:/run/\"a\\b","weight":1,"backup":false}]}]})");
  CHECK(describe(*snapshot).find("tell-nobody") == std::string::npos);
}

}  // namespace

}  // namespace gatehouse::config
