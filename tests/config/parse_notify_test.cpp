#include "config/parse_notify.hpp"

#include <sys/stat.h>

#include <catch2/catch.hpp>

#include "config/describe.hpp"
#include "tests/config/loaded.hpp"

namespace gatehouse::config {

namespace {

std::string notify(const std::string& lines) {
  return "[notify]\n" + lines + "\n" + site;
}

/// "[notify]\n" + line has one mistake, which names `key` and its place and says `words`.
void check_refused(const std::string& line, const std::string& key, const std::string& words) {
  INFO(line);
  const auto text = mistake(notify(line));
  INFO(text);
  CHECK(text.starts_with("t.toml:2:"));
  CHECK(text.find(": " + key + ": ") != std::string::npos);
  CHECK(text.find(words) != std::string::npos);
}

TEST_CASE("every key of [notify] reaches the snapshot") {
  const Folder folder;
  folder.write("password", "pass word\n");
  folder.write("secret", "s3cret\n");
  folder.write("root.pem", "x");
  const auto program = folder.write("tell", "#!/bin/sh\n");
  REQUIRE(::chmod(program.c_str(), 0700) == 0);
  const std::string text = notify(
      "email = { to = ['ops@example.com'], from = 'gatehouse@example.com', "
      "server = 'smtp://Mail.example.com:2525', user = 'u@example.com', "
      "password_file = 'password', trust = 'root.pem' }\n"
      "webhook = { url = 'https://hooks.example.com/T0/secret?x=1', secret_file = 'secret', "
      "trust = 'root.pem' }\n"
      "exec = ['" +
      program + "', '--to', 'a b']\nmax_reminders = 0\nevents = ['failed', 'blocked']");
  const auto result = load(folder.write("main.toml", text));
  for (const auto& line : lines(result.diagnostics)) UNSCOPED_INFO(line);
  REQUIRE(result.snapshot);
  const auto& settings = result.snapshot->notify;
  REQUIRE(settings.email);
  CHECK(settings.email->to == Lines{"ops@example.com"});
  CHECK(settings.email->from == "gatehouse@example.com");
  CHECK(settings.email->host == "mail.example.com");
  CHECK(settings.email->port == 2525);
  CHECK_FALSE(settings.email->implicit_tls);
  CHECK(settings.email->user == "u@example.com");
  CHECK(settings.email->password == "pass word");
  CHECK(settings.email->trust == folder.path("root.pem"));
  REQUIRE(settings.webhook);
  CHECK(settings.webhook->url == "https://hooks.example.com/T0/secret?x=1");
  CHECK(settings.webhook->secret == "s3cret");
  CHECK(settings.webhook->trust == folder.path("root.pem"));
  CHECK(settings.exec == Lines{program, "--to", "a b"});
  CHECK(settings.max_reminders == 0);
  CHECK(settings.events == Lines{"failed", "blocked"});

  const auto words = describe(*result.snapshot) + describe_json(*result.snapshot);
  CHECK(words.find("mail to ops@example.com by smtp://mail.example.com:2525 · webhook "
                   "https://hooks.example.com · exec " +
                   program + "\n") != std::string::npos);
  CHECK(words.find(R"("webhook":"https://hooks.example.com")") != std::string::npos);
  for (const auto* secret : {"pass word", "s3cret", "T0", "x=1"})
    CHECK(words.find(secret) == std::string::npos);
}

TEST_CASE("without [notify], or with all of it off, nobody is told") {
  for (const auto& text :
       {site, notify("email = {}\nwebhook = {}\nexec = []\nevents = []"),
        notify("email = { to = [], from = '', server = '', user = '', password_file = '' }\n"
               "webhook = { url = '', secret_file = '' }\nexec = []\nmax_reminders = 30")}) {
    const auto snapshot = loaded(text);
    CHECK_FALSE(snapshot->notify.email);
    CHECK_FALSE(snapshot->notify.webhook);
    CHECK(snapshot->notify.exec.empty());
    CHECK(snapshot->notify.events.empty());
    CHECK(snapshot->notify.max_reminders == 30);
  }
}

TEST_CASE("a mail server's scheme says how it is encrypted, and its port") {
  const auto server = [](const std::string& text) {
    return loaded(notify("email = { to = ['a@b.example'], server = '" + text + "' }"))
        ->notify.email->server();
  };
  CHECK(server("smtp://mail") == "smtp://mail:587");
  CHECK(server("smtps://mail") == "smtps://mail:465");
  CHECK(server("smtp://mail:25/") == "smtp://mail:25");
  CHECK(server("smtps://[::1]:1465") == "smtps://[::1]:1465");
  CHECK(loaded(notify("email = { to = ['a@b.example', 'c@d'], server = 'smtp://m' }"))
            ->notify.email->from == "a@b.example");
}

TEST_CASE("what is wrong with [notify] is told with its place and the way out") {
  const std::string server = "server = 'smtp://mail'";
  const auto email = [](const std::string& rest) { return "email = { " + rest + " }"; };
  check_refused(email(server), "notify.email.to", "is missing: name who is told");
  check_refused(email("to = ['a@b.c']"), "notify.email.server", "is missing");
  check_refused(email("to = 'a@b.c', " + server), "notify.email.to", "expected a list");
  for (const auto* address :
       {"ops", "@example.com", "ops@", "o ps@example.com", "ops@exam ple.com", "ops@*.example.com",
        ".ops@example.com", "o..ps@example.com", "ops@example.com,b@c.d", "öps@example.com",
        "ops@example.com\\r\\nBcc: x@y.z"}) {
    check_refused(email("to = [\"" + std::string(address) + "\"], " + server), "notify.email.to[0]",
                  "is no mail address");
  }
  check_refused(email("to = ['Ops <ops@example.com>'], " + server), "notify.email.to[0]",
                "without a name");
  check_refused(email("to = ['a@b.c'], from = 'x', " + server), "notify.email.from",
                "is no mail address");
  check_refused(email("to = ['a@b.c', 'a@b.c'], " + server), "notify.email.to[1]", "twice");
  check_refused(email("to = ['a@b.c'], server = 'mail:25'"), "notify.email.server",
                "write \"smtp://mail.example.com:587\"");
  check_refused(email("to = ['a@b.c'], server = 'https://mail'"), "notify.email.server",
                "names no mail server");
  check_refused(email("to = ['a@b.c'], server = 'smtp://'"), "notify.email.server",
                "lacks a valid host");
  check_refused(email("to = ['a@b.c'], server = 'smtp://mail:99999'"), "notify.email.server",
                "lacks a valid host");
  check_refused(email("to = ['a@b.c'], server = 'smtp://mail/x'"), "notify.email.server",
                "lacks a valid host");
  check_refused(email("to = ['a@b.c'], user = 'u', " + server), "notify.email.user",
                "add password_file");
  check_refused(email("to = ['a@b.c'], password = 'u', " + server), "notify.email.password",
                "lacks its user");
  check_refused(email("to = ['a@b.c'], user = 'u', password_file = '/none', " + server),
                "notify.email.password_file", "cannot read /none");
  check_refused(email("to = ['a@b.c'], user = \"u\\nx\", password = 'p', " + server),
                "notify.email.user", "control characters");
  check_refused(email("to = ['a@b.c'], user = 'u', password = \"p\\nq\", " + server),
                "notify.email.password", "control characters");
  check_refused(email("to = ['a@b.c'], trust = '/none', " + server), "notify.email.trust",
                "cannot read /none");
  check_refused(email("to = ['a@b.c'], sever = 'x', " + server), "notify.email.sever",
                "did you mean 'server'?");
  check_refused("mail = {}", "notify.mail", "did you mean 'email'?");
  check_refused("max_reminders = 1001", "notify.max_reminders", "use 0 to 1000");
  check_refused("max_reminders = -1", "notify.max_reminders", "use 0 to 1000");
  check_refused("events = ['faild']", "notify.events[0]", "did you mean 'failed'?");
  check_refused("events = ['everything']", "notify.events[0]", "use obtained, renewed, failed");
  check_refused("exec = '/bin/true'", "notify.exec", "expected a list");
  check_refused("exec = ['tell']", "notify.exec[0]", "is run without a shell");
  check_refused("exec = ['/none/tell']", "notify.exec[0]", "cannot be run");
  check_refused("exec = ['/tmp']", "notify.exec[0]", "it is not a file");
  check_refused("exec = ['/etc/passwd']", "notify.exec[0]", "chmod +x");
  check_refused("exec = ['/bin/true', \"a\\u0000b\"]", "notify.exec[1]", "NUL byte");
}

TEST_CASE("a webhook is encrypted unless it stays on this machine, and messages hide its path") {
  for (const auto* url : {"https://hooks.example.com/x", "http://127.0.0.1:8000/hook",
                          "http://localhost/hook", "http://[::1]:8000/", "https://10.0.0.1:8443"}) {
    CHECK(loaded(notify("webhook = { url = '" + std::string(url) + "' }"))->notify.webhook->url ==
          url);
  }
  for (const auto* url :
       {"http://hooks.example.com/T0PSECRET", "http://10.0.0.1/T0PSECRET",
        "ftp://hooks.example.com/T0PSECRET", "hooks.example.com/T0PSECRET", "https:///T0PSECRET",
        "https://u:T0PSECRET@hooks.example.com/x", "https://hooks.example.com/T0PSECRET /x",
        "https://hooks.example.com:0x/T0PSECRET", "http://localhost.example.com/T0PSECRET",
        "https://hooks.example.com/ä/T0PSECRET"}) {
    INFO(url);
    const auto text = mistake(notify("webhook = { url = '" + std::string(url) + "' }"));
    CHECK(text.find("notify.webhook.url: ") != std::string::npos);
    CHECK(text.find("T0PSECRET") == std::string::npos);
  }
  check_refused("webhook = { secret = 'x' }", "notify.webhook.url", "is missing");
  check_refused("webhook = { url = 'https://a.example/" + std::string(3000, 'x') + "' }",
                "notify.webhook.url", "longer than");
  check_refused("webhook = { url = 'https://a.example/', secret_file = '/none' }",
                "notify.webhook.secret_file", "cannot read /none");
}

}  // namespace

}  // namespace gatehouse::config
