#include "config/load.hpp"

#include <chrono>
#include <filesystem>
#include <random>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "config/findings.hpp"
#include "tests/config/loaded.hpp"

namespace gatehouse::config {

namespace {

TEST_CASE("the smallest file gets every default") {
  const auto snapshot = loaded(site);
  const auto& server = snapshot->server;
  REQUIRE(server.http.size() == 1);
  CHECK(server.http[0].text == ":80");
  CHECK(server.http[0].port == 80);
  REQUIRE(server.https.size() == 1);
  CHECK(server.https[0].port == 443);
  CHECK(server.storage == "/var/lib/gatehouse");
  CHECK(server.admin == "unix:/run/gatehouse/admin.sock");
  REQUIRE(snapshot->acme.authorities.size() == 1);
  CHECK(snapshot->acme.authorities[0].directory ==
        "https://acme-v02.api.letsencrypt.org/directory");
  CHECK(snapshot->sites[0].upstream == "localhost:8080");
  CHECK(snapshot->sites[0].place.line == 1);
  REQUIRE(snapshot->upstreams.contains("localhost:8080"));
  CHECK(snapshot->upstreams.at("localhost:8080").servers[0].port == 8080);
  CHECK(snapshot->files == Lines{"t.toml"});
}

TEST_CASE("every mistake is told at once, in the order of the file") {
  CHECK(
      mistakes("[server]\n"
               "htps = [':443']\n"
               "workers = 'two'\n"
               "[timeouts]\n"
               "idle = '75'\n"
               "[[site]]\n"
               "hosts = ['example.com', 'exa mple.com']\n"
               "upsteam = 'localhost:8080'\n"
               "redirect_http = 1\n"
               "[nothing]\n") ==
      Lines{"t.toml:2:1: server.htps: unknown key, did you mean 'https'?",
            "t.toml:3:11: server.workers: expected a whole number, without quotes, found a string",
            "t.toml:5:8: timeouts.idle: the duration '75' lacks a unit: write a number and a "
            "unit: 500ms, 10s, 5m, 24h, 365d",
            "t.toml:6:1: site[0].upstream: is missing: write where requests go, such as "
            "\"localhost:8080\"",
            "t.toml:7:25: site[0].hosts[1]: the host 'exa mple.com' is no host name",
            "t.toml:8:1: site[0].upsteam: unknown key, did you mean 'upstream'?",
            "t.toml:9:17: site[0].redirect_http: expected true or false, without quotes, found a "
            "whole number",
            "t.toml:10:2: nothing: unknown key"});
}

TEST_CASE("text that is no TOML is one mistake with its place") {
  CHECK(mistake("[[site]]\nhosts = [\n").find("t.toml:") == 0);
  CHECK(mistake("a = ?").substr(0, 28) == "t.toml:1:5: not valid TOML: ");
}

TEST_CASE("a configuration without a site is refused") {
  const auto* wanted =
      "t.toml:1:1: site: there is none: add [[site]] with hosts = [\"example.com\"] and upstream = "
      "\"localhost:8080\"";
  CHECK(mistakes("") == Lines{wanted});
  CHECK(mistakes("# nothing\n[server]\nworkers = 1\n") == Lines{wanted});
  CHECK(mistake("site = []").find("there is none") != std::string::npos);
  CHECK(mistakes("site = 'x'") ==
        Lines{"t.toml:1:8: site: expected sections written as [[site]], found a string"});
  CHECK(mistakes("[site]\nhosts = ['a.com']\n") ==
        Lines{"t.toml:1:1: site: expected sections written as [[site]], found a table"});
}

TEST_CASE("more than a thousand mistakes are counted, not listed") {
  std::string text = site;
  for (int i = 0; i < 1500; ++i) text += "k" + std::to_string(i) + " = 1\n";
  const auto found = mistakes(text);
  REQUIRE(found.size() == Findings::diagnostics_max + 1);
  CHECK(found.back() == "t.toml: 500 more mistakes are not shown");
}

TEST_CASE("a file is read with what it imports") {
  const Folder folder;
  folder.write("sites/b.toml", "[[site]]\nhosts = ['b.com']\nupstream = 'shop'\n");
  folder.write("sites/a.toml",
               "import = ['../more/c.toml']\n[[site]]\nhosts = ['a.com']\n"
               "upstream = 'shop'\n");
  folder.write("more/c.toml",
               "[upstream.shop]\nservers = ['10.0.0.1:80']\n[log]\nlevel = 'warn'\n");
  const auto file = folder.write("main.toml", "import = ['sites/*.toml', 'none/*.toml']\n" + site);
  const auto result = load(file);
  for (const auto& line : lines(result.diagnostics)) UNSCOPED_INFO(line);
  REQUIRE(result.snapshot);
  REQUIRE(result.snapshot->sites.size() == 3);
  CHECK(result.snapshot->sites[0].hosts[0].text == "example.com");
  CHECK(result.snapshot->sites[1].hosts[0].text == "a.com");
  CHECK(result.snapshot->sites[2].hosts[0].text == "b.com");
  CHECK(result.snapshot->sites[1].place.file == folder.path("sites/a.toml"));
  CHECK(result.snapshot->log.level == LogLevel::warn);
  CHECK(result.snapshot->files.front() == file);
  CHECK(result.snapshot->files.size() == 4);
}

TEST_CASE("mistakes in imported files carry those files' names, after the main file's") {
  const Folder folder;
  const auto a =
      folder.write("a.toml", "[[site]]\nhosts = ['a.com']\nupstream = 'x:1'\nkei = ''\n");
  const auto file = folder.write("main.toml", "import = ['a.toml']\n" + site + "kye = 1\n");
  const auto found = lines(load(file).diagnostics);
  CHECK(found == Lines{file + ":5:1: site[0].kye: unknown key, did you mean 'key'?",
                       a + ":4:1: site[0].kei: unknown key, did you mean 'key'?"});
}

TEST_CASE("imports that are missing, circular, twice or too deep are refused") {
  const Folder folder;
  SECTION("missing") {
    const auto file = folder.write("main.toml", "import = ['no.toml']\n" + site);
    CHECK(lines(load(file).diagnostics) ==
          Lines{file + ":1:11: import[0]: cannot read " + folder.path("no.toml") +
                ": No such file or directory: create it or correct the path"});
  }
  SECTION("a circle") {
    folder.write("a.toml", "import = ['main.toml']\n");
    const auto file = folder.write("main.toml", "import = ['a.toml']\n" + site);
    CHECK(lines(load(file).diagnostics) ==
          Lines{folder.path("a.toml") + ":1:11: import[0]: " + folder.path("main.toml") +
                " imports itself in a circle: take one import out"});
  }
  SECTION("itself, by another name") {
    const auto file = folder.write("main.toml", "import = ['link.toml']\n" + site);
    std::filesystem::create_symlink("main.toml", folder.path("link.toml"));
    CHECK(lines(load(file).diagnostics).front().find("in a circle") != std::string::npos);
  }
  SECTION("twice") {
    folder.write("a.toml", "");
    const auto file = folder.write("main.toml", "import = ['a.toml', '*a.toml']\n" + site);
    CHECK(lines(load(file).diagnostics).front().find("imported twice") != std::string::npos);
  }
  SECTION("a folder") {
    std::filesystem::create_directory(folder.path("sites"));
    const auto file = folder.write("main.toml", "import = ['sites']\n" + site);
    CHECK(lines(load(file).diagnostics).front().find("it is a folder") != std::string::npos);
  }
  SECTION("a pipe, which is not waited for") {
    REQUIRE(::mkfifo(folder.path("pipe.toml").c_str(), 0600) == 0);
    const auto file = folder.write("main.toml", "import = ['*pipe.toml']\n" + site);
    CHECK(lines(load(file).diagnostics).front().find("not a regular file") != std::string::npos);
  }
  SECTION("too deep") {
    for (int i = 0; i < 30; ++i) {
      folder.write(std::to_string(i) + ".toml",
                   "import = ['" + std::to_string(i + 1) + ".toml']\n");
    }
    const auto found = lines(load(folder.path("0.toml")).diagnostics);
    REQUIRE(found.size() == 1);
    CHECK(found[0].find("more than 16 files deep") != std::string::npos);
  }
  SECTION("no path") {
    const auto found = mistakes("import = ['', 1]\n" + site);
    REQUIRE(found.size() == 2);
    CHECK(found[0].find("import[0]: is no path") != std::string::npos);
    CHECK(found[1].find("import[1]: expected a string") != std::string::npos);
  }
}

TEST_CASE("an import in a folder whose name looks like a pattern is found") {
  const Folder folder;
  folder.write("a[1]*/x.toml", "[[site]]\nhosts = ['x.com']\nupstream = 'x:1'\n");
  const auto file = folder.write("a[1]*/main.toml", "import = ['x*.toml']\n" + site);
  const auto result = load(file);
  REQUIRE(result.snapshot);
  CHECK(result.snapshot->sites.size() == 2);
}

TEST_CASE("a section may stand in one file only, and a group have one definition") {
  const Folder folder;
  folder.write("a.toml",
               "[server]\nworkers = 1\n[upstream.x]\nservers = ['a:1']\n[ca.mine]\n"
               "directory = 'https://a/'\n");
  const auto file = folder.write("main.toml",
                                 "import = ['a.toml']\n[server]\n[upstream.x]\n"
                                 "servers = ['a:1']\n[ca.mine]\n"
                                 "directory = 'https://a/'\n" +
                                     site);
  const auto found = lines(load(file).diagnostics);
  const auto a = folder.path("a.toml");
  CHECK(found == Lines{a + ":1:1: server: given before, at " + file + ":2: keep one of the two",
                       a + ":3:1: upstream.x: given before, at " + file + ":3: keep one of the two",
                       a + ":5:1: ca.mine: given before, at " + file + ":5: keep one of the two"});
}

TEST_CASE("a file that cannot be read says why, and hides no false mistakes behind it") {
  const Folder folder;
  CHECK(lines(load(folder.path("none.toml")).diagnostics) ==
        Lines{folder.path("none.toml") + ": cannot read " + folder.path("none.toml") +
              ": No such file or directory: create it or correct the path"});
  CHECK(lines(load(folder.path()).diagnostics).front().find("it is a folder") != std::string::npos);
  CHECK(lines(load("").diagnostics).size() == 1);

  // The upstream and the CA might stand in the file that is broken.
  folder.write("broken.toml", "[upstream.shop\n");
  const auto file = folder.write("main.toml",
                                 "import = ['broken.toml']\n[acme]\nca = ['mine']\n"
                                 "[[site]]\nhosts = ['a.com']\nupstream = 'shop'\n");
  const auto found = lines(load(file).diagnostics);
  REQUIRE(found.size() == 1);
  CHECK(found[0].find("broken.toml:1:") != std::string::npos);
}

TEST_CASE("an unreadable file says so", "[unprivileged]") {
  if (::geteuid() == 0) return;  // root reads everything
  const Folder folder;
  const auto file = folder.write("secret.toml", site);
  REQUIRE(::chmod(file.c_str(), 0) == 0);
  CHECK(lines(load(file).diagnostics).front().find("Permission denied: let the user") !=
        std::string::npos);
}

TEST_CASE("a file over 16 MiB is refused") {
  const Folder folder;
  const auto file = folder.write("main.toml", site);
  std::filesystem::resize_file(file, 16 * 1024 * 1024 + 1);
  CHECK(lines(load(file).diagnostics).front().find("larger than 16384 KiB") != std::string::npos);
  CHECK(mistake(std::string(16 * 1024 * 1024 + 1, ' ')) == "t.toml: larger than 16 MiB");
}

TEST_CASE("the configuration file is the argument, the variable, or one of two places") {
  const Folder folder;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  {
    const Variable variable("GATEHOUSE_CONFIG", "/elsewhere.toml");
    CHECK(locate("given.toml").file == "given.toml");
    CHECK(locate(std::nullopt).file == "/elsewhere.toml");
    CHECK(locate("").problem == "--config is empty: name a configuration file");
  }
  const Variable variable("GATEHOUSE_CONFIG", nullptr);
  if (!std::filesystem::exists("/etc/gatehouse/gatehouse.toml")) {
    const auto nothing = locate(std::nullopt);
    CHECK(nothing.file.empty());
    for (const auto* place :
         {"--config", "GATEHOUSE_CONFIG", "./gatehouse.toml", "/etc/gatehouse/gatehouse.toml"}) {
      CHECK(nothing.problem.find(place) != std::string::npos);
    }
  }
  folder.write("gatehouse.toml", site);
  CHECK(locate(std::nullopt).file == "gatehouse.toml");
  std::filesystem::current_path(before);
}

TEST_CASE("a hundred thousand hosts load quickly, in one site or in as many") {
  const auto seconds = [](const std::string& text, size_t hosts) {
    const auto start = std::chrono::steady_clock::now();
    const auto snapshot = loaded(text);
    size_t count = 0;
    for (const auto& one : snapshot->sites) count += one.hosts.size();
    CHECK(count == hosts);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  std::string one = "[[site]]\nupstream = 'localhost:8080'\nhosts = [";
  std::string many;
  for (int i = 0; i < 100'000; ++i) {
    const auto host = "'host-" + std::to_string(i) + ".example.com'";
    one += host + ",";
    many += "[[site]]\nhosts = [" + host + "]\nupstream = 'localhost:8080'\n";
  }
  // Generous: sanitizers and a busy machine; quadratic work would take minutes.
  CHECK(seconds(one + "]\n", 100'000) < 20);
  CHECK(seconds(many, 100'000) < 40);
}

TEST_CASE("a hundred thousand mistakes are found quickly, too") {
  std::string text = "[[site]]\nupstream = 'shp'\nhosts = [";
  for (int i = 0; i < 100'000; ++i) text += "'same.example.com',";
  text += "]\n";
  for (int i = 0; i < 2000; ++i) {
    text += "[upstream.group-" + std::to_string(i) + "]\nservers = ['a:1']\n";
  }
  const auto start = std::chrono::steady_clock::now();
  const auto found = mistakes(text);
  CHECK(found.size() == Findings::diagnostics_max + 1);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
}

TEST_CASE("a mistake is one line, whatever the file holds") {
  for (const auto& text :
       {site + "certificate = \"/no\\nsuch\\u001b[31m\"\nkey = '/dev/null'\n",
        "import = [\"no\\nfile\"]\n" + site, site + "\"a\\nb\" = 1\n", site + "hsts = \"\\n\"\n"}) {
    const auto found = mistakes(text);
    CHECK_FALSE(found.empty());
    for (const auto& line : found) CHECK(line.find_first_of("\n\x1b") == line.npos);
  }
}

TEST_CASE("a damaged file gives a snapshot or mistakes, never both and never a crash") {
  const std::string whole =
      "[server]\nhttp = [':80', '127.0.0.1:81']\nstorage = 'file:/x'\ngrace = \"30s\"\n"
      "[limits]\nrequest_body = '10MiB'\nconnections = 100_000\n[acme]\nca = ['mine']\n"
      "[ca.mine]\ndirectory = 'https://ca.internal:14000/dir'\neab = { kid = 'k', hmac_key = 'x' "
      "}\n"
      "[on_demand]\nask = 'http://127.0.0.1:5/${HOME:-x}'\nallow = ['*.a.com']\n"
      "[[site]]\nhosts = ['shop.example.com', '*']\nupstream = 'shop'\ncertificates = 'on_demand'\n"
      "access = { allow = ['10.0.0.0/8', 'fd00::/8'] }\nrequest_headers = { set = { X-A = 'a' } }\n"
      "[[site.route]]\npath = '/api/*'\nredirect = '308 https://b.com{uri}'\n"
      "[upstream.shop]\nservers = ['[::1]:80', { address = 'b', weight = 2 }]\nretry.budget = "
      "0.5\n";
  loaded(whole);
  std::mt19937 random(20'240'607);
  const std::string alphabet = "\n\t \"'[]{}=.,:#\\$*/0-ax\xc3\xff\x01";
  for (int round = 0; round < 4000; ++round) {
    auto text = whole;
    for (auto changes = 1 + random() % 4; changes > 0; --changes) {
      const auto at = random() % text.size();
      switch (random() % 4) {
        case 0:
          text[at] = alphabet[random() % alphabet.size()];
          break;
        case 1:
          text.insert(at, 1, alphabet[random() % alphabet.size()]);
          break;
        case 2:
          text.erase(at, 1 + random() % 8);
          break;
        default:
          text.insert(at, text.substr(random() % text.size(), random() % 40));
          break;
      }
    }
    const auto result = load_text(text, "t.toml");
    if ((result.snapshot == nullptr) == result.diagnostics.empty()) FAIL(text);
    for (const auto& line : lines(result.diagnostics)) {
      if (line.find('\n') != line.npos) FAIL(line);
    }
  }
}

}  // namespace

}  // namespace gatehouse::config
