#include "acme/dns/message.hpp"

#include <catch2/catch.hpp>

#include "tests/support/dns_server.hpp"
#include "tests/support/result.hpp"

namespace gatehouse::acme::dns {

namespace {

using Catch::Contains;
using test::dns::Reply;

constexpr uint16_t id = 0x1234;
const Question question{"www.example.com", Type::caa};

Reply with(std::vector<std::string> records) {
  Reply reply;
  reply.records = std::move(records);
  return reply;
}

base::Result<Answer> parsed(const Reply& reply, const Question& asked = question) {
  return parse_answer(
      test::dns::message(id, "www.example.com", static_cast<unsigned>(asked.type), reply), id,
      asked);
}

Record caa(std::string value, std::string tag = "issue", uint8_t flags = 0) {
  Record record;
  record.name = "example.com";
  record.type = Type::caa;
  record.flags = flags;
  record.tag = std::move(tag);
  record.value = std::move(value);
  return record;
}

}  // namespace

TEST_CASE("a question is what RFC 1035 and RFC 6891 say, byte for byte") {
  const auto query = make_query(id, question);
  REQUIRE(query);
  const std::string expected = std::string("\x12\x34\x01\x00\0\1\0\0\0\0\0\1", 12) +
                               test::dns::name_bytes("www.example.com") +
                               std::string("\x01\x01\0\1", 4) +
                               std::string("\0\0\x29\x04\xd0\0\0\0\0\0\0", 11);
  CHECK(*query == expected);
}

TEST_CASE("what is no domain name is not asked for") {
  const std::string label(64, 'a');
  const std::string long_name = std::string(63, 'a') + "." + std::string(63, 'b') + "." +
                                std::string(63, 'c') + "." + std::string(63, 'd') + ".e";
  for (const auto& name : {std::string(), label + ".com", long_name, std::string("a..b"),
                           std::string("a\0b", 3), std::string(2000, 'x')}) {
    CAPTURE(name);
    const auto query = make_query(id, Question{name, Type::a});
    REQUIRE_FALSE(query);
    CHECK(query.error().kind == base::ErrorKind::invalid);
  }
}

TEST_CASE("CAA records come out with flags, tag and value as they are") {
  const auto answer =
      parsed(with({test::dns::caa("WWW.example.com", "issue", "letsencrypt.org"),
                   test::dns::caa("www.example.com", "IssueWild", ";"),
                   test::dns::caa("www.example.com", "x", std::string("\0\"\\\xff", 4), 129),
                   test::dns::caa("www.example.com", "iodef", "")}));
  REQUIRE(answer);
  REQUIRE(answer->records.size() == 4);
  const auto& records = answer->records;
  CHECK(records[0].name == "www.example.com");
  CHECK(records[0].ttl == 60);
  CHECK(records[0].tag == "issue");
  CHECK(records[0].value == "letsencrypt.org");
  CHECK(records[1].tag == "IssueWild");
  CHECK(records[1].value == ";");
  CHECK(records[2].flags == 129);
  CHECK(records[2].value == std::string("\0\"\\\xff", 4));
  CHECK(records[3].value.empty());
}

TEST_CASE("every other type gives its text, and what is of no interest is passed over") {
  using namespace test::dns;
  Reply reply = with({cname("www.example.com", "CDN.example.net"),
                      record("cdn.example.net", 1, std::string("\xcb\0\x71\x07", 4)),
                      record("cdn.example.net", 28,
                             std::string("\x20\x01\x0d\xb8", 4) + std::string(11, '\0') + '\1'),
                      record("cdn.example.net", 16, std::string("\3abc\2de")),
                      record("cdn.example.net", 65280, "anything")});
  reply.authority = {ns("example.net", "ns1.example.net"), soa("example.net")};
  const auto answer = parsed(reply);
  REQUIRE(answer);
  REQUIRE(answer->records.size() == 4);
  CHECK(answer->records[0].type == Type::cname);
  CHECK(answer->records[0].value == "cdn.example.net");
  CHECK(answer->records[1].value == "203.0.113.7");
  CHECK(answer->records[2].value == "2001:db8::1");
  CHECK(answer->records[3].value == "abcde");
  REQUIRE(answer->authority.size() == 2);
  CHECK(answer->authority[0].value == "ns1.example.net");
  CHECK(answer->authority[1].type == Type::soa);
  CHECK(answer->authority[1].name == "example.net");
}

TEST_CASE("the verdict and the sign to come by TCP are told") {
  for (const int rcode : {0, 2, 3, 5, 9}) {
    Reply reply;
    reply.rcode = rcode;
    const auto answer = parsed(reply);
    REQUIRE(answer);
    CHECK(static_cast<int>(answer->rcode) == rcode);
    CHECK_FALSE(answer->truncated);
  }
  // BADVERS: the upper bits stand in the OPT record, where others have the time to live.
  auto bytes = test::dns::message(id, "www.example.com", 257, Reply());
  bytes[11] = '\1';
  bytes += std::string("\0\0\x29\x04\xd0\1\0\0\0\0\0", 11);
  const auto extended = parse_answer(bytes, id, question);
  REQUIRE(extended);
  CHECK(static_cast<int>(extended->rcode) == 16);
  Reply cut;
  cut.truncated = true;
  CHECK(parsed(cut)->truncated);
  CHECK(rcode_name(Rcode::server_failure) == "SERVFAIL");
  CHECK(rcode_name(static_cast<Rcode>(9)) == "RCODE9");
}

TEST_CASE("an answer to another question is refused") {
  const auto reply = with({test::dns::caa("www.example.com", "issue", "ca.example")});
  const auto bytes = test::dns::message(id, "www.example.com", 257, reply);
  REQUIRE(parse_answer(bytes, id, question));
  CHECK(parse_answer(bytes, id, Question{"WWW.EXAMPLE.com", Type::caa}));
  CHECK_FALSE(parse_answer(bytes, id + 1, question));
  CHECK_FALSE(parse_answer(bytes, id, Question{"example.com", Type::caa}));
  CHECK_FALSE(parse_answer(bytes, id, Question{"www.example.com", Type::a}));
  const auto changed = [&](size_t at, char to) {
    auto copy = bytes;
    copy[at] = to;
    return copy;
  };
  CHECK_FALSE(parse_answer(changed(2, '\1'), id, question));        // a question, no answer
  CHECK_FALSE(parse_answer(changed(2, '\xa1'), id, question));      // another opcode
  CHECK_FALSE(parse_answer(changed(5, '\0'), id, question));        // no question in it
  CHECK_FALSE(parse_answer(changed(12 + 20, '\3'), id, question));  // class CHAOS
}

TEST_CASE("an answer cut off at any byte is refused, and never read past its end") {
  const auto reply = with({test::dns::cname("www.example.com", "a.example.net"),
                           test::dns::caa("a.example.net", "issue", "ca.example; a=b")});
  const auto bytes = test::dns::message(id, "www.example.com", 257, reply);
  REQUIRE(parse_answer(bytes, id, question));
  for (size_t size = 0; size < bytes.size(); ++size) {
    CAPTURE(size);
    const std::string part(bytes.data(), size);
    CHECK_FALSE(parse_answer(part, id, question));
  }
}

TEST_CASE("records that lie about their lengths are refused") {
  const auto lying = [](std::string data) {
    return parsed(with({test::dns::record("www.example.com", 257, data)}));
  };
  CHECK(lying(std::string("\0\5issueca.example", 17)));
  CHECK_FALSE(lying(std::string("\0\5iss", 5)));  // the tag ends after the record
  CHECK_FALSE(lying(std::string("\0", 1)));
  CHECK_FALSE(lying(""));
  CHECK_FALSE(parsed(with({test::dns::record("www.example.com", 1, "abc")})));
  CHECK_FALSE(parsed(with({test::dns::record("www.example.com", 28, "abcd")})));
  // A name that points at itself.
  const auto loop = std::string("\xc0\x0c", 2);
  auto bytes = test::dns::message(id, "www.example.com", 257, with({loop + "........"}));
  bytes[12] = '\xc0';
  bytes[13] = '\x0c';
  CHECK_FALSE(parse_answer(bytes, id, question));
}

TEST_CASE("more records than anyone needs are refused") {
  std::vector<std::string> records(records_max,
                                   test::dns::caa("www.example.com", "issue", "ca.example"));
  CHECK(parsed(with(records)));
  records.push_back(records.front());
  CHECK_FALSE(parsed(with(records)));
}

TEST_CASE("a record is shown as a zone file has it, on one line of ASCII") {
  CHECK(zone_line(caa("letsencrypt.org")) == "example.com. CAA 0 issue \"letsencrypt.org\"");
  CHECK(zone_line(caa(";", "issuewild", 128)) == "example.com. CAA 128 issuewild \";\"");
  CHECK(zone_line(caa("a\"b\\c\n\x1b[0m\xff")) ==
        "example.com. CAA 0 issue \"a\\\"b\\\\c\\010\\027[0m\\255\"");
  CHECK(zone_line(caa("", "bad\ntag")) == "example.com. CAA 0 bad?tag \"\"");
  CHECK(zone_line(caa(std::string(10'000, 'x'))).size() < 400);
  Record alias;
  alias.name = "www.example.com";
  alias.type = Type::cname;
  alias.value = "cdn.example.net";
  CHECK(zone_line(alias) == "www.example.com. CNAME cdn.example.net.");
  alias.type = Type::a;
  alias.value = "192.0.2.1";
  CHECK(zone_line(alias) == "www.example.com. A 192.0.2.1");
}

}  // namespace gatehouse::acme::dns
