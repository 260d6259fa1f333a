#include "acme/dns/resolver.hpp"

#include <fstream>
#include <set>

#include <catch2/catch.hpp>

#include "acme/dns/look.hpp"
#include "tests/support/await.hpp"
#include "tests/support/dns_server.hpp"
#include "tests/support/result.hpp"

namespace gatehouse::acme::dns {

namespace {

using namespace std::chrono_literals;
using base::ErrorKind;
using base::Monotonic;
using base::Result;
using test::await;
using test::dns::Asked;
using test::dns::Reply;
using test::dns::Server;
using Names = std::vector<std::string>;

constexpr std::chrono::milliseconds quick{500};     // a try, where silence is part of the test,
constexpr std::chrono::milliseconds patient{5000};  // and where none is, however busy the machine

Reply with(std::vector<std::string> records) {
  Reply reply;
  reply.records = std::move(records);
  return reply;
}
Reply verdict(int rcode) {
  Reply reply;
  reply.rcode = rcode;
  return reply;
}
Reply silence() {
  Reply reply;
  reply.silent = true;
  return reply;
}
Reply allows(const Asked& asked) {
  return with({test::dns::caa(asked.name, "issue", "ca.example")});
}

struct Scene {
  explicit Scene(std::vector<Server::Script> scripts,
                 std::chrono::milliseconds try_time = patient) {
    for (auto& script : scripts)
      servers.push_back(std::make_unique<Server>(control, std::move(script)));
    ResolverSettings settings;
    for (const auto& server : servers) settings.servers.push_back(server->address());
    settings.try_time = try_time;
    resolver = std::make_unique<Resolver>(std::move(settings));
  }
  Result<Lookup> look_up(const std::string& name, Type type = Type::caa,
                         std::chrono::milliseconds time_max = 10s) {
    return await(control, resolver->look_up(name, type, Monotonic::now() + time_max));
  }
  const std::vector<Asked>& asked(size_t server = 0) const { return servers[server]->asked(); }

