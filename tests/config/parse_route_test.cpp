#include "config/parse_route.hpp"

#include <catch2/catch.hpp>

#include "tests/config/loaded.hpp"

namespace gatehouse::config {

namespace {

const std::string route = site + "[[site.route]]\n";

TEST_CASE("every key of a route reaches the snapshot") {
  const auto snapshot =
      loaded(route +
             "path = '/api/*'\nmethods = ['GET', 'POST']\n"
             "headers = { X-Kind = 'beta', Authorization = 'Bearer *' }\nupstream = 'api'\n"
             "strip_prefix = '/api'\n"
             "[[site.route]]\npath = '/old'\nredirect = '301 https://new.example.com{uri}'\n"
             "[[site.route]]\npath = '/down'\nrespond = '503 down for maintenance'\n"
             "[[site.route]]\nmethods = ['DELETE']\nrespond = '204'\n"
             "[[site.route]]\npath = '/same/*'\nstrip_prefix = '/same/'\n"
             "[upstream.api]\nservers = ['10.0.0.1:80']\n");
  const auto& routes = snapshot->sites[0].routes;
  REQUIRE(routes.size() == 5);
  CHECK(routes[0].path == "/api/");
  CHECK(routes[0].prefix);
  CHECK(routes[0].methods == Lines{"GET", "POST"});
  REQUIRE(routes[0].fields.size() == 2);
  CHECK(routes[0].fields[0].name == "X-Kind");
  CHECK(routes[0].fields[0].value == "beta");
  CHECK_FALSE(routes[0].fields[0].prefix);
  CHECK(routes[0].fields[1].value == "Bearer ");
  CHECK(routes[0].fields[1].prefix);
  CHECK(routes[0].upstream == "api");
  CHECK(routes[0].strip_prefix == "/api");
  CHECK(routes[0].place.line == 4);
  REQUIRE(routes[1].redirect);
  CHECK(routes[1].redirect->status == 301);
  CHECK(routes[1].redirect->target == "https://new.example.com{uri}");
  CHECK(routes[1].upstream.empty());
  CHECK_FALSE(routes[1].prefix);
  REQUIRE(routes[2].respond);
  CHECK(routes[2].respond->status == 503);
  CHECK(routes[2].respond->body == "down for maintenance");
  CHECK(routes[3].path == "/");
  CHECK(routes[3].prefix);
  CHECK(routes[4].upstream == "localhost:8080");  // the site's
}

TEST_CASE("a path is exact, or a prefix with its final star") {
  CHECK(parse_route_path("/a")->path == "/a");
  CHECK_FALSE(parse_route_path("/a")->prefix);
  CHECK(parse_route_path("*")->path == "/");
  CHECK(parse_route_path("/a*")->path == "/a");
  CHECK(parse_route_path("/a*")->prefix);
  CHECK(parse_route_path("/caf%C3%A9").has_value());
  for (const auto* text : {"", "a", "api/*", "/a*b", "/*/b", "/a b", "/a?b", "/a#b", "/a/../b",
                           "/..", "/./a", "/caf\xc3\xa9", "/a\tb", "**", "https://a/"}) {
    INFO(text);
    CHECK_FALSE(parse_route_path(text).has_value());
  }
  CHECK_FALSE(parse_route_path("/" + std::string(5000, 'a')).has_value());
}

TEST_CASE("a redirect has a target and perhaps a status") {
  CHECK(parse_redirect("https://a.com{uri}")->status == 308);
  CHECK(parse_redirect("302 /here?{query}")->status == 302);
  CHECK(parse_redirect("302 /here?{query}")->target == "/here?{query}");
  CHECK(parse_redirect("https://{host}{path}").has_value());
  for (const auto* text :
       {"", "308", "308 ", "200 https://a", "404 /x", "https:/a", "a.com", "308 a.com",
        "308  https://a", "https://a b", "https://a\n", "https://a{url}", "https://a{uri", "/a}b",
        "/{}", "https://caf\xc3\xa9", "javascript:alert(1)"}) {
    INFO(text);
    CHECK_FALSE(parse_redirect(text).has_value());
  }
  CHECK(parse_redirect("/{urii}").error().text.find("did you mean 'uri'?") != std::string::npos);
}

TEST_CASE("a fixed response has a status and perhaps a body") {
  CHECK(parse_response("204")->status == 204);
  CHECK(parse_response("200 ok then")->body == "ok then");
  for (const auto* text : {"", "ok", "99", "100", "199", "600", "0204", "2000", "-20", "204 text",
                           "304 text", " 204", "204text"}) {
    INFO(text);
    CHECK_FALSE(parse_response(text).has_value());
  }
  CHECK_FALSE(parse_response("200 " + std::string(70'000, 'x')).has_value());
}

TEST_CASE("bad values of a route are refused") {
  for (const auto* line : {"path = 'api'",
                           "path = 1",
                           "methods = ['get']",
                           "methods = ['G T']",
                           "methods = ['CONNECT']",
                           "methods = 'GET'",
                           "headers = { 'a b' = 'c' }",
                           "headers = { A = 1 }",
                           "headers = { A = ' x' }",
                           "headers = ['A']",
                           "upstream = 'nobody'",
                           "upstream = 'a:0'",
                           "redirect = 'x'",
                           "respond = 'x'",
                           "respond = 204",
                           "upstream = 'a:1'\nrespond = '204'",
                           "redirect = '/'\nrespond = '204'",
                           "strip_prefix = 'api'",
                           "path = '/api/*'\nstrip_prefix = '/web'",
                           "path = '/api'\nstrip_prefix = '/api/v1'",
                           "strip_prefix = '/a'\nrespond = '204'",
                           "strip = '/a'",
                           "methods = ['GET'\n, 'TRACE']"}) {
    INFO(line);
    CHECK(mistakes(route + line + "\n").size() == 1);
  }
  CHECK(
      mistake(route + "methods = ['get']\n") ==
      "t.toml:5:12: site[0].route[0].methods[0]: methods are case-sensitive: did you mean 'GET'?");
  loaded(route + "methods = []\nheaders = {}\nstrip_prefix = ''\nredirect = ''\nrespond = ''\n");
}

}  // namespace

}  // namespace gatehouse::config
