#include "acme/protocol.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <catch2/catch.hpp>
#include <fmt/format.h>

namespace gatehouse::acme {

namespace {

constexpr const char* ca = "https://ca.example/dir";

std::string order_with(const std::string& members) {
  return R"({"status":"pending","identifiers":[{"type":"dns","value":"A.Example"}],)"
         R"("authorizations":["https://ca.example/a/1"],"finalize":"https://ca.example/f")" +
         (members.empty() ? "" : "," + members) + "}";
}

std::string repeated(const std::string& text, size_t count) {
  std::string result;
  for (size_t i = 0; i < count; ++i) result += (i == 0 ? "" : ",") + text;
  return result;
}

}  // namespace

TEST_CASE("the directory of RFC 8555 section 7.1.1 is read, unknown members ignored") {
  const auto directory = parse_directory(R"({
    "newNonce": "https://example.com/acme/new-nonce",
    "newAccount": "https://example.com/acme/new-account",
    "newOrder": "https://example.com/acme/new-order",
    "newAuthz": "https://example.com/acme/new-authz",
    "revokeCert": "https://example.com/acme/revoke-cert",
    "keyChange": "https://example.com/acme/key-change",
    "renewalInfo": "https://example.com/acme/renewal-info",
    "sV6FAtpyZa8": "https://community.letsencrypt.org/t/adding-random-entries-to-the-directory",
    "meta": {
      "termsOfService": "https://example.com/acme/terms/2017-5-30",
      "website": "https://www.example.com/",
      "caaIdentities": ["Example.com", 5, "not a host", "", "ca.example"],
      "externalAccountRequired": true,
      "profiles": {"classic": "https://x", "shortlived": "https://y"}
    }})",
                                         ca);
  REQUIRE(directory.has_value());
  CHECK(directory->new_nonce == "https://example.com/acme/new-nonce");
  CHECK(directory->new_account == "https://example.com/acme/new-account");
  CHECK(directory->new_order == "https://example.com/acme/new-order");
  CHECK(directory->revoke_certificate == "https://example.com/acme/revoke-cert");
  CHECK(directory->key_change == "https://example.com/acme/key-change");
  CHECK(directory->renewal_info == "https://example.com/acme/renewal-info");
  CHECK(directory->external_account_required);
  CHECK(directory->profiles == std::vector<std::string>{"classic", "shortlived"});
  CHECK(directory->caa_identities == std::vector<std::string>{"example.com", "ca.example"});
  const auto again = parse_directory(directory_json(*directory), ca);
  REQUIRE(again.has_value());
  CHECK(again->new_order == directory->new_order);
  CHECK(again->profiles == directory->profiles);
  CHECK(again->renewal_info == directory->renewal_info);
  CHECK(again->caa_identities == directory->caa_identities);
}

TEST_CASE("what is no directory is refused, saying what is wrong") {
  const std::string text = GENERATE(
      as<std::string>{}, "", "{", "[]", "null", "42", R"("text")", "{}", "<html>busy</html>",
      R"({"newNonce":1,"newAccount":"https://e/a","newOrder":"https://e/o"})",
      R"({"newNonce":"/n","newAccount":"https://e/a","newOrder":"https://e/o"})",
      R"({"newNonce":"https://e/n","newAccount":"https://e/a"})",
      R"({"newNonce":"http://e/n","newAccount":"https://e/a","newOrder":"https://e/o"})",
      R"({"newNonce":"file:///etc/passwd","newAccount":"https://e/a","newOrder":"https://e/o"})",
      R"({"newNonce":"https://e/n\r\nX: y","newAccount":"https://e/a","newOrder":"https://e/o"})",
      R"({"newNonce":"https://u:p@e/n","newAccount":"https://e/a","newOrder":"https://e/o"})");
  const auto directory = parse_directory(text, ca);
  REQUIRE(directory.has_error());
  CHECK(directory.error().kind == base::ErrorKind::protocol);
  CHECK(directory.error().context.find("ca.example") != std::string::npos);
}

TEST_CASE("plain http is taken only from a CA that is asked over plain http") {
  CHECK(usable_url("http://127.0.0.1:4000/x", "http://127.0.0.1:4000/dir"));
  CHECK(usable_url("https://ca.example/x", "http://127.0.0.1:4000/dir"));
  CHECK_FALSE(usable_url("http://ca.example/x", ca));
  CHECK_FALSE(usable_url("https://ca.example/" + std::string(3000, 'x'), ca));
  CHECK_FALSE(usable_url("https:///x", ca));
  CHECK_FALSE(usable_url("https://ca.example/x#y", ca));
}

TEST_CASE("an order is read with every member that matters") {
  const auto order = parse_order(order_with(R"("expires":"2026-01-02T03:04:05Z","error":{
    "type":"urn:ietf:params:acme:error:caa","detail":"forbidden"},"future":[1,2,{"x":null}])"),
                                 ca);
  REQUIRE(order.has_value());
  CHECK(order->status == OrderStatus::pending);
  CHECK(order->identifiers == std::vector{Identifier{"dns", "a.example"}});
  CHECK(order->authorizations == std::vector<std::string>{"https://ca.example/a/1"});
  CHECK(order->finalize == "https://ca.example/f");
  CHECK(timestamp(order->expires.value()) == "2026-01-02T03:04:05Z");
  CHECK(order->error.value().type == "caa");
}

