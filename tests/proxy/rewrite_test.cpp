#include "proxy/rewrite.hpp"

#include <ctime>

#include <catch2/catch.hpp>

#include "http/authority.hpp"

using namespace gatehouse;
using proxy::Downstream;

namespace {

http::RequestHead request(
    const std::vector<std::pair<std::string_view, std::string_view>>& fields = {}) {
  http::RequestHead head;
  head.target = "/";
  head.authority = "Shop.Example:8443";
  for (const auto& [name, value] : fields) {
    head.fields.push_back({name, value, http::field_id(name)});
  }
  return head;
}

template <class Head>
std::vector<std::string> sent(const Head& head, std::string_view name) {
  std::vector<std::string> values;
  for (const auto& field : head.fields) {
    if (!field.skip && http::equal_ignoring_case(field.name, name))
      values.emplace_back(field.value);
  }
  return values;
}

using Values = std::vector<std::string>;

std::string stripped(std::string_view target, std::string_view prefix) {
  http::RequestHead head;
  head.target = target;
  proxy::strip_prefix(head, prefix);
  return std::string(head.target);
}

std::string location(std::string_view target, std::string_view pattern,
                     std::string_view authority = "Shop.Example:8443") {
  http::RequestHead head;
  head.target = target;
  head.authority = authority;
  head.host = http::host_name(authority, head.owned);
  return proxy::redirect_location({308, std::string(pattern)}, head);
}

const Downstream plain{"192.0.2.7", false, false};
const Downstream encrypted{"2001:db8::7", true, false};
const Downstream trusted{"192.0.2.7", true, true};

}  // namespace

TEST_CASE("the origin is told who asks, how and for which host") {
  auto head = request();
  proxy::rewrite_request(head, plain, {});
  CHECK(sent(head, "X-Forwarded-For") == Values{"192.0.2.7"});
  CHECK(sent(head, "X-Forwarded-Proto") == Values{"http"});
  CHECK(sent(head, "X-Forwarded-Host") == Values{"Shop.Example:8443"});
  CHECK(sent(head, "Via") == Values{"1.1 gatehouse"});

  auto secure = request();
  secure.version = http::Version::http2;
  proxy::rewrite_request(secure, encrypted, {});
  CHECK(sent(secure, "X-Forwarded-Proto") == Values{"https"});
  CHECK(sent(secure, "X-Forwarded-For") == Values{"2001:db8::7"});
  CHECK(sent(secure, "Via") == Values{"2.0 gatehouse"});

  auto old = request();
  old.version = http::Version::http10;
  old.authority = {};
  proxy::rewrite_request(old, plain, {});
  CHECK(sent(old, "X-Forwarded-Host").empty());
  CHECK(sent(old, "Via") == Values{"1.0 gatehouse"});
}

TEST_CASE("a client that is not trusted cannot say who it is") {
  auto head = request({{"X-Forwarded-For", "10.0.0.1"},
                       {"x-forwarded-for", "10.0.0.2"},
                       {"X-Forwarded-Proto", "https"},
                       {"X-Forwarded-Host", "evil.example"},
                       {"Forwarded", "for=10.0.0.1"},
                       {"Via", "1.0 other"}});
  proxy::rewrite_request(head, plain, {});
  CHECK(sent(head, "X-Forwarded-For") == Values{"192.0.2.7"});
  CHECK(sent(head, "X-Forwarded-Proto") == Values{"http"});
  CHECK(sent(head, "X-Forwarded-Host") == Values{"Shop.Example:8443"});
  CHECK(sent(head, "Forwarded").empty());
  CHECK(sent(head, "Via") == Values{"1.0 other", "1.1 gatehouse"});
}

TEST_CASE("no field that begins with X-Forwarded- passes from a client that is not trusted") {
  const std::vector<std::pair<std::string_view, std::string_view>> fields = {
      {"X-Forwarded-Port", "443"},    {"x-forwarded-PREFIX", "/admin"},
      {"X-Forwarded-Server", "a"},    {"X_Forwarded_For", "10.0.0.1"},
      {"X-Forwarded_Proto", "https"}, {"X-Forwarded", "kept"},
      {"X-Forwarded-", "kept"},       {"X-Forwardee-For", "kept"}};
  auto head = request(fields);
  proxy::rewrite_request(head, plain, {});
  for (const auto& [name, value] : fields) {
    CAPTURE(name);
    CHECK(sent(head, name).size() == (value == "kept" ? 1 : 0));
  }
  auto believed = request(fields);
  proxy::rewrite_request(believed, trusted, {});
  for (const auto& [name, value] : fields)
    CHECK(sent(believed, name) == Values{std::string(value)});
}

