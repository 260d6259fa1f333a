#include "config/parse_server.hpp"

#include <catch2/catch.hpp>

#include "tests/config/loaded.hpp"

namespace gatehouse::config {

namespace {

using namespace std::chrono_literals;

TEST_CASE("every key of [server] reaches the snapshot") {
  const Folder folder;
  const auto token = folder.write("token", "s3cret\n");
  const auto snapshot = loaded(
      "[server]\nhttp = ['127.0.0.1:80', 'unix:/run/http.sock']\nhttps = ['[::1]:443']\n"
      "workers = 4\nuser = 'gatehouse'\nstorage = 'file:/srv/gate/../house'\n"
      "admin = '127.0.0.1:2019'\nadmin_token_file = '" +
      token +
      "'\n"
      "trusted_proxies = ['10.0.0.0/8', '::1']\ngrace = '5s'\nh2c = true\n"
      "proxy_protocol = true\n" +
      site);
  const auto& server = snapshot->server;
  REQUIRE(server.http.size() == 2);
  CHECK(server.http[1].unix_path == "/run/http.sock");
  CHECK(server.https[0].host == "::1");
  CHECK(server.workers == 4);
  CHECK(server.user == "gatehouse");
  CHECK(server.storage == "/srv/house");
  CHECK(server.admin == "127.0.0.1:2019");
  CHECK(server.admin_token == "s3cret");
  CHECK(server.trusted_proxies.size() == 2);
  CHECK(server.proxy_protocol);
  CHECK(server.grace == 5s);
}

TEST_CASE("a token is read from its file or given as a secret, once") {
  const Folder folder;
  const auto token = folder.write("token", "abc\r\n");
  const auto admin = "[server]\nadmin = '127.0.0.1:2019'\n";
  CHECK(loaded(admin + ("admin_token_file = 'file:" + token + "'\n") + site)->server.admin_token ==
        "abc");
  CHECK(loaded(admin + ("admin_token = 'file:" + token + "'\n") + site)->server.admin_token ==
        "abc");
  const Variable variable("GATEHOUSE_TEST_TOKEN", "from-env");
  CHECK(loaded(admin + ("admin_token = '${GATEHOUSE_TEST_TOKEN}'\n" + site))->server.admin_token ==
        "from-env");
  CHECK(mistake(admin + ("admin_token = 'x'\nadmin_token_file = '" + token + "'\n") + site)
            .find("keep one of the two") != std::string::npos);
}

TEST_CASE("an admin address over TCP needs a token that can be read") {
  const Folder folder;
  CHECK(mistake("[server]\nadmin = '127.0.0.1:2019'\n" + site) ==
        "t.toml:2:9: server.admin: an admin address over TCP needs admin_token_file: name a file "
        "with a secret token, or use \"unix:/run/gatehouse/admin.sock\"");
  const auto with = [&](const std::string& file) {
    return mistake("[server]\nadmin = '127.0.0.1:2019'\nadmin_token_file = '" + file + "'\n" +
                   site);
  };
  CHECK(with(folder.path("none")) ==
        "t.toml:3:20: server.admin_token_file: cannot read " + folder.path("none") +
            ": No such file or directory: create it or correct the path");
  CHECK(with(folder.write("empty", "\n")).find("is empty: write the secret") != std::string::npos);
  CHECK(with(folder.write("two", "a\nb\n")).find("control characters") != std::string::npos);
  CHECK(with(folder.write("long", std::string(70'000, 'x'))).find("larger than 64 KiB") !=
        std::string::npos);
  CHECK(with(folder.path()).find("it is a folder") != std::string::npos);
  CHECK(with("file:").find("lacks its path") != std::string::npos);
}

TEST_CASE("an address may be listened on once") {
  CHECK(mistake("[server]\nhttp = [':80', ':80']\n" + site) ==
        "t.toml:2:16: server.http[1]: ':80' is taken by server.http[0] already: choose another "
        "address");
  CHECK(mistake("[server]\nhttps = [':80']\n" + site) ==
        "t.toml:2:10: server.https[0]: ':80' is taken by server.http already: choose another "
        "address");
  CHECK(mistake("[server]\nhttp = ['[::]:443']\n" + site).find("taken by") != std::string::npos);
  CHECK(mistake("[server]\nhttp = ['unix:/run/gatehouse/admin.sock']\n"
                "admin = 'unix:/run/gatehouse/admin.sock'\n" +
                site)
            .find("server.admin: ") != std::string::npos);
  loaded("[server]\nhttp = ['127.0.0.1:80', '127.0.0.2:80', '[::1]:80']\n" + site);
}

TEST_CASE("bad values of [server] are refused") {
  const auto refused = [](const std::string& line) {
    return mistake("[server]\n" + line + "\n" + site);
  };
  CHECK(refused("http = ':80'").find("expected a list of strings") != std::string::npos);
  CHECK(refused("http = [80]").find("server.http[0]: expected a string") != std::string::npos);
  CHECK(refused("http = ['80']").find("no address to listen on") != std::string::npos);
  CHECK(refused("https = [':70000']").find("'70000' is no port") != std::string::npos);
  CHECK(refused("workers = -1").find("use 0 to 1024") != std::string::npos);
  CHECK(refused("workers = 1.5").find("expected a whole number") != std::string::npos);
  CHECK(refused("grace = '2d'").find("use 0s to 1d") != std::string::npos);
  CHECK(refused("grace = 30").find("expected a duration in quotes, such as \"10s\"") !=
        std::string::npos);
  CHECK(refused("trusted_proxies = ['all']").find("is no network") != std::string::npos);
  CHECK(refused("storage = '/var/lib/x'").find("write \"file:/var/lib/x\"") != std::string::npos);
  CHECK(refused("storage = 'file:'").find("is no storage") != std::string::npos);
  CHECK(refused("storage = ''").find("is no storage") != std::string::npos);
  CHECK(refused("admin = ''").find("no address to listen on") != std::string::npos);
  CHECK(refused("admin = 'unix:x'").find("absolute path") != std::string::npos);
}

TEST_CASE("the PROXY protocol needs somebody to be believed") {
  CHECK(mistake("[server]\nproxy_protocol = true\n" + site) ==
        "t.toml:2:18: server.proxy_protocol: believes nobody without trusted_proxies: name the "
        "networks of the proxies, such as [\"10.0.0.0/8\"]");
  CHECK_FALSE(loaded("[server]\nproxy_protocol = false\n" + site)->server.proxy_protocol);
  CHECK_FALSE(loaded(site)->server.proxy_protocol);
  CHECK(loaded("[server]\nproxy_protocol = true\ntrusted_proxies = ['::1']\n" + site)
            ->server.proxy_protocol);
  CHECK(loaded("[server]\nproxy_protocol = true\nhttps = ['unix:/run/gate.sock']\n" + site)
            ->server.proxy_protocol);
  CHECK(mistake("[server]\nproxy_protocol = 'v1'\n" + site).find("expected true or false") !=
        std::string::npos);
}

TEST_CASE("what later versions will know is refused as such") {
  const auto refused = [](const std::string& line) {
    return mistake("[server]\n" + line + "\n" + site);
  };
  for (const auto* line : {"storage = 'etcd:http://h1:2379/p'", "storage = 'redis://h:6379/0'"}) {
    CHECK(refused(line).find("not supported in this version") != std::string::npos);
  }
}

TEST_CASE("every key of [log], [timeouts] and [limits] reaches the snapshot") {
  const auto snapshot = loaded(
      "[log]\nlevel = 'debug'\nformat = 'json'\nfile = 'stdout'\naccess = '/var/log/access.log'\n"
      "access_format = 'common'\nredact = ['X-Key']\n"
      "[timeouts]\nhandshake = '1s'\nrequest_header = '2s'\nidle = '3s'\nbody = '4s'\n"
      "upstream_connect = '5s'\nupstream_response = '6s'\nupstream_idle = '7s'\n"
      "tunnel = '8s'\n"
      "[limits]\nconnections = 10\nconnections_per_client = 11\nrequest_header = '12KiB'\n"
      "request_fields = 13\nrequest_body = '14MiB'\nhttp2_streams = 15\n"
      "request_body_rate = '16B'\n" +
      site);
  CHECK(snapshot->limits.http2_streams == 15);
  CHECK(snapshot->log.level == LogLevel::debug);
  CHECK(snapshot->log.json);
  CHECK(snapshot->log.file == "stdout");
  CHECK(snapshot->log.access == "/var/log/access.log");
  CHECK(snapshot->log.access_format == AccessFormat::common);
  CHECK(snapshot->log.redact == Lines{"x-key"});
  const auto& timeouts = snapshot->timeouts;
  CHECK(timeouts.handshake == 1s);
  CHECK(timeouts.request_header == 2s);
  CHECK(timeouts.idle == 3s);
  CHECK(timeouts.body == 4s);
  CHECK(timeouts.upstream_connect == 5s);
  CHECK(timeouts.upstream_response == 6s);
  CHECK(timeouts.upstream_idle == 7s);
  CHECK(timeouts.tunnel == 8s);
  const auto& limits = snapshot->limits;
  CHECK(limits.connections == 10);
  CHECK(limits.connections_per_client == 11);
  CHECK(limits.request_header == 12 * 1024);
  CHECK(limits.request_fields == 13);
  CHECK(limits.request_body == 14 * 1024 * 1024);
  CHECK(limits.request_body_rate == 16);
}

TEST_CASE("a timeout of zero, a limit of nothing and an odd log target are refused") {
  for (const auto* text :
       {"[timeouts]\nidle = '0s'\n", "[timeouts]\nhandshake = '0'\n", "[timeouts]\nbody = '31d'\n",
        "[limits]\nconnections = 0\n", "[limits]\nrequest_fields = 7\n",
        "[limits]\nrequest_header = '1MB'\n", "[limits]\nrequest_header = '512B'\n",
        "[limits]\nrequest_header = '2MiB'\n", "[limits]\nrequest_body = -1\n",
        "[limits]\nrequest_body = true\n", "[limits]\nrequest_body_rate = '2MiB'\n",
        "[limits]\nhttp2_streams = 'x'\n", "[log]\nlevel = 'warning'\n", "[log]\nformat = 'xml'\n",
        "[log]\nfile = 'off'\n", "[log]\nfile = ''\n", "[log]\naccess = 'sdtout'\n",
        "[log]\nredact = ['a b']\n", "[log]\naccess_format = 'combined'\n"}) {
    INFO(text);
    CHECK(mistakes(text + site).size() == 1);
  }
  CHECK(mistake("[log]\nlevel = 'warning'\n" + site) ==
        "t.toml:2:9: log.level: 'warning' is unknown: use one of trace, debug, info, warn, error");
  CHECK(loaded("[limits]\nrequest_body = '0'\n" + site)->limits.request_body == 0);
  CHECK(loaded("[limits]\nrequest_body = 1048576\n" + site)->limits.request_body == 1048576);
}

TEST_CASE("relative paths start at the file that holds them") {
  const Folder folder;
  folder.write("conf/log.toml", "[log]\naccess = 'access.log'\nfile = '../own.log'\n");
  const auto file = folder.write("main.toml",
                                 "import = ['conf/log.toml']\n"
                                 "[server]\nstorage = 'file:data'\n" +
                                     site);
  const auto result = load(file);
  REQUIRE(result.snapshot);
  CHECK(result.snapshot->log.access == folder.path("conf/access.log"));
  CHECK(result.snapshot->log.file == folder.path("own.log"));
  CHECK(result.snapshot->server.storage == folder.path("data"));
}

}  // namespace

}  // namespace gatehouse::config