  boost::asio::io_context control;
  std::vector<std::unique_ptr<Server>> servers;
  std::unique_ptr<Resolver> resolver;
};

}  // namespace

TEST_CASE("records are found, and that there are none is an answer too") {
  Scene scene({[](const Asked& asked) {
    if (asked.name == "example.com") return allows(asked);
    Reply none;
    none.rcode = asked.name == "nowhere.example.com" ? 3 : 0;
    none.authority = {test::dns::soa("example.com")};
    return none;
  }});
  const auto found = scene.look_up("Example.COM.");
  REQUIRE(found);
  CHECK(found->owner == "example.com");
  REQUIRE(found->records.size() == 1);
  CHECK(found->records[0].value == "ca.example");
  const auto none = scene.look_up("www.example.com");
  REQUIRE(none);
  CHECK(none->records.empty());
  CHECK(none->exists);
  CHECK(none->zone == "example.com");
  const auto nowhere = scene.look_up("nowhere.example.com");
  REQUIRE(nowhere);
  CHECK_FALSE(nowhere->exists);
}

TEST_CASE("every question has an id and a port of its own") {
  Scene scene({allows});
  std::set<unsigned> ids;
  std::set<uint16_t> ports;
  constexpr size_t count = 20;
  for (size_t i = 0; i < count; ++i) REQUIRE(scene.look_up("example.com"));
  for (const auto& asked : scene.asked()) {
    ids.insert(asked.id);
    ports.insert(asked.port);
  }
  CHECK(ids.size() >= count - 2);
  CHECK(ports.size() >= count - 2);
}

TEST_CASE("an answer too large for a datagram is fetched by TCP") {
  Scene scene({[](const Asked& asked) {
    Reply reply = allows(asked);
    reply.records.push_back(test::dns::caa(asked.name, "iodef", std::string(8000, 'x')));
    reply.truncated = true;
    return reply;
  }});
  const auto found = scene.look_up("example.com");
  REQUIRE(found);
  CHECK(found->records.size() == 2);
  REQUIRE(scene.asked().size() == 2);
  CHECK_FALSE(scene.asked()[0].tcp);
  CHECK(scene.asked()[1].tcp);
}

TEST_CASE("TCP that ends without an answer is a failure of that server") {
  Scene scene({[](const Asked& asked) {
                 Reply reply = allows(asked);
                 reply.truncated = true;
                 reply.silent = asked.tcp;
                 return reply;
               },
               allows},
              quick);
  CHECK(scene.look_up("example.com"));
  CHECK(scene.asked(1).size() == 1);
}

TEST_CASE("forged, late and damaged datagrams are passed over, and the answer is still taken") {
  const auto forged = GENERATE(0, 1, 2);
  Scene scene({[forged](const Asked& asked) {
    const auto evil = with({test::dns::caa("example.com", "issue", ";")});
    Reply reply = allows(asked);
    if (forged == 0) reply.before = test::dns::message(asked.id + 1, asked.name, asked.type, evil);
    if (forged == 1) reply.before = test::dns::message(asked.id, "example.net", asked.type, evil);
    if (forged == 2) reply.before = "nonsense";
    return reply;
  }});
  const auto found = scene.look_up("example.com");
  REQUIRE(found);
  CHECK(found->records[0].value == "ca.example");
}

TEST_CASE("a server whose answers are never ours is as silent as one that sends nothing") {
  Scene scene({[](const Asked& asked) {
                Reply reply = allows(asked);
                reply.id_added = 1;
                return reply;
              }},
              quick);
  const auto found = scene.look_up("example.com");
  REQUIRE_FALSE(found);
  CHECK(found.error().kind == ErrorKind::timeout);
}

TEST_CASE("after silence the next server is asked, and from then on it first") {
  Scene scene({[](const Asked&) { return silence(); }, allows}, quick);
  CHECK(scene.look_up("example.com"));
  CHECK(scene.asked(0).size() == 1);
  CHECK(scene.asked(1).size() == 1);
  CHECK(scene.look_up("example.com"));
  CHECK(scene.asked(0).size() == 1);
  CHECK(scene.asked(1).size() == 2);
}

TEST_CASE("silence of all is a timeout after two rounds") {
  Scene scene({[](const Asked&) { return silence(); }, [](const Asked&) { return silence(); }},
              quick);
  const auto found = scene.look_up("example.com");
  REQUIRE_FALSE(found);
  CHECK(found.error().kind == ErrorKind::timeout);
  CHECK(found.error().context.find("no answer from 127.0.0.1:") != std::string::npos);
  CHECK(scene.asked(0).size() == 2);
  CHECK(scene.asked(1).size() == 2);
}

TEST_CASE("the second round finds what the first one lost") {
  int seen = 0;
  Scene scene({[&seen](const Asked& asked) { return ++seen == 1 ? silence() : allows(asked); }},
              quick);
  CHECK(scene.look_up("example.com"));
  CHECK(seen == 2);
}

TEST_CASE("the deadline ends it, whatever is left to try") {
  Scene scene({[](const Asked&) { return silence(); }, allows}, quick);
  const auto started = Monotonic::now();
  const auto found = scene.look_up("example.com", Type::caa, 50ms);
  REQUIRE_FALSE(found);
  CHECK(found.error().kind == ErrorKind::timeout);
  CHECK(Monotonic::now() - started < 5s);
  CHECK(scene.asked(1).empty());
}

TEST_CASE("a server that fails is not asked twice, and its word is the error") {
  const auto rcode = GENERATE(1, 2, 4, 5);
  Scene scene({[rcode](const Asked&) { return verdict(rcode); }});
  const auto found = scene.look_up("example.com");
  REQUIRE_FALSE(found);
  CHECK(found.error().kind == ErrorKind::unavailable);
  CHECK(found.error().context.starts_with(rcode_name(static_cast<Rcode>(rcode)) + " from 127"));
  CHECK(scene.asked().size() == 1);
}

TEST_CASE("after SERVFAIL another server's answer counts") {
  Scene scene({[](const Asked&) { return verdict(2); }, allows});
  CHECK(scene.look_up("example.com"));
}

TEST_CASE("a port where nobody listens is known at once") {
  boost::asio::io_context control;
  ResolverSettings settings;
  {
    const Server gone(control, [](const Asked&) { return silence(); });
    settings.servers.push_back(gone.address());
  }
  control.poll();
  Resolver resolver(settings);
  const auto found =
      await(control, resolver.look_up("example.com", Type::a, Monotonic::now() + 30s));
  REQUIRE_FALSE(found);
  CHECK(found.error().kind == ErrorKind::refused);
}

TEST_CASE("CNAMEs are followed, within one answer and from answer to answer") {
  Scene scene({[](const Asked& asked) {
    if (asked.name == "www.example.com") {
      return with({test::dns::cname("www.example.com", "a.example.net"),
                   test::dns::cname("a.example.net", "b.example.org")});
    }
    if (asked.name == "b.example.org") return allows(asked);
    return verdict(3);
  }});
  const auto found = scene.look_up("www.example.com");
  REQUIRE(found);
  CHECK(found->aliases == Names{"a.example.net", "b.example.org"});
  CHECK(found->owner == "b.example.org");
  CHECK(found->records.size() == 1);
  CHECK(scene.asked().size() == 2);
}

TEST_CASE("an alias of a name that does not exist has no records") {
  Scene scene({[](const Asked& asked) {
    Reply reply = with({test::dns::cname(asked.name, "gone.example.net")});
    reply.rcode = 3;
    return reply;
  }});
  const auto found = scene.look_up("www.example.com");
  REQUIRE(found);
  CHECK_FALSE(found->exists);
  CHECK(found->records.empty());
  CHECK(scene.asked().size() == 1);
}

TEST_CASE("eight CNAMEs are followed and nine are not, and a loop ends") {
  const auto length = GENERATE(8, 9, 0);
  Scene scene({[length](const Asked& asked) {
    const int number = std::atoi(asked.name.c_str());
    if (length > 0 && number == length) return allows(asked);
    const int next = length == 0 ? 1 - number : number + 1;
    return with({test::dns::cname(asked.name, std::to_string(next) + ".example.com")});
  }});
  const auto found = scene.look_up("0.example.com");
  CHECK(static_cast<bool>(found) == (length == 8));
  if (!found) CHECK(found.error().kind == ErrorKind::protocol);
}

TEST_CASE("a CNAME that leads to the root is a failure of the name, at any place on the way") {
  const bool at_once = GENERATE(true, false);
  Scene scene({[at_once](const Asked&) {
    if (at_once) return with({test::dns::cname("a.example", "")});
    return with({test::dns::cname("a.example", "b.example"), test::dns::cname("b.example", "")});
  }});
  const auto found = scene.look_up("a.example");
  REQUIRE(!found);
  CHECK(found.error().kind == ErrorKind::protocol);
  CHECK(found.error().context.find("leads to no name") != std::string::npos);
}

TEST_CASE("records of another name in the answer are not taken") {
  Scene scene({[](const Asked&) {
    return with({test::dns::caa("evil.example", "issue", ";"),
                 test::dns::cname("evil.example", "more.evil.example")});
  }});
  const auto found = scene.look_up("www.example.com");
  REQUIRE(found);
  CHECK(found->records.empty());
  CHECK(found->aliases.empty());
}

TEST_CASE("what is no name is refused without a question") {
  Scene scene({allows});
  const auto found = scene.look_up("a..b");
  REQUIRE_FALSE(found);
  CHECK(found.error().kind == ErrorKind::invalid);
  CHECK(scene.asked().empty());
}

TEST_CASE("more than 64 questions at a time are refused") {
  Scene scene({[](const Asked&) { return silence(); }});
  size_t refused = 0;
  size_t ended = 0;
  for (int i = 0; i < 70; ++i) {
    boost::asio::co_spawn(
        scene.control, scene.resolver->look_up("example.com", Type::caa, Monotonic::now() + 100ms),
        [&](std::exception_ptr, const Result<Lookup>& found) {
          ++ended;
          if (!found && found.error().kind == ErrorKind::limit) ++refused;
        });
  }
  while (ended < 70) scene.control.run_one();
  CHECK(refused == 6);
}

TEST_CASE("a resolv.conf names its servers as glibc reads it") {
  const auto spoken_servers = [](std::string_view text) {
    Names result;
    for (const auto& server : servers_of(text)) result.push_back(spoken(server));
    return result;
  };
  CHECK(spoken_servers("# nameserver 9.9.9.9\nsearch example.com\nnameserver 10.0.0.53\n"
                       "nameserver\t2001:db8::53 # office\noptions ndots:5\n") ==
        Names{"10.0.0.53", "2001:db8::53"});
  CHECK(spoken_servers("nameserver 1.1.1.1\nnameserver 2.2.2.2\nnameserver 3.3.3.3\n"
                       "nameserver 4.4.4.4") == Names{"1.1.1.1", "2.2.2.2", "3.3.3.3"});
  CHECK(spoken_servers("nameserver 1.1.1.1\r\n") == Names{"1.1.1.1"});
  for (const auto* text : {"", "nameserver", "nameserver \n", "nameserver dns.example\n",
                           "nameserver1.1.1.1\n", " nameserver 1.1.1.1\n", "\n\n\n"}) {
    CAPTURE(text);
    CHECK(spoken_servers(text) == Names{"127.0.0.1"});
  }
  config::NameServer other;
  other.address = boost::asio::ip::make_address("::1");
  other.port = 5353;
  CHECK(spoken(other) == "[::1]:5353");
}

TEST_CASE("a look at a name gathers its addresses, aliases, zone, name servers and CAA") {
  Scene scene({[](const Asked& asked) {
    Reply none;
    none.authority = {test::dns::soa("example.com")};
    if (asked.name == "www.example.com" && (asked.type == 1 || asked.type == 28)) {
      return with({test::dns::cname(asked.name, "cdn.example.net"),
                   asked.type == 1
                       ? test::dns::record("cdn.example.net", 1, std::string("\xc0\0\2\1", 4))
                       : test::dns::record("cdn.example.net", 28, std::string(15, '\0') + '\1')});
    }
    if (asked.name == "example.com" && asked.type == 2)
      return with({test::dns::ns("example.com", "ns1.example.com")});
    if (asked.name == "example.com" && asked.type == 257) return allows(asked);
    return none;
  }});
  const auto look = await(scene.control, look_at(*scene.resolver, "*.www.example.com", 10s));
  CHECK(look.name == "www.example.com");
  CHECK(look.aliases == Names{"cdn.example.net"});
  CHECK(look.ipv4 == Names{"192.0.2.1"});
  CHECK(look.ipv6 == Names{"::1"});
  CHECK(look.zone == "example.com");
  CHECK(look.name_servers == Names{"ns1.example.com"});
  REQUIRE(look.caa.size() == 1);
  CHECK(look.caa_owner == "example.com");
  CHECK(look.problems.empty());
}

TEST_CASE("what a look cannot find out is said, each in a sentence") {
  Scene scene({[](const Asked& asked) { return asked.type == 28 ? Reply() : verdict(2); }});
  const auto look = await(scene.control, look_at(*scene.resolver, "www.example.com", 10s));
  REQUIRE(look.problems.size() == 3);
  CHECK(look.problems[0].starts_with("the A records of www.example.com: SERVFAIL from 127.0.0.1"));
  CHECK(look.caa.empty());
  CHECK(look.zone.empty());
}

}  // namespace gatehouse::acme::dns