TEST_CASE("a trusted proxy is believed and appended to") {
  auto head = request({{"X-Forwarded-For", "10.0.0.1"},
                       {"x-forwarded-for", "10.0.0.2, 10.0.0.3"},
                       {"X-Forwarded-Proto", "http"},
                       {"X-Forwarded-Host", "front.example"},
                       {"Forwarded", "for=10.0.0.1"}});
  proxy::rewrite_request(head, trusted, {});
  CHECK(sent(head, "X-Forwarded-For") == Values{"10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.7"});
  CHECK(sent(head, "X-Forwarded-Proto") == Values{"http"});
  CHECK(sent(head, "X-Forwarded-Host") == Values{"front.example"});
  CHECK(sent(head, "Forwarded") == Values{"for=10.0.0.1, for=192.0.2.7;proto=https"});

  auto silent = request();
  proxy::rewrite_request(silent, {"2001:db8::7", true, true}, {});
  CHECK(sent(silent, "X-Forwarded-For") == Values{"2001:db8::7"});
  CHECK(sent(silent, "X-Forwarded-Proto") == Values{"https"});
  CHECK(sent(silent, "Forwarded").empty());

  auto ipv6 = request({{"Forwarded", "for=a"}});
  proxy::rewrite_request(ipv6, {"2001:db8::7", false, true}, {});
  CHECK(sent(ipv6, "Forwarded") == Values{"for=a, for=\"[2001:db8::7]\";proto=http"});
}

TEST_CASE("a site's fields are set, added and removed, after everything else") {
  config::Site site;
  site.request_fields.set = {{"X-Set", "new"}, {"X-Forwarded-Proto", "gopher"}};
  site.request_fields.add = {{"X-Add", "more"}};
  site.request_fields.remove = {"COOKIE", "X-Gone"};
  auto head = request({{"x-set", "old"},
                       {"x-set", "older"},
                       {"X-Add", "one"},
                       {"Cookie", "a"},
                       {"x-gone", "1"},
                       {"x-kept", "1"}});
  proxy::rewrite_request(head, plain, site);
  CHECK(sent(head, "X-Set") == Values{"new"});
  CHECK(sent(head, "X-Add") == Values{"one", "more"});
  CHECK(sent(head, "Cookie").empty());
  CHECK(sent(head, "X-Gone").empty());
  CHECK(sent(head, "X-Kept") == Values{"1"});
  CHECK(sent(head, "X-Forwarded-Proto") == Values{"gopher"});
}

TEST_CASE("responses carry Via, and Strict-Transport-Security only on encrypted connections") {
  config::Site site;
  site.hsts = std::chrono::hours(24 * 365);
  site.response_fields.remove = {"Server"};
  site.response_fields.set = {{"X-Frame-Options", "DENY"}};
  const auto response = [] {
    http::ResponseHead head;
    head.status = 200;
    head.fields.push_back({"Server", "nginx", http::FieldId::server});
    head.fields.push_back({"strict-transport-security", "max-age=1"});
    head.fields.push_back({"x-frame-options", "SAMEORIGIN"});
    return head;
  };
  auto secure = response();
  proxy::rewrite_response(secure, true, site);
  CHECK(sent(secure, "Strict-Transport-Security") == Values{"max-age=31536000"});
  CHECK(sent(secure, "Server").empty());
  CHECK(sent(secure, "X-Frame-Options") == Values{"DENY"});
  CHECK(sent(secure, "Via") == Values{"1.1 gatehouse"});

  auto open = response();
  proxy::rewrite_response(open, false, site);
  CHECK(sent(open, "Strict-Transport-Security") == Values{"max-age=1"});  // the origin's own

  auto untouched = response();
  proxy::rewrite_response(untouched, true, {});
  CHECK(sent(untouched, "Strict-Transport-Security") == Values{"max-age=1"});
  CHECK(sent(untouched, "Server") == Values{"nginx"});
}