TEST_CASE("orders that make no sense are refused") {
  const std::string text = GENERATE(
      as<std::string>{}, "{}", order_with(R"("status":"melted")"),
      R"({"status":"valid","identifiers":[{"type":"dns","value":"a"}],"authorizations":[],)"
      R"("finalize":"https://e/f"})",
      R"({"status":"pending","identifiers":[],"authorizations":[],"finalize":"https://e/f"})",
      R"({"status":"pending","identifiers":[1],"authorizations":[],"finalize":"https://e/f"})",
      R"({"status":"pending","identifiers":{"type":"dns"},)"
      R"("authorizations":[],"finalize":"https://e/f"})",
      R"({"status":"pending","identifiers":[{"type":"dns","value":""}],"authorizations":[],)"
      R"("finalize":"https://e/f"})",
      R"({"status":"pending","identifiers":[{"type":"dns","value":"a"}],"authorizations":"x",)"
      R"("finalize":"https://e/f"})",
      R"({"status":"pending","identifiers":[{"type":"dns","value":"a"}],"authorizations":["/a"],)"
      R"("finalize":"https://e/f"})",
      R"({"status":"pending","identifiers":[{"type":"dns","value":"a"}],"authorizations":[],)"
      R"("finalize":7})");
  CHECK(parse_order(text, ca).has_error());
}

