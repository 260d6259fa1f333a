#include "config/parse_upstream.hpp"

#include <catch2/catch.hpp>

#include "tests/config/loaded.hpp"

namespace gatehouse::config {

namespace {

const std::string shop = "[[site]]\nhosts = ['a.com']\nupstream = 'shop'\n[upstream.shop]\n";

TEST_CASE("every key of an upstream reaches the snapshot") {
  const Folder folder;
  const auto file = folder.write("x.pem", "x");
  const auto snapshot =
      loaded(shop +
             "servers = ['10.0.0.1:8443', { address = '10.0.0.2', weight = 2, backup = true }, "
             "'[::1]:1', 'unix:/run/a.sock']\nbalance = 'hash_uri'\nprotocol = 'https'\n"
             "host = 'shop.internal:8443'\n"
             "tls = { ca = '" +
             file + "', name = 'Shop.internal', verify = false, certificate = '" + file +
             "', key = '" + file +
             "' }\nretry = { attempts = 3, budget = 0.5, on = ['reset', 'connect'] }\n"
             "max_connections = 7\nhealth = {}\noutlier = {}\nproxy_protocol = ''\n");
  const auto& upstream = snapshot->upstreams.at("shop");
  CHECK(upstream.name == "shop");
  REQUIRE(upstream.servers.size() == 4);
  CHECK(upstream.servers[0].host == "10.0.0.1");
  CHECK(upstream.servers[0].port == 8443);
  CHECK(upstream.servers[0].weight == 1);
  CHECK(upstream.servers[1].port == 443);
  CHECK(upstream.servers[1].weight == 2);
  CHECK(upstream.servers[1].backup);
  CHECK(upstream.servers[2].host == "::1");
  CHECK(upstream.servers[3].unix_path == "/run/a.sock");
  CHECK(upstream.balance == Balance::hash_uri);
  CHECK(upstream.protocol == UpstreamProtocol::https);
  CHECK(upstream.host == "shop.internal:8443");
  CHECK(upstream.tls.ca == file);
  CHECK(upstream.tls.name == "shop.internal");
  CHECK_FALSE(upstream.tls.verify);
  CHECK(upstream.tls.certificate == file);
  CHECK(upstream.tls.key == file);
  CHECK(upstream.retry_attempts == 3);
  CHECK(upstream.retry_budget == 0.5);
  CHECK(upstream.connections_max == 7);
  CHECK(upstream.place.line == 4);
}

TEST_CASE("an address in a site is a group of its own, shared by those who write the same") {
  const auto at = [](const std::string& address) {
    const auto snapshot = loaded("[[site]]\nhosts = ['a.com']\nupstream = '" + address +
                                 "'\n[[site]]\n"
                                 "hosts = ['b.com']\nupstream = '" +
                                 address + "'\n");
    REQUIRE(snapshot->upstreams.size() == 1);
    CHECK(snapshot->upstreams.begin()->first == address);
    CHECK(snapshot->sites[1].upstream == address);
    return snapshot->upstreams.begin()->second;
  };
  CHECK(at("localhost").servers[0].port == 80);
  CHECK(at("10.0.0.7").servers[0].port == 80);
  CHECK(at("shop.internal").servers[0].host == "shop.internal");
  CHECK(at("http://a.b").protocol == UpstreamProtocol::http1);
  CHECK(at("https://a.b").protocol == UpstreamProtocol::https);
  CHECK(at("https://a.b:8443").servers[0].port == 8443);
  CHECK(at("unix:/run/app.sock").servers[0].unix_path == "/run/app.sock");
}

TEST_CASE("a name that no group has is refused with the nearest one") {
  const std::string group = "[upstream.shop]\nservers = ['a:1']\n";
  const auto refused = [&](const std::string& name) {
    return mistake("[[site]]\nhosts = ['a.com']\nupstream = '" + name + "'\n" + group);
  };
  CHECK(refused("shpo") ==
        "t.toml:3:12: site[0].upstream: no upstream is named 'shpo', did you mean 'shop'?: add "
        "[upstream.NAME], or write an address with a port, such as \"shpo:8080\"");
  CHECK(refused("8080").find("such as \"localhost:8080\"") != std::string::npos);
  CHECK(refused("shop:http").find("is no port") != std::string::npos);
  CHECK(refused("grpc://a:1").find("unknown scheme") != std::string::npos);
  CHECK(refused("http://a.b/path").find("leave out path") != std::string::npos);
}

TEST_CASE("HTTP/2 is a group's protocol, by name or by its servers' scheme") {
  const auto protocol = [](const std::string& text) {
    return loaded(shop + text)->upstreams.at("shop").protocol;
  };
  CHECK(protocol("servers = ['a:1']\nprotocol = 'h2c'\n") == UpstreamProtocol::h2c);
  CHECK(protocol("servers = ['h2c://a:1']\n") == UpstreamProtocol::h2c);
  CHECK(protocol("servers = ['http://a:1']\nprotocol = 'h2c'\n") == UpstreamProtocol::h2c);
  CHECK(protocol("servers = ['https://a']\nprotocol = 'h2'\n") == UpstreamProtocol::h2);
  CHECK(protocol("servers = ['h2://a']\ntls = { verify = false }\n") == UpstreamProtocol::h2);
  CHECK(loaded(shop + "servers = ['h2://a']\n")->upstreams.at("shop").servers[0].port == 443);
  for (const auto* text :
       {"servers = ['https://a']\nprotocol = 'h2c'\n", "servers = ['h2c://a']\nprotocol = 'h2'\n",
        "servers = ['h2://a']\nprotocol = 'https'\n"}) {
    INFO(text);
    CHECK(mistake(shop + text).find("disagrees with a server") != std::string::npos);
  }
}

TEST_CASE("https:// in front of servers decides the protocol, if they agree") {
  CHECK(loaded(shop + "servers = ['https://a', 'https://b']\n")->upstreams.at("shop").protocol ==
        UpstreamProtocol::https);
  CHECK(loaded(shop + "servers = ['https://a', 'b']\nprotocol = 'https'\n")
            ->upstreams.at("shop")
            .servers[1]
            .port == 443);
  CHECK(mistake(shop + "servers = ['https://a', 'b']\n").find("one protocol") != std::string::npos);
  CHECK(mistake(shop + "servers = ['https://a', 'h2://b']\n").find("one protocol") !=
        std::string::npos);
  CHECK(mistake(shop + "servers = ['https://a']\nprotocol = 'http1'\n").find("disagrees") !=
        std::string::npos);
  CHECK(mistake(shop + "servers = ['http://a']\nprotocol = 'https'\n").find("disagrees") !=
        std::string::npos);
}

TEST_CASE("bad values of an upstream are refused") {
  const Folder folder;
  const std::string servers = "servers = ['a:1']\n";
  CHECK(mistake(shop).find("upstream.shop.servers: is missing") != std::string::npos);
  CHECK(mistake(shop + "servers = []\n").find("is empty") != std::string::npos);
  CHECK(mistake(shop + "servers = 'a:1'\n").find("expected a list") != std::string::npos);
  CHECK(mistake(shop + "servers = [1]\n").find("expected an address in quotes") !=
        std::string::npos);
  CHECK(mistake(shop + "servers = ['a:1', 'A:1']\n").find("twice") != std::string::npos);
  CHECK(mistake(shop + "servers = [{ weight = 1 }]\n").find("address: is missing") !=
        std::string::npos);
  CHECK(mistake(shop + "servers = [{ address = 'a:1', weight = 0 }]\n").find("use 1 to 1000") !=
        std::string::npos);
  CHECK(mistake(shop + "servers = [{ address = 'a:1', wieght = 1 }]\n").find("'weight'") !=
        std::string::npos);
  for (const auto* line :
       {"balance = 'random'", "balance = 1", "protocol = 'http'", "host = 'reqest'", "host = 'a b'",
        "host = 'https://a'", "host = ''", "tls = { name = 'a' }",
        "protocol = 'https'\ntls = { name = '*.a' }", "protocol = 'https'\ntls = { nam = 'a' }",
        "protocol = 'https'\ntls = { ca = '/nonexistent/ca.pem' }", "retry = { attempts = 11 }",
        "retry = { budget = 1.5 }", "retry = { budget = '20%' }", "retry = { on = ['500'] }",
        "retry = { on = ['502'] }", "max_connections = -1", "servrs = []"}) {
    INFO(line);
    CHECK(mistakes(shop + servers + line + "\n").size() == 1);
  }
  CHECK(mistakes("[upstream.localhost]\nservers = ['a:1']\n" + site).size() == 1);
  CHECK(mistakes("[upstream.'a.b']\nservers = ['a:1']\n" + site).size() == 1);
  CHECK(mistakes("[upstream]\nshop = 1\n" + site).size() == 1);
  CHECK(mistakes("upstream = 'x'\n" + site).size() == 1);
}

TEST_CASE("a client certificate for upstreams comes with its key") {
  const Folder folder;
  const auto file = folder.write("x.pem", "x");
  CHECK(mistake(shop + "servers = ['https://a']\ntls = { certificate = '" + file + "' }\n")
            .find("upstream.shop.tls.certificate: a certificate needs its key") !=
        std::string::npos);
}

TEST_CASE("the PROXY protocol to an upstream has two versions") {
  const auto with = [](const std::string& line) {
    return loaded(shop + "servers = ['a:1']\n" + line + "\n")->upstreams.at("shop").proxy_protocol;
  };
  CHECK(with("") == ProxyProtocol::off);
  CHECK(with("proxy_protocol = ''") == ProxyProtocol::off);
  CHECK(with("proxy_protocol = 'v1'") == ProxyProtocol::v1);
  CHECK(with("proxy_protocol = 'v2'") == ProxyProtocol::v2);
  const auto refused = [](const std::string& line) {
    return mistake(shop + "servers = ['a:1']\n" + line + "\n");
  };
  CHECK(refused("proxy_protocol = 'v3'") ==
        "t.toml:6:18: upstream.shop.proxy_protocol: 'v3' is unknown, did you mean 'v1'?");
  CHECK(refused("proxy_protocol = 2").find("expected a string") != std::string::npos);
}

TEST_CASE("what later versions will know of an upstream is refused as such") {
  for (const auto* line :
       {"balance = 'hash_header:X-Id'", "balance = 'cookie:srv'", "health = { path = '/healthz' }",
        "outlier = { failures = 5 }", "retry = { on = ['connect', '502'] }"}) {
    INFO(line);
    CHECK(
        mistake(shop + "servers = ['a:1']\n" + line + "\n").find("not supported in this version") !=
        std::string::npos);
  }
  loaded(shop + "servers = ['a:1']\nretry = { on = ['connect', 'reset', '502', '503', '504'] }\n");
}

}  // namespace

}  // namespace gatehouse::config
