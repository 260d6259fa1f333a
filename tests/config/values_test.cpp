#include "config/values.hpp"

#include <catch2/catch.hpp>

namespace gatehouse::config {

namespace {

namespace ip = boost::asio::ip;

template <class T>
std::string problem(const Parsed<T>& parsed) {
  return parsed ? std::string("(none)") : parsed.error().text;
}

Network network(std::string_view text) {
  const auto parsed = parse_network(text);
  INFO(text << ": " << problem(parsed));
  REQUIRE(parsed.has_value());
  return *parsed;
}

TEST_CASE("a duration is a whole number and a unit") {
  CHECK(parse_duration("500ms")->count() == 500);
  CHECK(parse_duration("10s")->count() == 10'000);
  CHECK(parse_duration("5m")->count() == 300'000);
  CHECK(parse_duration("24h")->count() == 86'400'000);
  CHECK(parse_duration("365d")->count() == int64_t{365} * 86'400'000);
  CHECK(parse_duration("0")->count() == 0);
  CHECK(parse_duration("0s")->count() == 0);
  CHECK(parse_duration("36500d")->count() == int64_t{36500} * 86'400'000);
}

TEST_CASE("what is no duration is refused with the way out") {
  for (const auto* text :
       {"", "s", "10", "-1s", "+1s", "1.5s", " 1s", "1 s", "1s ", "10S", "1w", "1M", "1us",
        "36501d", "99999999999999999999s", "9223372036854775807h", "0x10s", "1m30s"}) {
    INFO(text);
    const auto parsed = parse_duration(text);
    REQUIRE_FALSE(parsed.has_value());
    CHECK(parsed.error().text.find("duration") != std::string::npos);
  }
  CHECK(problem(parse_duration("10")) ==
        "the duration '10' lacks a unit: write a number and a unit: 500ms, 10s, 5m, 24h, 365d");
}

TEST_CASE("a size is a number of bytes or of 1024, 1024² or 1024³ of them") {
  CHECK(*parse_size("0") == 0);
  CHECK(*parse_size("4096") == 4096);
  CHECK(*parse_size("512B") == 512);
  CHECK(*parse_size("16KiB") == 16 * 1024);
  CHECK(*parse_size("10MiB") == 10 * 1024 * 1024);
  CHECK(*parse_size("2GiB") == uint64_t{2} << 30);
  CHECK(*parse_size("4294967296GiB") == uint64_t{1} << 62);
}

TEST_CASE("what is no size is refused, and KB with what it might mean") {
  for (const auto* text : {"", "B", "-1", "1.5KiB", "1 KiB", "1TiB", "4294967297GiB",
                           "18446744073709551616", "KiB", "1kib ", "1b"}) {
    INFO(text);
    CHECK_FALSE(parse_size(text).has_value());
  }
  CHECK(problem(parse_size("10KB")) ==
        "the size '10KB' has an unknown unit: did you mean '10KiB'?");
  CHECK(problem(parse_size("10m")) == "the size '10m' has an unknown unit: did you mean '10MiB'?");
  CHECK(problem(parse_size("1GB")) == "the size '1GB' has an unknown unit: did you mean '1GiB'?");
}

TEST_CASE("a listen address has a port or a socket's path") {
  const auto both = parse_listen_address(":443");
  CHECK(both->host.empty());
  CHECK(both->port == 443);
  CHECK(both->text == ":443");
  const auto v4 = parse_listen_address("127.0.0.1:8443");
  CHECK(v4->host == "127.0.0.1");
  CHECK(v4->port == 8443);
  const auto v6 = parse_listen_address("[::1]:65535");
  CHECK(v6->host == "::1");
  CHECK(v6->port == 65535);
  const auto socket = parse_listen_address("unix:/run/x.sock");
  CHECK(socket->unix_path == "/run/x.sock");
  CHECK(socket->port == 0);
}

TEST_CASE("what cannot be listened on is refused") {
  for (const auto* text : {"",
                           "443",
                           ":",
                           ":0",
                           ":65536",
                           ":-1",
                           ":99999999999",
                           ":80x",
                           "127.0.0.1",
                           "::1:443",
                           "[::1]",
                           "[::1]443",
                           "[::1",
                           "[127.0.0.1]:80",
                           "127.0.0.256:80",
                           "localhost:80",
                           "*:80",
                           "example.com:443",
                           "[]:80",
                           "[fe80::1%eth0]:80",
                           "unix:",
                           "unix:run/x.sock",
                           " :80",
                           "http://127.0.0.1:80"}) {
    INFO(text);
    CHECK_FALSE(parse_listen_address(text).has_value());
  }
  CHECK_FALSE(parse_listen_address("unix:/" + std::string(107, 'x')).has_value());
  CHECK(parse_listen_address("unix:/" + std::string(106, 'x')).has_value());
}

TEST_CASE("a network contains exactly the addresses that share its prefix") {
  struct Row {
    const char* network;
    const char* address;
    bool inside;
  };
  for (const auto& row : std::initializer_list<Row>{
           {"10.0.0.0/8", "10.255.255.255", true},
           {"10.0.0.0/8", "11.0.0.0", false},
           {"10.0.0.0/8", "9.255.255.255", false},
           {"192.168.4.0/22", "192.168.7.255", true},
           {"192.168.4.0/22", "192.168.8.0", false},
           {"0.0.0.0/0", "255.255.255.255", true},
           {"0.0.0.0/0", "::1", false},
           {"::/0", "fe80::1", true},
           {"::/0", "10.0.0.1", false},
           {"10.0.0.1", "10.0.0.1", true},
           {"10.0.0.1", "10.0.0.2", false},
           {"10.0.0.0/8", "::ffff:10.1.2.3", true},
           {"10.0.0.0/8", "::ffff:11.1.2.3", false},
           {"::ffff:10.0.0.0/104", "10.9.9.9", true},
           {"::ffff:10.0.0.0/104", "11.0.0.1", false},
           {"fd00::/8", "fdff::1", true},
           {"fd00::/8", "fe00::1", false},
           {"2001:db8::/33", "2001:db8:7fff::", true},
           {"2001:db8::/33", "2001:db8:8000::", false},
           {"::1", "::1", true},
           {"::1/128", "::2", false},
       }) {
    INFO(row.network << " and " << row.address);
    CHECK(network(row.network).contains(ip::make_address(row.address)) == row.inside);
  }
}

TEST_CASE("what is no network is refused, with the base address when bits are left over") {
  for (const auto* text :
       {"", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0.0/08x", "10.0.0/8",
        "example.com", "10.0.0.0/8/8", "/8", "1.2.3.4:80", "[::1]/128", "fe80::1%eth0"}) {
    INFO(text);
    CHECK_FALSE(parse_network(text).has_value());
  }
  CHECK(problem(parse_network("10.1.2.3/8")) ==
        "'10.1.2.3/8' has bits set after its prefix: did you mean '10.0.0.0/8'?");
  CHECK(problem(parse_network("fd00::1/8")) ==
        "'fd00::1/8' has bits set after its prefix: did you mean 'fd00::/8'?");
}

TEST_CASE("a host pattern matches a host, one label more, or any host") {
  CHECK(parse_host_glob("Example.COM")->text == "example.com");
  CHECK(parse_host_glob("example.com")->matches("example.com"));
  CHECK_FALSE(parse_host_glob("example.com")->matches("www.example.com"));
  const auto wildcard = parse_host_glob("*.Example.com");
  CHECK(wildcard->matches("a.example.com"));
  CHECK(wildcard->matches("xn--bcher-kva.example.com"));
  CHECK_FALSE(wildcard->matches("example.com"));
  CHECK_FALSE(wildcard->matches("a.b.example.com"));
  CHECK_FALSE(wildcard->matches(".example.com"));
  CHECK_FALSE(wildcard->matches("aexample.com"));
  CHECK(parse_host_glob("*")->matches("anything.at.all"));
  CHECK_FALSE(parse_host_glob("*")->matches(""));
  CHECK(parse_host_glob("[::1]")->matches("[::1]"));
  CHECK(parse_host_glob("10.0.0.1")->matches("10.0.0.1"));
  CHECK(parse_host_glob("my_app.internal")->matches("my_app.internal"));
  CHECK(parse_host_glob("*.com")->matches("example.com"));
  CHECK(parse_host_glob(std::string(63, 'a') + ".com").has_value());
}

TEST_CASE("what is no host is refused") {
  const std::string label(64, 'a');
  std::string longest;
  for (int i = 0; i < 50; ++i) longest += "abcd.";
  for (const auto& text : std::initializer_list<std::string>{"",
                                                             ".",
                                                             "..",
                                                             "example.com.",
                                                             ".example.com",
                                                             "a..b",
                                                             "-a.com",
                                                             "a-.com",
                                                             "a b.com",
                                                             "a/b",
                                                             "https://example.com",
                                                             "example.com:443",
                                                             "*.*.com",
                                                             "a.*.com",
                                                             "*a.com",
                                                             "**",
                                                             "*.",
                                                             "*.10.0.0.1",
                                                             "::1",
                                                             "[::1",
                                                             "[::1]:80",
                                                             "[10.0.0.1]",
                                                             "1.2.3",
                                                             "1.2.3.4.5",
                                                             "300.1.1.1",
                                                             "b\xc3\xbc"
                                                             "cher.de",
                                                             std::string("a\0b", 3),
                                                             "a\n.com",
                                                             label + ".com",
                                                             longest + "abcd",
                                                             "exa$mple.com",
                                                             "a,b.com"}) {
    INFO(text);
    CHECK_FALSE(parse_host_glob(text).has_value());
  }
  CHECK(problem(parse_host_glob("b\xc3\xbc"
                                "cher.de"))
            .find("xn--") != std::string::npos);
  CHECK(problem(parse_host_glob("https://example.com")) ==
        "'https://example.com' is not a host: leave out scheme and path");
}

TEST_CASE("a server's address is a host, a port, a scheme or a socket") {
  const auto plain = parse_server_address("LocalHost:8080");
  CHECK(plain->endpoint.host == "localhost");
  CHECK(plain->endpoint.port == 8080);
  CHECK_FALSE(plain->scheme);
  const auto secure = parse_server_address("https://10.0.0.7");
  CHECK(secure->protocol == UpstreamProtocol::https);
  CHECK(secure->endpoint.host == "10.0.0.7");
  CHECK(secure->endpoint.port == 0);
  CHECK(secure->endpoint.text == "https://10.0.0.7");
  const auto slash = parse_server_address("http://[2001:db8::1]:81/");
  CHECK(slash->scheme);
  CHECK(slash->protocol == UpstreamProtocol::http1);
  CHECK(slash->endpoint.host == "2001:db8::1");
  CHECK(slash->endpoint.port == 81);
  CHECK(parse_server_address("unix:/run/app.sock")->endpoint.unix_path == "/run/app.sock");
}

TEST_CASE("what is no server's address is refused") {
  for (const auto* text : {"",
                           ":8080",
                           "localhost:",
                           "localhost:0",
                           "localhost:65536",
                           "localhost:http",
                           "ftp://a",
                           "http://",
                           "https://:443",
                           "http://a/b",
                           "http://a?b",
                           "http://user@a",
                           "::1",
                           "[::1",
                           "[1.2.3.4]:80",
                           "a b",
                           "a..b",
                           "-a",
                           "unix:app.sock",
                           "unix:",
                           "*.a.com:80",
                           "h3://a",
                           "HTTP://a"}) {
    INFO(text);
    CHECK_FALSE(parse_server_address(text).has_value());
  }
  const auto grpc = parse_server_address("h2c://10.0.0.8:50051");
  REQUIRE(grpc.has_value());
  CHECK(grpc->protocol == UpstreamProtocol::h2c);
  CHECK(grpc->endpoint.port == 50051);
  CHECK(parse_server_address("h2://a")->protocol == UpstreamProtocol::h2);
  CHECK(problem(parse_server_address(":8080")) == "':8080' lacks a host: write 'localhost:8080'");
}

TEST_CASE("a name without colon, dot and slash refers to an upstream") {
  CHECK(is_upstream_reference("shop"));
  CHECK(is_upstream_reference("8080"));
  CHECK_FALSE(is_upstream_reference("localhost"));
  CHECK_FALSE(is_upstream_reference("shop:80"));
  CHECK_FALSE(is_upstream_reference("shop.internal"));
  CHECK_FALSE(is_upstream_reference("unix:/run/app.sock"));
}

TEST_CASE("text quoted in a message is short and holds no control characters") {
  CHECK(in_quotes("a\n\x1b[31mb") == "'a??[31mb'");
  CHECK(in_quotes(std::string(100, 'x')) == "'" + std::string(80, 'x') + "…'");
}

}  // namespace

}  // namespace gatehouse::config