TEST_CASE("a response without a Date gets one, another keeps its own") {
  http::ResponseHead head;
  head.status = 200;
  proxy::rewrite_response(head, false, {});
  REQUIRE(sent(head, "Date").size() == 1);
  const std::string date(sent(head, "Date").front());
  std::tm parsed{};
  REQUIRE(::strptime(date.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &parsed) != nullptr);
  CHECK(std::abs(::timegm(&parsed) - std::time(nullptr)) <= 5);

  http::ResponseHead dated;
  dated.fields.push_back({"date", "Sun, 06 Nov 1994 08:49:37 GMT", http::FieldId::date});
  proxy::rewrite_response(dated, false, {});
  CHECK(sent(dated, "Date") == Values{"Sun, 06 Nov 1994 08:49:37 GMT"});
}

TEST_CASE("the Host sent upstream is the request's, the server's or a literal") {
  config::Upstream upstream;
  config::Endpoint endpoint;
  endpoint.text = "https://api.internal:8443/";
  endpoint.host = "api.internal";
  auto head = request();
  CHECK(proxy::upstream_host(head, upstream, endpoint) == "Shop.Example:8443");
  upstream.host = "server";
  CHECK(proxy::upstream_host(head, upstream, endpoint) == "api.internal:8443");
  upstream.host = "literal.example";
  CHECK(proxy::upstream_host(head, upstream, endpoint) == "literal.example");

  upstream.host = "request";
  head.authority = {};
  CHECK(proxy::upstream_host(head, upstream, endpoint) == "api.internal:8443");
  endpoint.text = "unix:/run/app.sock";
  endpoint.unix_path = "/run/app.sock";
  CHECK(proxy::upstream_host(head, upstream, endpoint) == "localhost");
}

TEST_CASE("a prefix is taken off where a segment ends") {
  CHECK(stripped("/api/x?q=1", "/api") == "/x?q=1");
  CHECK(stripped("/api/x?q=1", "/api/") == "/x?q=1");
  CHECK(stripped("/api/", "/api") == "/");
  CHECK(stripped("/api", "/api") == "/");
  CHECK(stripped("/api?q=1", "/api") == "/?q=1");
  CHECK(stripped("/api/?q=/api", "/api") == "/?q=/api");
  CHECK(stripped("/api/%2F%c3", "/api") == "/%2F%C3");
  CHECK(stripped("/api/api/x", "/api") == "/api/x");
  CHECK(stripped("/apix", "/api") == "/apix");
  CHECK(stripped("/other", "/api") == "/other");
  CHECK(stripped("/x", "/") == "/x");
  CHECK(stripped("*", "/api") == "*");
}

TEST_CASE("a prefix hidden by encoding or dots is taken off the normalised path") {
  CHECK(stripped("/%61pi/x?q=%61", "/api") == "/x?q=%61");
  CHECK(stripped("//api//x", "/api") == "/x");
  CHECK(stripped("/y/../api/x", "/api") == "/x");
  CHECK(stripped("/api/x/../../api/y", "/api") == "/y");
  CHECK(stripped("/api//evil.example/", "/api") == "/evil.example/");
}

TEST_CASE("a redirect's location is filled in") {
  CHECK(location("/a/b?c=d", "https://other.example{uri}") == "https://other.example/a/b?c=d");
  CHECK(location("/a/b?c=d", "https://{host}/new{path}?{query}&x#y") ==
        "https://shop.example/new/a/b?c=d&x#y");
  CHECK(location("/a", "/b?{query}") == "/b?");
  CHECK(location("*", "https://x.example{uri}") == "https://x.example/");
  CHECK(location("/a", "https://x.example/{unclosed") == "https://x.example/{unclosed");
}

TEST_CASE("a redirect cannot be led elsewhere or broken") {
  CHECK(location("//evil.example/", "{uri}") == "/evil.example/");
  CHECK(location("///evil.example/", "{path}") == "/evil.example/");
  CHECK(location("/\\evil.example/", "{uri}") == "/evil.example/");
  CHECK(location("/a\r\nSet-Cookie: x", "{uri}").empty());
  CHECK(location("/a b", "{uri}").empty());
  CHECK(location("/a", "https://{host}{uri}", "evil.example/x").empty());
  CHECK(location("/a", "https://{host}{uri}", "").empty());
  CHECK(location("/a", "").empty());
}
