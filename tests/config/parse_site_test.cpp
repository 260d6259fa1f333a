#include "config/parse_site.hpp"

#include <catch2/catch.hpp>

#include "tests/config/loaded.hpp"

namespace gatehouse::config {

namespace {

TEST_CASE("every key of a site reaches the snapshot") {
  const Folder folder;
  const auto certificate = folder.write("c.pem", "x");
  const auto key = folder.write("k.pem", "x");
  const auto snapshot = loaded(
      "[[site]]\nhosts = ['Shop.example.com', '*.shop.example.com']\nupstream = "
      "'https://10.0.0.7'\n"
      "certificates = 'auto'\ncertificate = '" +
      certificate + "'\nkey = '" + key +
      "'\n"
      "fallback_certificate = '" +
      certificate + "'\nfallback_key = '" + key +
      "'\n"
      "redirect_http = false\nhsts = '365d'\ntls_min = '1.3'\n"
      "access = { allow = ['10.0.0.0/8'], deny = ['10.1.0.0/16', '::1'] }\n"
      "request_headers = { set = { X-B = 'b', X-A = 'a' }, add = { X-C = 'c' }, remove = ['X-D'] "
      "}\n"
      "response_headers = { add = { Set-Cookie = ['a=1', 'b=2'] } }\n"
      "client_ca = ''\nbasic_auth = ''\nauth = ''\nauth_headers = []\npassthrough = false\n"
      "rate_limit = ''\ncompress = false\n");
  const auto& one = snapshot->sites.at(0);
  CHECK(one.hosts[0].text == "shop.example.com");
  CHECK(one.hosts[1].text == "*.shop.example.com");
  CHECK(one.certificates == CertificateMode::automatic);
  CHECK(one.certificate == certificate);
  CHECK(one.key == key);
  CHECK(one.fallback_certificate == certificate);
  CHECK(one.fallback_key == key);
  CHECK_FALSE(one.redirect_http);
  CHECK(one.hsts == Duration(std::chrono::hours(24 * 365)));
  CHECK(one.tls_min == TlsVersion::tls13);
  CHECK(one.access_allow.size() == 1);
  CHECK(one.access_deny.size() == 2);
  using Fields = std::vector<std::pair<std::string, std::string>>;
  CHECK(one.request_fields.set == Fields{{"X-B", "b"}, {"X-A", "a"}});
  CHECK(one.request_fields.add == Fields{{"X-C", "c"}});
  CHECK(one.request_fields.remove == Lines{"X-D"});
  CHECK(one.response_fields.add == Fields{{"Set-Cookie", "a=1"}, {"Set-Cookie", "b=2"}});
  CHECK(snapshot->upstreams.at("https://10.0.0.7").protocol == UpstreamProtocol::https);
  CHECK(snapshot->upstreams.at("https://10.0.0.7").servers[0].port == 443);
}

TEST_CASE("a site's hosts are there, valid and its own") {
  CHECK(mistake("[[site]]\nupstream = 'a:1'\n") ==
        "t.toml:1:1: site[0].hosts: is missing: name the site's hosts, such as [\"example.com\"]");
  CHECK(mistake("[[site]]\nhosts = []\nupstream = 'a:1'\n").find("is empty: name at least one") !=
        std::string::npos);
  CHECK(
      mistake("[[site]]\nhosts = 'a.com'\nupstream = 'a:1'\n").find("expected a list of strings") !=
      std::string::npos);
  CHECK(mistake("[[site]]\nhosts = ['a.com', 'b.com', 'A.com']\nupstream = 'a:1'\n") ==
        "t.toml:2:28: site[0].hosts: 'a.com' belongs to site[0] already, at t.toml:2: a host has "
        "one site");
  CHECK(mistake(site + "[[site]]\nhosts = ['EXAMPLE.com']\nupstream = 'a:1'\n") ==
        "t.toml:5:10: site[1].hosts: 'example.com' belongs to site[0] already, at t.toml:2: a host "
        "has one site");
  loaded(
      "[on_demand]\nallow = ['*']\n[[site]]\nhosts = ['*.a.com']\nupstream = 'a:1'\n"
      "certificates = 'on_demand'\n[[site]]\nhosts = ['b.a.com']\nupstream = 'a:1'\n");
}

TEST_CASE("an address is a host like another where its CA may certify it") {
  const std::string hosts =
      "[[site]]\nhosts = ['8.8.8.8', '[2606:4700::1111]']\nupstream = 'a:1'\n";
  const auto snapshot = loaded(hosts);
  const auto& [v4, v6] = std::tie(snapshot->sites[0].hosts[0], snapshot->sites[0].hosts[1]);
  CHECK(v4.is_address());
  CHECK(v4.name() == "8.8.8.8");
  CHECK(v6.is_address());
  CHECK(v6.name() == "2606:4700::1111");
  CHECK(v6.matches("[2606:4700::1111]"));
  CHECK(v6.matches("2606:4700::1111"));
  CHECK_FALSE(HostGlob{"example.com"}.is_address());
  CHECK_FALSE(HostGlob{"*"}.is_address());
  CHECK(HostGlob{"*.example.com"}.name() == "*.example.com");
  // A CA of one's own may certify any.
  loaded(
      "[acme]\nca = ['own']\n[ca.own]\ndirectory = 'https://ca/'\n[[site]]\n"
      "hosts = ['10.0.0.1', '[::1]']\nupstream = 'a:1'\n");
}

TEST_CASE("hosts that no CA certifies automatically are refused with the way out") {
  const auto refused = [](const std::string& host) {
    return mistake("[[site]]\nhosts = ['" + host + "']\nupstream = 'a:1'\n");
  };
  CHECK(refused("*").find("stands for any host: write certificates = \"on_demand\"") !=
        std::string::npos);
  CHECK(refused("*.a.com") ==
        "t.toml:2:10: site[0].hosts: '*.a.com' is a wildcard, which needs dns-01, not supported in "
        "this version: use certificates = \"on_demand\", or the site's own certificate and key");
  for (const auto* address :
       {"10.0.0.1", "127.0.0.1", "172.31.0.1", "192.168.1.1", "169.254.1.1", "100.100.0.1",
        "0.0.0.0", "224.0.0.1", "[::1]", "[fe80::1]", "[fd00::1]", "[::ffff:8.8.8.8]"}) {
    CHECK(refused(address).find("is an address of a private network") != std::string::npos);
  }
  CHECK(refused("a_b.example.com").find("underscore") != std::string::npos);
  CHECK(refused("localhost").find("one label") != std::string::npos);

  const Folder folder;
  const auto file = folder.write("x.pem", "x");
  const std::string hosts =
      "[[site]]\nhosts = ['*', '*.a.com', '10.0.0.1', 'a_b.c.d', 'localhost']\nupstream = 'a:1'\n";
  for (const auto* mode : {"certificates = 'off'\n", "certificates = 'internal'\n"}) {
    loaded(hosts + mode);
  }
  loaded(hosts + "certificate = '" + file + "'\nkey = '" + file + "'\n");
  loaded("[on_demand]\nallow = ['*']\n" + hosts + "certificates = 'on_demand'\n");
  loaded("[acme]\nca = ['internal']\n" + hosts);
  loaded(
      "[acme]\nca = ['own']\n[ca.own]\ndirectory = 'https://ca/'\n[[site]]\n"
      "hosts = ['localhost']\nupstream = 'a:1'\n");
}

TEST_CASE("a certificate and its key come together and can be read") {
  const Folder folder;
  const auto file = folder.write("x.pem", "x");
  const auto refused = [](const std::string& lines) { return mistake(site + lines); };
  CHECK(refused("certificate = '" + file + "'\n") ==
        "t.toml:4:15: site[0].certificate: a certificate needs its key: write key = \"…\" beside "
        "certificate");
  CHECK(
      refused("key = '" + file + "'\n") ==
      "t.toml:4:7: site[0].key: a key needs its certificate: write certificate = \"…\" beside key");
  CHECK(refused("fallback_certificate = '" + file + "'\n").find("write fallback_key = ") !=
        std::string::npos);
  CHECK(refused("certificate = '" + file + "'\nkey = '" + folder.path("k.pem") + "'\n") ==
        "t.toml:5:7: site[0].key: cannot read " + folder.path("k.pem") +
            ": No such file or directory: create it or correct the path");
  CHECK(refused("certificate = '" + folder.path() + "'\nkey = '" + file + "'\n")
            .find("it is a folder, a file is needed") != std::string::npos);
}

TEST_CASE("a site's listeners fit its certificates") {
  const std::string off = "certificates = 'off'\n";
  loaded("[server]\nhttp = []\n" + site);  // proven by tls-alpn-01
  CHECK(mistake("[server]\nhttps = []\n" + site).find("needs an HTTPS address") !=
        std::string::npos);
  CHECK(mistake("[server]\nhttp = []\n" + site + off).find("needs a plain HTTP address") !=
        std::string::npos);
  loaded("[server]\nhttps = []\n" + site + off);
  loaded("[server]\nhttp = []\n" + site + "certificates = 'internal'\n");
  loaded("[server]\nhttp = []\n[acme]\nca = ['internal']\n" + site);
  // A wrong address is not the same as none.
  CHECK(mistakes("[server]\nhttp = ['80']\n" + site).size() == 1);
}

TEST_CASE("a site without a way for its requests is refused") {
  const std::string bare = "[[site]]\nhosts = ['a.com']\n";
  CHECK(mistake(bare).find("site[0].upstream: is missing") != std::string::npos);
  CHECK(mistake(bare + "upstream = ''\n").find("t.toml:3:12: site[0].upstream: is missing") == 0);
  CHECK(mistake(bare + "[[site.route]]\npath = '/x'\n") ==
        "t.toml:3:1: site[0].route[0]: leads nowhere: give it upstream, redirect or respond, or "
        "give the site an upstream");
  CHECK(loaded(bare + "[[site.route]]\nrespond = '204'\n")->sites[0].upstream.empty());
}

TEST_CASE("bad values of a site are refused") {
  for (const auto* line : {"certificates = 'manual'",
                           "certificates = true",
                           "redirect_http = 'yes'",
                           "hsts = '1y'",
                           "hsts = '3651d'",
                           "tls_min = '1.1'",
                           "tls_min = 1.2",
                           "tls_min = '1.4'",
                           "access = []",
                           "access = { alow = [] }",
                           "access = { allow = ['x'] }",
                           "access = { deny = ['10.0.0.1/8'] }",
                           "request_headers = { set = { 'a b' = 'c' } }",
                           "request_headers = { set = { X = 1 } }",
                           "request_headers = { set = { X = ['a'] } }",
                           "request_headers = { set = { X = \"a\\nb\" } }",
                           "request_headers = { set = { X = ' a' } }",
                           "request_headers = { add = { X = \"a\\u0000\" } }",
                           "request_headers = { set = { Host = 'a' } }",
                           "request_headers = { remove = ['Content-Length'] }",
                           "response_headers = { set = { transfer-encoding = 'chunked' } }",
                           "response_headers = { remove = [1] }",
                           "response_headers = { replace = {} }",
                           "response_headers = 'x'",
                           "upstream_ = 'x'",
                           "route = 'x'",
                           "route = [1]"}) {
    INFO(line);
    CHECK(mistakes(site + line + "\n").size() == 1);
  }
}

TEST_CASE("what later versions will know of a site is refused as such") {
  for (const auto* line :
       {"client_ca = 'ca.pem'", "basic_auth = 'htpasswd'", "auth = 'http://auth:9000/check'",
        "auth_headers = ['X-User']", "passthrough = true", "rate_limit = '100/s burst 200'",
        "compress = true"}) {
    INFO(line);
    CHECK(mistake(site + line + "\n").find("not supported in this version") != std::string::npos);
  }
}

}  // namespace

}  // namespace gatehouse::config
