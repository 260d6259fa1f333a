#include "http/message.hpp"

#include <catch2/catch.hpp>

using namespace gatehouse::http;

TEST_CASE("field names are known in any case") {
  CHECK(field_id("Host") == FieldId::host);
  CHECK(field_id("HOST") == FieldId::host);
  CHECK(field_id("te") == FieldId::te);
  CHECK(field_id("Content-Length") == FieldId::content_length);
  CHECK(field_id("transfer-ENCODING") == FieldId::transfer_encoding);
  CHECK(field_id("X-Forwarded-For") == FieldId::x_forwarded_for);
  CHECK(field_id("x-forwarded-host") == FieldId::x_forwarded_host);
  CHECK(field_id("X-FORWARDED-PROTO") == FieldId::x_forwarded_proto);
  CHECK(field_id("Proxy-Authorization") == FieldId::proxy_authorization);
  CHECK(field_id("HTTP2-Settings") == FieldId::http2_settings);
}

TEST_CASE("every id but one has a name, in lower case") {
  for (auto id = FieldId::accept; id <= FieldId::x_forwarded_proto;
       id = static_cast<FieldId>(static_cast<int>(id) + 1)) {
    const std::string_view name = field_name(id);
    CAPTURE(name);
    CHECK(field_id(name) == id);
    CHECK(name.find_first_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ") == name.npos);
  }
  CHECK(field_name(FieldId::other).empty());
}

TEST_CASE("names that resemble known ones are other names") {
  for (const char* name : {"", "hos", "hosts", "h0st", "content_length", "x-forwarded-fo",
                           "x-forwarded-foo", "connectioN ", "proxy-authorizatiom", "-"}) {
    CAPTURE(name);
    CHECK(field_id(name) == FieldId::other);
  }
}

TEST_CASE("values made for a head stay where they are while more are added") {
  RequestHead head;
  for (int i = 0; i < 100; ++i) head.add("x-number", "value " + std::to_string(i));
  REQUIRE(head.fields.size() == 100);
  for (size_t i = 0; i < 100; ++i) CHECK(head.fields[i].value == "value " + std::to_string(i));
}

TEST_CASE("a head that moves takes its views along, and leaves alone what was made for it") {
  const std::string bytes = "GET /path A.example:1";
  RequestHead head;
  head.target = std::string_view(bytes).substr(4, 5);
  head.authority = std::string_view(bytes).substr(10);
  head.host = std::string_view(bytes).substr(10, 9);
  std::string copy = bytes;
  head.move(bytes, copy.data());
  CHECK(head.target.data() == copy.data() + 4);
  CHECK(head.authority.data() == copy.data() + 10);
  CHECK(head.host.data() == copy.data() + 10);
  const std::string_view made = head.host = head.owned.keep("a.example");
  head.move(copy, bytes.data());
  CHECK(head.host.data() == made.data());
}

TEST_CASE("clearing a head keeps the fields' memory") {
  RequestHead head;
  for (int i = 0; i < 40; ++i) head.add_view("a", "b");
  head.add("c", "d");
  head.framing = Framing::chunked;
  head.keep_alive = false;
  const size_t capacity = head.fields.capacity();
  head.clear();
  CHECK(head.fields.empty());
  CHECK(head.fields.capacity() == capacity);
  CHECK(head.framing == Framing::none);
  CHECK(head.keep_alive);

  ResponseHead response;
  response.status = 200;
  response.has_content_length = true;
  response.add("c", "d");
  response.clear();
  CHECK(response.status == 0);
  CHECK_FALSE(response.has_content_length);
  CHECK(response.fields.empty());
}

TEST_CASE("find sees only fields that are forwarded") {
  ResponseHead head;
  head.fields.push_back(Field{"Server", "a", FieldId::server, true});
  CHECK(head.find(FieldId::server) == nullptr);
  head.fields.push_back(Field{"server", "b", FieldId::server});
  REQUIRE(head.find(FieldId::server) != nullptr);
  CHECK(head.find(FieldId::server)->value == "b");
  CHECK(head.find(FieldId::date) == nullptr);
}

TEST_CASE("case is ignored for ASCII letters only") {
  CHECK(equal_ignoring_case("", ""));
  CHECK(equal_ignoring_case("Keep-Alive", "keep-alivE"));
  CHECK_FALSE(equal_ignoring_case("a", "ab"));
  CHECK_FALSE(equal_ignoring_case("@", "`"));  // they differ in the same bit as letters do
  CHECK_FALSE(equal_ignoring_case("\xc4", "\xe4"));
}
