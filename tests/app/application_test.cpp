#include "app/application.hpp"

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

#include <boost/json.hpp>
#include <catch2/catch.hpp>

#include "admin/client.hpp"
#include "app/commands.hpp"
#include "base/log.hpp"
#include "tests/support/scripted_server.hpp"

using namespace gatehouse;

namespace {

/// A whole gatehouse in this process, on a thread that stands for the control thread.
class Gatehouse {
 public:
  explicit Gatehouse(std::string more = "") {
    char pattern[] = "/tmp/gatehouse-app-XXXXXX";
    folder_ = ::mkdtemp(pattern);
    write(std::move(more));
  }
  ~Gatehouse() {
    if (thread_.joinable()) {
      ask("POST", "/api/stop");
      thread_.join();
    }
    base::log::configure({});
    std::filesystem::remove_all(folder_);
  }

  void write(const std::string& more) {
    // Unix sockets throughout: no port that another test might take.
    std::ofstream(config()) << fmt::format(
                                   "[server]\nhttp = [\"unix:{0}/http.sock\"]\n"
                                   "https = [\"unix:{0}/https.sock\"]\nworkers = 2\n"
                                   "storage = \"file:{0}/storage\"\n"
                                   "admin = \"unix:{0}/admin.sock\"\n"
                                   "[log]\nfile = \"{0}/log\"\naccess = \"{0}/access\"\n"
                                   "[[site]]\nhosts = [\"localhost\"]\n"
                                   "upstream = \"127.0.0.1:1\"\ncertificates = \"internal\"\n",
                                   folder_)
                            << more;
  }

  int run() {
    app::ConfigurationSource source;
    source.file = config();
    const auto loaded = source.load();
    for (const auto& mistake : loaded.diagnostics)
      std::fprintf(stderr, "%s\n", mistake.to_string().c_str());
    if (!loaded.snapshot) return 2;
    return app::Application(source, loaded.snapshot).run();
  }
  void start() {
    thread_ = std::thread([this] { status_ = run(); });
    REQUIRE(eventually([&] {
      const auto answer = ask("GET", "/healthz");
      return answer.has_value() && answer->status == 200;
    }));
  }
  int join() {
    thread_.join();
    return status_;
  }

  base::Result<admin::Answer> ask(const std::string& method, const std::string& path) const {
    return admin::Client(*admin::parse_address("unix:" + socket()), "").request(method, path);
  }
  std::string config() const { return folder_ + "/gatehouse.toml"; }
  std::string socket() const { return folder_ + "/admin.sock"; }
  std::string file(const std::string& name) const { return folder_ + "/" + name; }
  std::string log() const {
    std::ifstream in(folder_ + "/log");
    return {std::istreambuf_iterator<char>(in), {}};
  }

  template <class Condition>
  static bool eventually(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return true;
  }

 private:
  std::string folder_;
  std::thread thread_;
  int status_ = -1;
};

int run_cli(std::vector<const char*> words) {
  words.insert(words.begin(), "gatehouse");
  return app::run_command_line(static_cast<int>(words.size()), words.data());
}

}  // namespace

TEST_CASE("A gatehouse starts, says what it serves, reloads and stops") {
  Gatehouse gatehouse;
  gatehouse.start();
  CHECK(gatehouse.log().find("sites: localhost") != std::string::npos);
  CHECK(gatehouse.log().find("gatehouse 0.") != std::string::npos);
  const auto status = boost::json::parse(gatehouse.ask("GET", "/api/status")->body);
  CHECK(status.at("workers").as_int64() == 2);
  CHECK(status.at("config").as_string() == gatehouse.config());
  CHECK(gatehouse.ask("POST", "/api/reload")->status == 200);
  CHECK(gatehouse.ask("GET", "/metrics")->body.find("gatehouse_reloads_total 1\n") !=
        std::string::npos);
  CHECK(gatehouse.ask("POST", "/api/stop")->status == 202);
  CHECK(gatehouse.join() == 0);
  CHECK(!std::filesystem::exists(gatehouse.socket()));
}

TEST_CASE("A reload of a wrong file changes nothing and says why") {
  Gatehouse gatehouse;
  gatehouse.start();
  gatehouse.write("upsteam = \"x\"\n");
  const auto refused = gatehouse.ask("POST", "/api/reload");
  CHECK(refused->status == 422);
  CHECK(refused->body.find("did you mean 'upstream'") != std::string::npos);
  CHECK(gatehouse.log().find("the running configuration stays") != std::string::npos);
  CHECK(gatehouse.ask("GET", "/metrics")->body.find("gatehouse_reload_failures_total 1\n") !=
        std::string::npos);
  gatehouse.write("");
  CHECK(gatehouse.ask("POST", "/api/reload")->status == 200);
}