TEST_CASE("lists are bounded: identifiers, authorizations, challenges, orders, depth") {
  const std::string identifier = R"({"type":"dns","value":"a.example"})";
  const auto order = [&](size_t identifiers, size_t authorizations) {
    return parse_order(fmt::format(R"({{"status":"ready","identifiers":[{}],"authorizations":[{}],)"
                                   R"("finalize":"https://ca.example/f"}})",
                                   repeated(identifier, identifiers),
                                   repeated(R"("https://ca.example/a")", authorizations)),
                       ca);
  };
  CHECK(order(100, 100).has_value());
  CHECK(order(101, 1).has_error());
  CHECK(order(1, 101).has_error());
  const auto authorization = [&](size_t challenges) {
    return parse_authorization(
        fmt::format(R"({{"status":"pending","identifier":{},"challenges":[{}]}})", identifier,
                    repeated(R"({"type":"x"})", challenges)),
        ca);
  };
  CHECK(authorization(32).has_value());
  CHECK(authorization(33).has_error());
  CHECK(parse_order_list(
            fmt::format(R"({{"orders":[{}]}})", repeated(R"("https://ca.example/o")", 1001)), ca)
            .has_error());
  std::string deep = "1";
  for (int i = 0; i < 100; ++i) deep = "[" + deep + "]";
  CHECK(parse_order(order_with("\"deep\":" + deep), ca).has_error());
}

TEST_CASE("an authorization is read; challenges of unknown type or shape do no harm") {
  const auto authorization = parse_authorization(R"({
    "status":"invalid","identifier":{"type":"dns","value":"example.com"},"wildcard":true,
    "challenges":[
      7,
      {"type":"future-99","url":"nonsense","status":"pending"},
      {"type":"http-01","url":"https://ca.example/c","status":"invalid",
       "token":"evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA",
       "error":{"type":"urn:ietf:params:acme:error:connection","detail":"refused"},
       "validationRecord":[{"addressUsed":"192.0.2.1"},{"addressUsed":"192.0.2.7"}]},
      {"type":"http-01","url":"https://ca.example/c","status":"pending","token":"../../etc/passwd"}
    ]})",
                                                 ca);
  REQUIRE(authorization.has_value());
  CHECK(authorization->status == AuthorizationStatus::invalid);
  CHECK(authorization->wildcard);
  REQUIRE(authorization->challenges.size() == 3);
  CHECK(authorization->challenges[0].url.empty());
  CHECK(authorization->challenges[1].token == "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA");
  CHECK(authorization->challenges[1].error.value().type == "connection");
  CHECK(authorization->challenges[1].address_used == "192.0.2.7");
  CHECK(authorization->challenges[2].token.empty());
}

TEST_CASE("the address that a CA looked at is an address and nothing behind it") {
  const auto address_of = [](const std::string& text) {
    const auto challenge = parse_challenge(
        R"({"type":"http-01","status":"invalid","validationRecord":[{"addressUsed":")" + text +
            "\"}]}",
        ca);
    REQUIRE(challenge.has_value());
    return challenge->address_used;
  };
  CHECK(address_of("2001:DB8::1") == "2001:db8::1");
  for (const char* text : {"fe80::1%\\nerror: all is lost", "::1\\u0000\\n", "192.0.2.1\\u0000\\nx",
                           "fe80::1%a b\\u001b[31m"}) {
    CAPTURE(text);
    const std::string address = address_of(text);
    CHECK(address.find_first_not_of("0123456789abcdef:.%") == address.npos);
  }
  CHECK(address_of("::1%" + std::string(1000, '0')).size() <= 64);
}

TEST_CASE("a token that is not base64url, too short or too long is no token") {
  const std::string token =
      GENERATE(as<std::string>{}, "short", "evaGxfADs6pSRb2LAv9I/f17Dt3juxGJ",
               "evaGxfADs6pSRb2LAv9I f17Dt3juxGJ", "evaGxfADs6pSRb2LAv9I.f17Dt3juxGJ",
               "evaGxfADs6pSRb2LAv9I=f17Dt3juxGJ", std::string(257, 'a'));
  const auto challenge = parse_challenge(
      fmt::format(R"({{"type":"http-01","status":"pending","url":"https://ca.example/c",)"
                  R"("token":"{}"}})",
                  token),
      ca);
  REQUIRE(challenge.has_value());
  CHECK(challenge->token.empty());
}

TEST_CASE("a problem document is read with its subproblems; anything else has only its status") {
  const auto problem = parse_problem(R"({
    "type":"urn:ietf:params:acme:error:malformed","detail":"Some of the identifiers\n requested",
    "subproblems":[
      {"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"Policy",
       "identifier":{"type":"dns","value":"b.example"}}, 3]})",
                                     400);
  CHECK(problem.type == "malformed");
  CHECK(problem.detail == "Some of the identifiers  requested");
  REQUIRE(problem.subproblems.size() == 1);
  CHECK(problem.subproblems[0].identifier == "b.example");
  for (const char* text : {"", "<html>", "[]", "{", "null", R"({"type":7,"detail":[]})"}) {
    const auto other = parse_problem(text, 502);
    CHECK(other.type.empty());
    CHECK(other.detail.empty());
    CHECK(other.status == 502);
  }
  CHECK(parse_problem(R"({"type":"about:blank","title":"Busy"})", 503).detail == "Busy");
  const std::string endless(100'000, 'x');
  CHECK(parse_problem(R"({"detail":")" + endless + "\"}", 400).detail.size() == 1024);
}

