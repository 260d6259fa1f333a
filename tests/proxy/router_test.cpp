#include "proxy/router.hpp"

#include <catch2/catch.hpp>

using namespace gatehouse;
using proxy::Decision;
using proxy::no_upstream;
using proxy::Router;

namespace {

config::Route route(std::string path, std::string upstream) {
  config::Route made;
  made.prefix = path.ends_with('*');
  if (made.prefix) path.pop_back();
  made.path = std::move(path);
  made.upstream = std::move(upstream);
  return made;
}

config::Site site(const std::vector<std::string>& hosts, std::string upstream) {
  config::Site made;
  for (const auto& host : hosts) made.hosts.push_back({host});
  made.upstream = std::move(upstream);
  return made;
}

std::shared_ptr<config::Snapshot> snapshot(std::vector<config::Site> sites) {
  auto made = std::make_shared<config::Snapshot>();
  for (const char* name : {"admin", "api", "other", "shop"}) made->upstreams[name].name = name;
  made->sites = std::move(sites);
  return made;
}

http::RequestHead get(std::string_view target) {
  http::RequestHead head;
  head.method = http::Method::get;
  head.method_text = "GET";
  head.target = target;
  return head;
}

/// The upstream's name, "refused 400", "redirect", or "none".
std::string decide(const Router& router, const http::RequestHead& head,
                   std::string_view host = "a.example") {
  const auto* rules = router.find_site(host);
  REQUIRE(rules != nullptr);
  std::string scratch;
  const Decision decision = router.match(*rules, head, scratch);
  if (decision.refusal != 0) return "refused " + std::to_string(decision.refusal);
  if (decision.upstream != no_upstream) return router.upstream_names()[decision.upstream];
  return decision.route && decision.route->settings->redirect ? "redirect" : "none";
}

std::string site_of(const Router& router, std::string_view host) {
  const auto* rules = router.find_site(host);
  return rules ? rules->settings->hosts.front().text : "none";
}

}  // namespace

TEST_CASE("an address finds only the site that has exactly it for a host") {
  using boost::asio::ip::make_address;
  const Router router(
      snapshot({site({"*", "a.example"}, "shop"), site({"192.0.2.1", "[2001:db8::1]"}, "api")}));
  CHECK(router.names_addresses());
  REQUIRE(router.find_address(make_address("192.0.2.1")) != nullptr);
  CHECK(router.find_address(make_address("192.0.2.1"))->settings->hosts.size() == 2);
  CHECK(router.find_address(make_address("2001:db8::1")) ==
        router.find_address(make_address("192.0.2.1")));
  for (const char* other : {"192.0.2.2", "127.0.0.1", "::1", "2001:db8::2", "::ffff:192.0.2.1"}) {
    CHECK(router.find_address(make_address(other)) == nullptr);
  }
  CHECK(site_of(router, "[2001:db8::1]") == "192.0.2.1");
  CHECK_FALSE(
      Router(snapshot({site({"*", "a.example", "*.b.example"}, "shop")})).names_addresses());
}

TEST_CASE("a host finds its exact site, then the wildcard one label up, then any") {
  const Router router(snapshot({site({"any.example", "*"}, "shop"), site({"*.a.example"}, "api"),
                                site({"x.a.example"}, "other"), site({"a.example"}, "admin")}));
  CHECK(site_of(router, "a.example") == "a.example");
  CHECK(site_of(router, "x.a.example") == "x.a.example");
  CHECK(site_of(router, "y.a.example") == "*.a.example");
  CHECK(site_of(router, "z.y.a.example") == "any.example");
  CHECK(site_of(router, ".a.example") == "any.example");
  CHECK(site_of(router, "unknown") == "any.example");
  CHECK(site_of(router, "") == "any.example");
  CHECK(site_of(router, "[::1]") == "any.example");
  CHECK(router.default_site() == router.find_site("unknown"));
}

TEST_CASE("without a site for every host an unknown one has none") {
  const Router router(snapshot({site({"a.example"}, "shop"), site({"*.b.example"}, "api")}));
  for (const char* host : {"", "b.example", "c.b.b.example", "example", "xa.example", "A.example",
                           "a.example.", "*.b.example.x"}) {
    CAPTURE(host);
    CHECK(site_of(router, host) == "none");
  }
  CHECK(router.default_site() == nullptr);
  const Router single(snapshot({site({"a.example"}, "shop")}));
  REQUIRE(single.default_site() != nullptr);
  CHECK(single.default_site()->settings->upstream == "shop");
  CHECK(Router(snapshot({})).default_site() == nullptr);
}

TEST_CASE("the first site that names a host keeps it") {
  const Router router(snapshot(
      {site({"a.example"}, "shop"), site({"a.example", "*"}, "api"), site({"*"}, "other")}));
  CHECK(decide(router, get("/")) == "shop");
  CHECK(decide(router, get("/"), "b.example") == "api");
}

TEST_CASE("the first matching route wins, and the site's upstream takes the rest") {
  auto made = site({"a.example"}, "shop");
  made.routes = {route("/exact", "admin"), route("/api/v2/*", "other"), route("/api/*", "api")};
  const Router router(snapshot({made}));
  CHECK(decide(router, get("/exact")) == "admin");
  CHECK(decide(router, get("/exact?q=/api/")) == "admin");
  CHECK(decide(router, get("/exact/")) == "shop");
  CHECK(decide(router, get("/Exact")) == "shop");
  CHECK(decide(router, get("/api/")) == "api");
  CHECK(decide(router, get("/api")) == "shop");
  CHECK(decide(router, get("/api/v2/x")) == "other");
  CHECK(decide(router, get("/x?/api/")) == "shop");
  CHECK(decide(router, get("*")) == "shop");
}

