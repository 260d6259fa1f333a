#include "config/parse_acme.hpp"

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "tests/config/loaded.hpp"

namespace gatehouse::config {

namespace {

using namespace std::chrono_literals;

TEST_CASE("every key of [acme] and [on_demand] reaches the snapshot") {
  const auto snapshot = loaded(
      "[acme]\nemail = 'ops@example.com'\nca = ['letsencrypt-staging']\n"
      "challenges = ['tls-alpn-01', 'http-01']\nkey_type = 'rsa4096'\nrenew_before = '20d'\n"
      "preferred_chain = 'ISRG Root X1'\n"
      "[on_demand]\nask = 'http://127.0.0.1:5555/allowed'\nallow = ['*.Customers.example.com']\n"
      "deny = ['Internal.customers.example.com']\n"
      "wait = '3s'\non_timeout = 'alert'\n" +
      site);
  const auto& acme = snapshot->acme;
  CHECK(acme.email == "ops@example.com");
  CHECK(acme.authorities[0].name == "letsencrypt-staging");
  CHECK(acme.authorities[0].directory == "https://acme-staging-v02.api.letsencrypt.org/directory");
  CHECK(acme.challenges == Lines{"tls-alpn-01", "http-01"});
  CHECK(acme.key_type == KeyType::rsa4096);
  CHECK(acme.renew_before == Duration(std::chrono::hours(480)));
  CHECK(acme.preferred_chain == "ISRG Root X1");
  const auto& on_demand = snapshot->on_demand;
  CHECK(on_demand.configured);
  CHECK(on_demand.ask == "http://127.0.0.1:5555/allowed");
  CHECK(on_demand.allow[0].text == "*.customers.example.com");
  CHECK(on_demand.deny[0].text == "internal.customers.example.com");
  CHECK(on_demand.wait == 3s);
  CHECK(on_demand.on_timeout == OnTimeout::alert);
  CHECK_FALSE(loaded("[acme]\nrenew_before = ''\nemail = ''\n" + site)->acme.renew_before);
}

TEST_CASE("an authority of one's own is found by its name, wherever it stands") {
  const Folder folder;
  folder.write("pki/root.pem", "x");
  folder.write("pki/hmac", "abc_-123\n");
  folder.write("pki/ca.toml",
               "[ca.my-ca]\ndirectory = 'https://ca.internal:14000/dir'\n"
               "trust = 'root.pem'\nprofile = 'short'\n"
               "staging = 'https://staging.internal/dir'\n"
               "eab = { kid = 'k1', hmac_key_file = 'hmac' }\n");
  const auto file =
      folder.write("main.toml", "import = ['pki/ca.toml']\n[acme]\nca = ['my-ca']\n" + site);
  const auto result = load(file);
  for (const auto& line : lines(result.diagnostics)) UNSCOPED_INFO(line);
  REQUIRE(result.snapshot);
  const auto& ca = result.snapshot->acme.authorities.at(0);
  CHECK(ca.name == "my-ca");
  CHECK(ca.directory == "https://ca.internal:14000/dir");
  CHECK(ca.trust == folder.path("pki/root.pem"));
  CHECK(ca.profile == "short");
  CHECK(ca.staging == "https://staging.internal/dir");
  CHECK(ca.eab_kid == "k1");
  CHECK(ca.eab_hmac_key == "abc_-123");
}

TEST_CASE("a built-in authority takes settings of its own, and a binding where it demands one") {
  CHECK(mistake("[acme]\nca = ['zerossl']\n" + site) ==
        "t.toml:2:7: acme.ca[0]: zerossl demands an account binding: get its kid and key at "
        "https://app.zerossl.com/developer (EAB Credentials), and add [ca.zerossl] with eab = { "
        "kid = \"…\", hmac_key_file = \"…\" }");
  CHECK(mistake("[acme]\nca = ['letsencrypt', 'google']\n" + site)
            .find("gcloud publicca external-account-keys create") != std::string::npos);
  const auto snapshot = loaded(
      "[acme]\nca = ['google']\n[ca.google]\n"
      "eab = { kid = 'k', hmac_key = 'abc' }\n" +
      site);
  CHECK(snapshot->acme.authorities[0].directory == "https://dv.acme-v02.api.pki.goog/directory");
  CHECK(snapshot->acme.authorities[0].eab_kid == "k");
  CHECK(snapshot->acme.authorities[0].staging.empty());
  CHECK(loaded("[acme]\nca = ['internal']\n" + site)->acme.authorities[0].directory.empty());
  CHECK(loaded("[ca.letsencrypt]\nprofile = 'shortlived'\n" + site)->acme.authorities[0].profile ==
        "shortlived");
}

TEST_CASE("a staging twin with accounts of its own has a binding of its own") {
  const std::string google =
      "[acme]\nca = ['google']\n[ca.google]\neab = { kid = 'k', hmac_key = 'abc' }\n";
  const auto twin = [](const std::string& lines) { return loaded(lines)->acme.authorities.at(0); };
  const auto built_in = twin(google + "staging_eab = { kid = 's', hmac_key = 'def' }\n" + site);
  CHECK(built_in.staging == "https://dv.acme-v02.test-api.pki.goog/directory");
  CHECK(built_in.staging_eab_kid == "s");
  CHECK(built_in.staging_eab_hmac_key == "def");
  CHECK(built_in.eab_kid == "k");
  // Without one it is not asked: it refuses production's.
  CHECK(twin(google + site).staging.empty());
  // Whoever names a twin himself knows what it accepts.
  const auto own = twin(google + "staging = 'https://twin.example/dir'\n" + site);
  CHECK(own.staging == "https://twin.example/dir");
  CHECK(own.staging_eab_kid.empty());
  CHECK(twin(site).staging == "https://acme-staging-v02.api.letsencrypt.org/directory");
  CHECK(mistake(google + "staging_eab = { kid = 's' }\n" + site).find("ca.google.staging_eab") !=
        std::string::npos);
  CHECK(mistake("[acme]\nca = ['zerossl']\n[ca.zerossl]\neab = { kid = 'k', hmac_key = 'abc' }\n"
                "staging_eab = { kid = 's', hmac_key = 'def' }\n" +
                site)
            .find("there is no staging directory") != std::string::npos);
}

TEST_CASE("the look at CAA records and its resolvers can be set") {
  const auto plain = loaded(site);
  CHECK(plain->acme.caa);
  CHECK(plain->acme.resolvers.empty());
  CHECK(plain->acme.authorities[0].caa_identities.empty());
  const auto snapshot = loaded(
      "[acme]\ncaa = false\nca = ['my-ca']\n"
      "resolvers = ['10.0.0.53', '[::1]:5353', '127.0.0.1:53']\n"
      "[ca.my-ca]\ndirectory = 'https://ca.internal/dir'\n"
      "caa_identities = ['CA.internal', 'localhost']\n" +
      site);
  const auto& acme = snapshot->acme;
  CHECK_FALSE(acme.caa);
  REQUIRE(acme.resolvers.size() == 3);
  CHECK(acme.resolvers[0].address.to_string() == "10.0.0.53");
  CHECK(acme.resolvers[0].port == 53);
  CHECK(acme.resolvers[1].address.to_string() == "::1");
  CHECK(acme.resolvers[1].port == 5353);
  CHECK(acme.authorities[0].caa_identities == Lines{"ca.internal", "localhost"});
  CHECK(loaded("[acme]\nresolvers = []\n" + site)->acme.resolvers.empty());
}

TEST_CASE("resolvers that are no addresses and identities that are no names are refused") {
  for (const auto* text : {"dns.example", "https://10.0.0.53", "unix:/run/dns.sock", "10.0.0.53:0",
                           "10.0.0.53:99999", "10.0.0", "::1:", "", "*"}) {
    CAPTURE(text);
    CHECK(mistake("[acme]\nresolvers = ['" + std::string(text) + "']\n" + site)
              .find("is no address of a DNS resolver: write one, such as \"10.0.0.53\"") !=
          std::string::npos);
  }
  CHECK(mistake("[acme]\nresolvers = ['127.0.0.1', '127.0.0.2', '127.0.0.3', '127.0.0.4', "
                "'127.0.0.5', '127.0.0.6', '127.0.0.7', '127.0.0.8', '127.0.0.9']\n" +
                site)
            .find("at most 8 are asked") != std::string::npos);
  CHECK(mistake("[acme]\nresolvers = '127.0.0.1'\n" + site).find("expected a list") !=
        std::string::npos);
  CHECK(mistake("[acme]\ncaa = 'no'\n" + site).find("acme.caa") != std::string::npos);
  for (const auto* text : {"*.example.com", "*", "10.0.0.1", "[::1]", "a b", "", ";"}) {
    CAPTURE(text);
    CHECK(mistake("[ca.letsencrypt]\ncaa_identities = ['" + std::string(text) + "']\n" + site)
              .find("is no domain name: write what the CA's CAA records hold") !=
          std::string::npos);
  }
}

TEST_CASE("bad values of [acme] are refused") {
  const auto refused = [](const std::string& line) {
    return mistake("[acme]\n" + line + "\n" + site);
  };
  for (const auto* email : {"ops", "@a", "a@", "a b@c", "a@b,c@d", "mailto:<a@b>"}) {
    CHECK(refused("email = '" + std::string(email) + "'").find("no e-mail") != std::string::npos);
  }
  CHECK(refused("ca = ['letsencrypt', 'letsencrypt']").find("name each authority once") !=
        std::string::npos);
  CHECK(refused("ca = ['letsencrypt', 'internal']").find("name it alone") != std::string::npos);
  CHECK(refused("ca = []").find("is empty") != std::string::npos);
  CHECK(refused("ca = 'letsencrypt'").find("expected a list") != std::string::npos);
  CHECK(refused("ca = ['letsencript']").find("did you mean 'letsencrypt'?") != std::string::npos);
  CHECK(refused("challenges = ['dns-01']").find("dns-01 is not supported in this version") !=
        std::string::npos);
  CHECK(refused("challenges = []").find("is empty: name http-01, tls-alpn-01 or both") !=
        std::string::npos);
  CHECK(refused("challenges = ['http-01', 'http-01']").find("twice") != std::string::npos);
  CHECK(refused("challenges = ['http-1']").find("did you mean 'http-01'?") != std::string::npos);
  CHECK(refused("key_type = 'ed25519'").find("use one of p256, p384, rsa2048, rsa4096") !=
        std::string::npos);
  CHECK(refused("renew_before = '0s'").find("out of range") != std::string::npos);
  CHECK(refused("dns = { provider = 'builtin' }").find("not supported in this version") !=
        std::string::npos);
  loaded("[acme.dns]\n" + site);
}

TEST_CASE("challenges are one, or several in any order, and fit the listeners") {
  const auto challenges = [](const std::string& lines) {
    return loaded(lines + site)->acme.challenges;
  };
  CHECK(challenges("") == Lines{"http-01", "tls-alpn-01"});
  CHECK(challenges("[acme]\nchallenges = ['tls-alpn-01']\n") == Lines{"tls-alpn-01"});
  CHECK(challenges("[acme]\nchallenges = ['http-01']\n") == Lines{"http-01"});
  CHECK(challenges("[server]\nhttp = []\n") == Lines{"tls-alpn-01"});
  CHECK(mistake("[server]\nhttp = []\n[acme]\nchallenges = ['tls-alpn-01', 'http-01']\n" + site) ==
        "t.toml:4:30: acme.challenges[1]: http-01 is answered on the plain HTTP addresses, but "
        "server.http is []: leave it out and use tls-alpn-01, or add an address that the CA "
        "reaches as port 80");
  // Where nothing is ordered, nothing needs to be proven.
  loaded("[server]\nhttp = []\n[acme]\nca = ['internal']\nchallenges = ['http-01']\n" + site);
}

TEST_CASE("a profile is required only where one is named") {
  const auto snapshot = loaded("[ca.letsencrypt]\nprofile = 'x'\nprofile_required = true\n" + site);
  CHECK(snapshot->acme.authorities[0].profile_required);
  CHECK_FALSE(
      loaded("[ca.letsencrypt]\nprofile = 'x'\n" + site)->acme.authorities[0].profile_required);
  CHECK(mistake("[ca.letsencrypt]\nprofile_required = true\n" + site)
            .find("requires a profile, but none is named") != std::string::npos);
}

TEST_CASE("several authorities are tried in the order of the list") {
  const auto snapshot = loaded(
      "[acme]\nca = ['mine', 'letsencrypt', 'zerossl']\n[ca.mine]\n"
      "directory = 'https://ca.internal/dir'\n[ca.zerossl]\neab = { kid = 'k', hmac_key = 'abc' "
      "}\n" +
      site);
  REQUIRE(snapshot->acme.authorities.size() == 3);
  CHECK(snapshot->acme.authorities[0].name == "mine");
  CHECK(snapshot->acme.authorities[1].staging ==
        "https://acme-staging-v02.api.letsencrypt.org/directory");
  CHECK(snapshot->acme.authorities[2].directory == "https://acme.zerossl.com/v2/DV90");
  CHECK(mistakes("[acme]\nca = ['letsencrypt', 'nobody']\n" + site).size() == 1);
  std::string many = "ca = [";
  std::string sections;
  for (int number = 0; number < 9; ++number) {
    many += fmt::format("'c{}',", number);
    sections += fmt::format("[ca.c{0}]\ndirectory = 'https://c{0}/'\n", number);
  }
  CHECK(mistake("[acme]\n" + many + "]\n" + sections + site).find("8 are enough") !=
        std::string::npos);
}

TEST_CASE("bad values of [ca.NAME] are refused") {
  const Folder folder;
  const auto refused = [](const std::string& lines) { return mistake(lines + "\n" + site); };
  CHECK(refused("[ca.mine]") ==
        "t.toml:1:1: ca.mine.directory: is missing: write the URL of the CA's ACME directory");
  for (const auto* url : {"http://ca/dir", "ca.internal/dir", "https://", "https://a b/",
                          "https://u@ca/dir", "https://ca:0/dir", "ftp://ca/"}) {
    INFO(url);
    CHECK(
        refused("[ca.mine]\ndirectory = '" + std::string(url) + "'").find("ca.mine.directory: ") !=
        std::string::npos);
  }
  const std::string mine = "[ca.mine]\ndirectory = 'https://ca/dir'\n";
  CHECK(refused(mine + "trust = '" + folder.path("no.pem") + "'").find("cannot read ") !=
        std::string::npos);
  CHECK(refused(mine + "eab = { kid = 'k' }").find("lacks its key") != std::string::npos);
  CHECK(refused(mine + "eab = { hmac_key = 'k' }").find("lacks its kid") != std::string::npos);
  CHECK(refused(mine + "eab = { kid = 'k', hmac_key = 'a+b=' }").find("not base64url") !=
        std::string::npos);
  CHECK(refused(mine + "eab = 'k'").find("expected a table") != std::string::npos);
  CHECK(refused("[ca.My_CA]\ndirectory = 'https://ca/dir'").find("a-z, 0-9 and -") !=
        std::string::npos);
  CHECK(refused("[ca.'']\ndirectory = 'https://ca/dir'").find("a-z, 0-9 and -") !=
        std::string::npos);
  CHECK(refused("[ca.internal]").find("is built in") != std::string::npos);
  CHECK(refused("ca = 'x'").find("expected a table") != std::string::npos);
  CHECK(refused("[ca]\nx = 1").find("expected a section [ca.NAME]") != std::string::npos);
  loaded(mine + "eab = { kid = '', hmac_key_file = '' }\nstaging = ''\ntrust = ''\n" + site);
}

TEST_CASE("on demand without someone who decides is refused, once") {
  const std::string any = "[[site]]\nhosts = ['*']\nupstream = 'a:1'\ncertificates = 'on_demand'\n";
  CHECK(mistake(any) ==
        "t.toml:4:16: site[0].certificates: is \"on_demand\", but [on_demand] is missing: add it "
        "with ask (a URL that decides) or allow (a list of hosts)");
  CHECK(mistake("[on_demand]\nwait = '1s'\n" + any)
            .find("t.toml:1:1: on_demand: needs ask or allow") == 0);
  CHECK(mistake("[on_demand]\nask = ''\nallow = []\n" + any).find("needs ask or allow") !=
        std::string::npos);
  CHECK(mistake("[on_demand]\ndeny = ['*.a.com']\n" + any).find("needs ask or allow") !=
        std::string::npos);
  loaded("[on_demand]\nallow = ['*.a.com']\n" + any);
  loaded("[on_demand]\nask = 'https://a/b?c=d'\n" + any);
}

TEST_CASE("bad values of [on_demand] are refused") {
  for (const auto* line :
       {"ask = 'ftp://a/'", "ask = '127.0.0.1:5555'", "ask = 1", "ask = 'http:///allowed'",
        "allow = ['a b']", "allow = '*'", "allow = ['*']\ndeny = ['a b']",
        "allow = ['*']\ndeny = '*'", "ask = 'http://a/'\nwait = '0s'",
        "ask = 'http://a/'\nwait = '11m'", "ask = 'http://a/'\non_timeout = 'wait'"}) {
    INFO(line);
    const auto found = mistakes("[on_demand]\n" + std::string(line) + "\n" + site);
    CHECK(found.size() == 1);
  }
}

}  // namespace

}  // namespace gatehouse::config
