#include "base/log.hpp"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/stat.h>
#include <thread>

#include <boost/json.hpp>
#include <catch2/catch.hpp>

namespace program_log = gatehouse::base::log;

namespace {

class LogFile {
 public:
  explicit LogFile(bool json = false, program_log::Level level = program_log::Level::info) {
    char pattern[] = "/tmp/gatehouse-log-XXXXXX";
    folder_ = ::mkdtemp(pattern);
    program_log::Settings settings;
    settings.level = level;
    settings.json = json;
    settings.file = path();
    REQUIRE(program_log::configure(settings) == "");
  }
  ~LogFile() {
    program_log::configure({});
    std::filesystem::remove_all(folder_);
  }
  std::string path() const { return folder_ + "/gatehouse.log"; }
  std::vector<std::string> lines() const {
    std::ifstream in(path());
    std::vector<std::string> out;
    for (std::string line; std::getline(in, line);) out.push_back(line);
    return out;
  }

 private:
  std::string folder_;
};

}  // namespace

TEST_CASE("A text line has the time, the level and the sentence") {
  LogFile file;
  program_log::warn("the site {} has no certificate \"yet\" \\", "example.com");
  const auto lines = file.lines();
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].size() > 30);
  CHECK(lines[0].substr(4, 1) == "-");
  CHECK(lines[0].substr(23, 7) == "Z warn ");
  CHECK(lines[0].ends_with("the site example.com has no certificate \"yet\" \\"));
}

TEST_CASE("A JSON line parses and keeps the sentence, whatever bytes it holds") {
  LogFile file(true);
  program_log::error("bad name {}", "\"\n\x1b\xff");
  const auto lines = file.lines();
  REQUIRE(lines.size() == 1);
  const auto value = boost::json::parse(lines[0]);
  CHECK(value.at("level").as_string() == "error");
  CHECK(value.at("message").as_string() == "bad name \"\n\x1b\xef\xbf\xbd");
}

TEST_CASE("Text of a peer cannot start a line of its own or command a terminal") {
  LogFile file;
  program_log::info("name {}", "a\n2026-01-01T00:00:00.000Z error forged\x1b[2J");
  const auto lines = file.lines();
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].find("\\n2026") != std::string::npos);
  CHECK(lines[0].find('\x1b') == std::string::npos);
}

TEST_CASE("Levels below the configured one are not written") {
  LogFile file(false, program_log::Level::warn);
  program_log::info("quiet");
  program_log::debug("quieter");
  CHECK(!program_log::enabled(program_log::Level::info));
  CHECK(program_log::enabled(program_log::Level::error));
  program_log::error("loud");
  CHECK(file.lines().size() == 1);
}

TEST_CASE("A path that cannot be opened leaves the sink in use and says why") {
  LogFile file;
  program_log::Settings settings;
  settings.file = "/proc/no-such-folder/gatehouse.log";
  settings.level = program_log::Level::error;
  const std::string problem = program_log::configure(settings);
  CHECK(problem.find("log.file /proc/no-such-folder/gatehouse.log") == 0);
  program_log::info("still here");
  CHECK(file.lines().size() == 1);
}

TEST_CASE("Configuring again after a rotation opens a new file") {
  LogFile file;
  program_log::info("first");
  std::filesystem::rename(file.path(), file.path() + ".1");
  program_log::info("second");
  CHECK(!std::filesystem::exists(file.path()));
  program_log::Settings settings;
  settings.file = file.path();
  REQUIRE(program_log::configure(settings) == "");
  program_log::info("third");
  CHECK(file.lines().size() == 1);
}

TEST_CASE("Lines of several threads are written whole") {
  LogFile file;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 200; ++i)
        program_log::info("{}", std::string(200, static_cast<char>('a' + t)));
    });
  }
  for (auto& thread : threads) thread.join();
  const auto lines = file.lines();
  CHECK(lines.size() == 800);
  for (const auto& line : lines) {
    const std::string tail = line.substr(line.size() - 200);
    REQUIRE(tail == std::string(200, tail[0]));
  }
}

TEST_CASE("A line has a bound") {
  LogFile file;
  program_log::info("{}", std::string(100'000, 'x'));
  CHECK(file.lines().at(0).size() < 9000);
}

TEST_CASE("A throttle lets one line a second through") {
  using namespace std::chrono_literals;
  program_log::Throttle throttle;
  const gatehouse::base::Monotonic::time_point start{10s};
  CHECK(throttle.allows(start));
  CHECK_FALSE(throttle.allows(start + 999ms));
  CHECK(throttle.allows(start + 1000ms));
  CHECK_FALSE(throttle.allows(start + 1001ms));
}