TEST_CASE("routes see the normalised path") {
  auto made = site({"a.example"}, "shop");
  made.routes = {route("/admin/*", "admin"), route("/%7euser/*", "other")};
  const Router router(snapshot({made}));
  for (const char* target : {"/admin/x", "/%61dmin/x", "//admin/x", "/./admin/x", "/y/../admin/x",
                             "/y/%2e%2E/admin/x", "/%2e/admin/", "/admin//x"}) {
    CAPTURE(target);
    CHECK(decide(router, get(target)) == "admin");
  }
  CHECK(decide(router, get("/admin/../x")) == "shop");
  CHECK(decide(router, get("/~user/x")) == "other");
  CHECK(decide(router, get("/%7Euser/x")) == "other");
}

TEST_CASE("a path that climbs above the root or cannot be decoded is refused") {
  auto with_routes = site({"a.example"}, "shop");
  with_routes.routes = {route("/admin/*", "admin")};
  const Router plain(snapshot({site({"a.example"}, "shop")}));
  const Router routed(snapshot({with_routes}));
  for (const char* target : {"/..", "/../admin/", "/a/../../b", "/%2e%2e/", "/%00", "/a%00b", "/%",
                             "/%g0", "/..;/admin/"}) {
    CAPTURE(target);
    CHECK(decide(plain, get(target)) == "refused 400");
    CHECK(decide(routed, get(target)) == "refused 400");
  }
  CHECK(decide(plain, get("/a?b=%&c=/../..")) == "shop");
}

TEST_CASE("an encoded slash is refused only where it decides the route") {
  auto made = site({"a.example"}, "shop");
  made.routes = {route("/admin/*", "admin"), route("/api/*", "api")};
  const Router router(snapshot({made}));
  CHECK(decide(router, get("/admin%2Fx")) == "refused 400");
  CHECK(decide(router, get("/admin%5cx")) == "refused 400");
  CHECK(decide(router, get("/admin\\x")) == "refused 400");
  CHECK(decide(router, get("/static%2f..%2fadmin/x")) == "refused 400");
  CHECK(decide(router, get("/static/..%2fadmin/x")) == "refused 400");
  CHECK(decide(router, get("/api/..%2f..%2fx")) == "refused 400");
  CHECK(decide(router, get("/x%2F..%2F..%2Fadmin/")) == "refused 400");
  CHECK(decide(router, get("/api/projects/a%2Fb")) == "api");
  CHECK(decide(router, get("/files/a%2Fb")) == "shop");
  CHECK(decide(router, get("/files?x=%2F..%2Fadmin")) == "shop");

  const Router plain(snapshot({site({"a.example"}, "shop")}));
  CHECK(decide(plain, get("/admin%2Fx")) == "shop");
}

TEST_CASE("routes may ask for methods and fields") {
  auto made = site({"a.example"}, "shop");
  auto writes = route("/*", "admin");
  writes.methods = {"POST", "PUT"};
  auto canary = route("/*", "other");
  canary.fields = {{"X-Canary", "yes", false}};
  auto beta = route("/*", "api");
  beta.fields = {{"x-version", "2.", true}, {"host", "a.example", false}};
  made.routes = {writes, canary, beta};
  const Router router(snapshot({made}));
  CHECK(decide(router, get("/")) == "shop");

  auto post = get("/");
  post.method_text = "POST";
  CHECK(decide(router, post) == "admin");
  post.method_text = "post";
  CHECK(decide(router, post) == "shop");

  auto marked = get("/");
  marked.fields.push_back({"x-canary", "no"});
  CHECK(decide(router, marked) == "shop");
  marked.fields.push_back({"x-canary", "yes"});
  CHECK(decide(router, marked) == "other");
  marked.fields.back().skip = true;  // named by Connection: not there
  CHECK(decide(router, marked) == "shop");

  auto versioned = get("/");
  versioned.fields.push_back({"X-Version", "2.7"});
  CHECK(decide(router, versioned) == "shop");
  versioned.fields.push_back({"Host", "a.example", http::FieldId::host, true});
  CHECK(decide(router, versioned) == "api");
}

TEST_CASE("a route may redirect or answer, and a site may have routes only") {
  auto made = site({"a.example"}, "");
  auto redirect = route("/old/*", "");
  redirect.redirect = config::Redirect{308, "/new"};
  auto respond = route("/health", "");
  respond.respond = config::FixedResponse{204, ""};
  made.routes = {redirect, respond, route("/api/*", "api")};
  const Router router(snapshot({made}));
  CHECK(decide(router, get("/old/x")) == "redirect");
  CHECK(decide(router, get("/health")) == "none");
  CHECK(decide(router, get("/api/x")) == "api");
  CHECK(decide(router, get("/other")) == "refused 404");
}

TEST_CASE("a route that names no upstream uses the site's") {
  auto made = site({"a.example"}, "shop");
  auto stripped = route("/x/*", "");
  stripped.strip_prefix = "/x";
  made.routes = {stripped};
  const Router router(snapshot({made}));
  CHECK(decide(router, get("/x/y")) == "shop");
}
