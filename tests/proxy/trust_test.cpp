#include "proxy/trust.hpp"

#include <catch2/catch.hpp>

namespace gatehouse::proxy {

namespace {

boost::asio::ip::address address(const char* text) {
  return boost::asio::ip::make_address(text);
}

/// Trusts 10.0.0.0/8 and 2001:db8::/32.
config::Server server(bool proxy_protocol = false) {
  config::Server settings;
  settings.trusted_proxies = {{address("10.0.0.0"), 8}, {address("2001:db8::"), 32}};
  settings.proxy_protocol = proxy_protocol;
  return settings;
}

ClientFacts client(const char* text) {
  ClientFacts facts;
  facts.address = address(text);
  facts.text = text;
  return facts;
}

std::string forwarded(const std::vector<std::string_view>& values) {
  http::RequestHead request;
  for (const auto value : values) {
    request.fields.push_back({"X-Forwarded-For", value, http::FieldId::x_forwarded_for});
  }
  return forwarded_client(server(), request);
}

}  // namespace

TEST_CASE("a PROXY header is demanded of trusted proxies and Unix sockets, if it is on") {
  auto local = client("127.0.0.1");
  local.unix_socket = true;
  CHECK(must_introduce(server(true), client("10.1.2.3")));
  CHECK(must_introduce(server(true), client("::ffff:10.1.2.3")));
  CHECK(must_introduce(server(true), client("2001:db8::1")));
  CHECK(must_introduce(server(true), local));
  CHECK_FALSE(must_introduce(server(true), client("192.0.2.1")));
  CHECK_FALSE(must_introduce(server(true), client("127.0.0.1")));
  CHECK_FALSE(must_introduce(server(false), client("10.1.2.3")));
  CHECK_FALSE(must_introduce(server(false), local));
}

TEST_CASE("fields are believed of trusted proxies, not of those whom a header left unnamed") {
  CHECK(believes_fields(server(), client("10.1.2.3")));
  CHECK_FALSE(believes_fields(server(), client("192.0.2.1")));
  CHECK_FALSE(believes_fields(config::Server{}, client("10.1.2.3")));
  auto unnamed = client("10.1.2.3");
  unnamed.unnamed = true;
  CHECK_FALSE(believes_fields(server(), unnamed));
}

TEST_CASE("the forwarded client is the nearest address that is no trusted proxy") {
  CHECK(forwarded({}).empty());
  CHECK(forwarded({""}).empty());
  CHECK(forwarded({"192.0.2.1"}) == "192.0.2.1");
  CHECK(forwarded({"192.0.2.1, 10.0.0.1"}) == "192.0.2.1");
  CHECK(forwarded({"203.0.113.9, 192.0.2.1,10.0.0.1 ,\t2001:db8::7"}) == "192.0.2.1");
  CHECK(forwarded({"203.0.113.9", "192.0.2.1, 10.0.0.1", "10.0.0.2"}) == "192.0.2.1");
  CHECK(forwarded({"203.0.113.9, 192.0.2.1", "", " , ,"}) == "192.0.2.1");
  CHECK(forwarded({"10.0.0.2, 10.0.0.1"}) == "10.0.0.2");
}

TEST_CASE("a forwarded client is an address, however it is written, and nothing else") {
  CHECK(forwarded({"192.0.2.1:4711"}) == "192.0.2.1");
  CHECK(forwarded({"[2001:DB9::1]:4711"}) == "2001:db9::1");
  CHECK(forwarded({"[2001:db9::1]"}) == "2001:db9::1");
  CHECK(forwarded({"2001:db9::1"}) == "2001:db9::1");
  // What is no address ends the search: what stands farther away was written by nobody we know.
  for (const std::string_view nonsense :
       {"unknown", "_hidden", "192.0.2.1 192.0.2.2", "192.0.2", "fe80::1%lo", "[", "[]", ":", "]",
        "192.0.2.256", "example.com", "1.2.3.4;x"}) {
    CAPTURE(nonsense);
    CHECK(forwarded({nonsense}).empty());
    CHECK(forwarded({"192.0.2.1, " + std::string(nonsense) + ", 10.0.0.1"}) == "10.0.0.1");
  }
}

}  // namespace gatehouse::proxy