TEST_CASE("A reload with an ask that allows everything changes nothing and says why") {
  boost::asio::io_context io;
  std::atomic<int> status{200};
  test::ScriptedServer server(io, [&](const test::ScriptedRequest&) {
    test::ScriptedReply reply;
    reply.status = status;
    return reply;
  });
  const std::string url = server.url("/allowed");
  std::thread answering([&] { io.run(); });
  {
    Gatehouse gatehouse;
    gatehouse.start();
    const auto sites = [&] {
      return boost::json::parse(gatehouse.ask("GET", "/api/status")->body).at("sites").as_int64();
    };
    gatehouse.write(
        "[[site]]\nhosts = [\"*\"]\nupstream = \"127.0.0.1:1\"\n"
        "certificates = \"on_demand\"\n[on_demand]\nask = \"" +
        url + "\"\n");
    const auto refused = gatehouse.ask("POST", "/api/reload");
    CHECK(refused->status == 422);
    CHECK(refused->body.find("allows a made-up name") != std::string::npos);
    CHECK(gatehouse.log().find("the running configuration stays") != std::string::npos);
    CHECK(sites() == 1);
    status = 404;
    CHECK(gatehouse.ask("POST", "/api/reload")->status == 200);
    CHECK(sites() == 2);
  }
  io.stop();
  answering.join();
}

TEST_CASE("Signals reload, reopen the logs and stop") {
  Gatehouse gatehouse;
  gatehouse.start();
  ::kill(::getpid(), SIGHUP);
  CHECK(
      Gatehouse::eventually([&] { return gatehouse.log().find("reloaded") != std::string::npos; }));
  std::filesystem::rename(gatehouse.file("log"), gatehouse.file("log.1"));
  std::filesystem::rename(gatehouse.file("access"), gatehouse.file("access.1"));
  ::kill(::getpid(), SIGUSR1);
  CHECK(
      Gatehouse::eventually([&] { return gatehouse.log().find("reopened") != std::string::npos; }));
  CHECK(std::filesystem::exists(gatehouse.file("access")));
  ::kill(::getpid(), SIGTERM);
  CHECK(gatehouse.join() == 0);
}

TEST_CASE("The internal certificate is listed, and after the end from storage") {
  Gatehouse gatehouse;
  gatehouse.start();
  CHECK(Gatehouse::eventually([&] {
    return gatehouse.ask("GET", "/api/certificates")->body.find(R"("state":"active")") !=
           std::string::npos;
  }));
  CHECK(run_cli({"certs", "list", "--config", gatehouse.config().c_str(), "--json"}) == 0);
  CHECK(run_cli({"status", "--config", gatehouse.config().c_str()}) == 0);
  CHECK(run_cli({"reload", "--config", gatehouse.config().c_str()}) == 0);
  CHECK(run_cli({"stop", "--config", gatehouse.config().c_str()}) == 0);
  CHECK(gatehouse.join() == 0);
  CHECK(run_cli({"certs", "list", "--config", gatehouse.config().c_str()}) == 0);
  CHECK(run_cli({"status", "--config", gatehouse.config().c_str()}) == 1);
}

TEST_CASE("A second gatehouse on the same folder does not start") {
  Gatehouse gatehouse;
  gatehouse.start();
  CHECK(gatehouse.run() == 1);
  CHECK(gatehouse.ask("GET", "/healthz")->status == 200);
}

TEST_CASE("A start that fails leaves no socket behind and exits 1") {
  Gatehouse gatehouse;
  std::ofstream(gatehouse.file("storage")) << "a file where a folder should be";
  CHECK(gatehouse.run() == 1);
  CHECK(!std::filesystem::exists(gatehouse.socket()));
}

TEST_CASE("Wrong usage exits 2, help and versions 0") {
  CHECK(run_cli({}) == 2);
  CHECK(run_cli({"fly"}) == 2);
  CHECK(run_cli({"run", "--fast"}) == 2);
  CHECK(run_cli({"run", "--config", "/no/such/file.toml"}) == 2);
  CHECK(run_cli({"check", "--config", "/no/such/file.toml"}) == 2);
  CHECK(run_cli({"proxy", "--from", "a.example"}) == 2);
  CHECK(run_cli({"certs"}) == 2);
  CHECK(run_cli({"status", "--admin", "nonsense"}) == 2);
  CHECK(run_cli({"--help"}) == 0);
  CHECK(run_cli({"run", "--help"}) == 0);
  CHECK(run_cli({"version"}) == 0);
  CHECK(run_cli({"version", "--json"}) == 0);
}

TEST_CASE("check exits by what it finds") {
  Gatehouse gatehouse;
  CHECK(run_cli({"check", "--config", gatehouse.config().c_str()}) == 0);
  CHECK(run_cli({"check", "--config", gatehouse.config().c_str(), "--json"}) == 0);
  gatehouse.write("nonsense = 1\n");
  CHECK(run_cli({"check", "--config", gatehouse.config().c_str()}) == 2);
}