TEST_CASE("a list of orders may be empty, null or hold addresses, nothing else") {
  CHECK(parse_order_list(R"({"orders":[]})", ca)->empty());
  CHECK(parse_order_list(R"({"orders":null})", ca)->empty());
  CHECK(parse_order_list(R"({"orders":["https://ca.example/o/1"]})", ca)->size() == 1);
  CHECK(parse_order_list(R"({"orders":[1]})", ca).has_error());
  CHECK(parse_order_list(R"({})", ca).has_error());
  CHECK(parse_account(R"({"orders":"https://ca.example/l"})", ca)->orders ==
        "https://ca.example/l");
  CHECK(parse_account(R"({"status":"valid","orders":"file:///etc/passwd"})", ca)->orders.empty());
}

TEST_CASE("an account is usable unless its owner or the CA has ended it") {
  CHECK(parse_account(R"({"status":"valid"})", ca)->usable);
  CHECK(parse_account(R"({})", ca)->usable);
  CHECK_FALSE(parse_account(R"({"status":"deactivated"})", ca)->usable);
  CHECK_FALSE(parse_account(R"({"status":"revoked"})", ca)->usable);
  CHECK(parse_account("[]", ca).has_error());
}

TEST_CASE("the addresses that a CA need not offer are left out where they make no sense") {
  const auto with = [](const std::string& more) {
    return parse_directory(
        R"({"newNonce":"https://ca.example/n","newAccount":"https://ca.example/a",
      "newOrder":"https://ca.example/o")" +
            more + "}",
        ca);
  };
  CHECK(with("")->renewal_info.empty());
  CHECK(with(R"(,"renewalInfo":"http://ca.example/i")")->renewal_info.empty());
  CHECK(with(R"(,"renewalInfo":7,"keyChange":[],"revokeCert":{})")->revoke_certificate.empty());
  std::string identities;
  for (int i = 0; i < 100; ++i)
    identities += (i == 0 ? "" : ",") + ("\"h" + std::to_string(i) + "\"");
  const auto many = with(R"(,"meta":{"caaIdentities":[)" + identities + "]}");
  REQUIRE(many.has_value());
  CHECK(many->caa_identities.size() == 32);
}

TEST_CASE("a revocation's reason goes by its number or its name, and only an owner's") {
  CHECK(revocation_reason("unspecified") == 0);
  CHECK(revocation_reason("keyCompromise") == 1);
  CHECK(revocation_reason("key-compromise") == 1);
  CHECK(revocation_reason("AFFILIATIONCHANGED") == 3);
  CHECK(revocation_reason("superseded") == 4);
  CHECK(revocation_reason("cessation-of-operation") == 5);
  for (const auto* name : {"", "cACompromise", "certificateHold", "1", "superseded "}) {
    CHECK_FALSE(revocation_reason(name).has_value());
  }
  for (const int reason : {0, 1, 3, 4, 5}) CHECK(is_revocation_reason(reason));
  for (const int reason : {-1, 2, 6, 7, 8, 9, 10, 11}) CHECK_FALSE(is_revocation_reason(reason));
  CHECK(revocation_reason_names().find("keyCompromise, affiliationChanged") != std::string::npos);
}

TEST_CASE("payloads are the JSON of RFC 8555") {
  const auto order =
      boost::json::parse(new_order_json({"A.example", "192.0.2.1", "2001:DB8::1"}, "", ""));
  CHECK(order == boost::json::parse(R"({"identifiers":[{"type":"dns","value":"a.example"},
    {"type":"ip","value":"192.0.2.1"},{"type":"ip","value":"2001:db8::1"}]})"));
  const auto renewal = boost::json::parse(new_order_json({"a"}, "shortlived", "aYhb.AIdl"));
  CHECK(renewal.at("profile") == "shortlived");
  CHECK(renewal.at("replaces") == "aYhb.AIdl");
  CHECK(revocation_json("\xff\xfe", 4) == R"({"certificate":"__4","reason":4})");
  CHECK(key_change_json("https://ca.example/\"a", R"({"kty":"EC"})") ==
        R"({"account":"https://ca.example/\"a","oldKey":{"kty":"EC"}})");
  CHECK(boost::json::parse(new_account_json("me@example.org", "")) ==
        boost::json::parse(R"({"termsOfServiceAgreed":true,"contact":["mailto:me@example.org"]})"));
  CHECK(boost::json::parse(new_account_json("", R"({"x":1})")) ==
        boost::json::parse(R"({"termsOfServiceAgreed":true,"externalAccountBinding":{"x":1}})"));
  CHECK(boost::json::parse(new_account_json("\"},\"x\":\"", "")).at("contact").at(0) ==
        "mailto:\"},\"x\":\"");
  CHECK(finalize_json("\xff\xfe") == R"({"csr":"__4"})");
}

TEST_CASE("an order is for names in any order, no more and no fewer") {
  OrderObject order;
  order.identifiers = {{"dns", "a.example"}, {"ip", "192.0.2.1"}};
  CHECK(is_for(order, {"192.0.2.1", "A.example"}));
  CHECK_FALSE(is_for(order, {"a.example"}));
  CHECK_FALSE(is_for(order, {"a.example", "192.0.2.1", "b.example"}));
  CHECK_FALSE(is_for(order, {"a.example", "b.example"}));
}

TEST_CASE("Link fields are searched for a relation") {
  const std::string field =
      R"(<https://ca.example/1>;rel="alternate", <https://ca.example/2>; REL=alternate,)"
      R"(<https://ca.example/dir>;rel="index", </relative>;rel="alternate")";
  CHECK(links(field, "alternate", ca) ==
        std::vector<std::string>{"https://ca.example/1", "https://ca.example/2"});
  CHECK(links(field, "index", ca) == std::vector<std::string>{"https://ca.example/dir"});
  CHECK(links(field, "next", ca).empty());
  for (const char* broken : {"", "<", ">", "><", "<<>>", "rel=next", "<https://ca.example/1>"}) {
    CHECK(links(broken, "next", ca).empty());
  }
}

}  // namespace gatehouse::acme
