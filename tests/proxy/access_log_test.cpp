#include "proxy/access_log.hpp"

#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

#include <boost/json.hpp>
#include <catch2/catch.hpp>

using gatehouse::base::Metric;
using gatehouse::base::Metrics;
using gatehouse::proxy::AccessLog;
using gatehouse::proxy::AccessRecord;

namespace config = gatehouse::config;

namespace {

class Folder {
 public:
  Folder() {
    char pattern[] = "/tmp/gatehouse-access-XXXXXX";
    path_ = ::mkdtemp(pattern);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

config::Log settings(const std::string& access) {
  config::Log log;
  log.access = access;
  return log;
}

AccessRecord record(std::string_view target) {
  AccessRecord out;
  out.method = "GET";
  out.target = target;
  out.status = 200;
  return out;
}

std::vector<std::string> lines_of(const std::string& path) {
  std::ifstream in(path);
  std::vector<std::string> out;
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

// Waits for a condition that the writing thread brings about.
template <class Condition>
bool eventually(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

}  // namespace

TEST_CASE("Until it is configured, and when off, the log takes nothing") {
  Metrics metrics(1);
  AccessLog log(1, metrics);
  CHECK(!log.shard(0).enabled());
  REQUIRE(log.configure(settings("off")) == "");
  CHECK(!log.shard(0).enabled());
  log.shard(0).write(record("/"));
  CHECK(metrics.total(Metric::access_log_dropped) == 0);
}

TEST_CASE("A line reaches its file without further lines pushing it") {
  Folder folder;
  Metrics metrics(1);
  AccessLog log(1, metrics);
  REQUIRE(log.configure(settings(folder.file("access.log"))) == "");
  log.shard(0).write(record("/one"));
  CHECK(eventually([&] { return lines_of(folder.file("access.log")).size() == 1; }));
}

TEST_CASE("All lines of all workers are written, whole and in each worker's order") {
  Folder folder;
  constexpr size_t workers = 3, lines = 20'000;
  Metrics metrics(workers);
  {
    AccessLog log(workers, metrics);
    REQUIRE(log.configure(settings(folder.file("access.log"))) == "");
    std::vector<std::thread> threads;
    for (size_t w = 0; w < workers; ++w) {
      threads.emplace_back([&, w] {
        for (size_t i = 0; i < lines; ++i) {
          const auto before = metrics.worker(w).value(Metric::access_log_dropped);
          const std::string target = fmt::format("/{}/{}", w, i);
          do log.shard(w).write(record(target));
          while (metrics.worker(w).value(Metric::access_log_dropped) != before &&
                 (metrics.worker(w).add(Metric::access_log_dropped, -1), true));
        }
      });
    }
    for (auto& thread : threads) thread.join();
  }
  std::vector<size_t> next(workers);
  const auto all = lines_of(folder.file("access.log"));
  REQUIRE(all.size() == workers * lines);
  for (const auto& line : all) {
    const std::string target(boost::json::parse(line).at("target").as_string());
    const size_t worker = static_cast<size_t>(target[1] - '0');
    REQUIRE(target == fmt::format("/{}/{}", worker, next[worker]++));
  }
}

TEST_CASE("A reader that stalls costs lines, counted, and no time") {
  Folder folder;
  const std::string fifo = folder.file("fifo");
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  const int reader = ::open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  Metrics metrics(1);
  size_t written = 0;
  std::string received;
  {
    AccessLog log(1, metrics);
    REQUIRE(log.configure(settings(fifo)) == "");
    while (metrics.total(Metric::access_log_dropped) < 100) {
      log.shard(0).write(record("/a/path/that/is/of/some/length"));
      ++written;
    }
    CHECK(written < 100'000);
    // The reader comes back: every line that was not dropped arrives whole.
    const auto read_some = [&] {
      char bytes[65536];
      const ssize_t count = ::read(reader, bytes, sizeof(bytes));
      if (count > 0) received.append(bytes, static_cast<size_t>(count));
      return static_cast<size_t>(std::ranges::count(received, '\n'));
    };
    const auto kept = written - static_cast<size_t>(metrics.total(Metric::access_log_dropped));
    CHECK(eventually([&] {
      const size_t before = read_some();
      return before >= kept;
    }));
  }
  std::istringstream in(received);
  for (std::string line; std::getline(in, line);) REQUIRE_NOTHROW(boost::json::parse(line));
  ::close(reader);
}

TEST_CASE("A reader that stalls for ever does not hold up the end") {
  Folder folder;
  const std::string fifo = folder.file("fifo");
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  const int reader = ::open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  Metrics metrics(1);
  const auto begin = [&] {
    AccessLog log(1, metrics);
    REQUIRE(log.configure(settings(fifo)) == "");
    while (metrics.total(Metric::access_log_dropped) == 0) log.shard(0).write(record("/x"));
    return std::chrono::steady_clock::now();
  }();
  CHECK(std::chrono::steady_clock::now() - begin < AccessLog::drain_max + std::chrono::seconds(3));
  ::close(reader);
}

TEST_CASE("Lines that the disk refuses are counted") {
  if (!std::filesystem::exists("/dev/full")) return;
  Metrics metrics(1);
  AccessLog log(1, metrics);
  REQUIRE(log.configure(settings("/dev/full")) == "");
  log.shard(0).write(record("/lost"));
  CHECK(eventually([&] {
    log.shard(0).write(record("/next"));
    return metrics.total(Metric::access_log_dropped) > 0;
  }));
}

TEST_CASE("A path that cannot be opened leaves the file in use and says why") {
  Folder folder;
  Metrics metrics(1);
  AccessLog log(1, metrics);
  REQUIRE(log.configure(settings(folder.file("access.log"))) == "");
  const std::string problem = log.configure(settings("/no/such/folder/access.log"));
  CHECK(problem.find("log.access /no/such/folder/access.log") == 0);
  CHECK(log.shard(0).enabled());
  log.shard(0).write(record("/kept"));
  CHECK(eventually([&] { return lines_of(folder.file("access.log")).size() == 1; }));
}

TEST_CASE("After a rotation, reopening continues in a new file") {
  Folder folder;
  Metrics metrics(1);
  AccessLog log(1, metrics);
  REQUIRE(log.configure(settings(folder.file("access.log"))) == "");
  log.shard(0).write(record("/one"));
  REQUIRE(eventually([&] { return lines_of(folder.file("access.log")).size() == 1; }));
  std::filesystem::rename(folder.file("access.log"), folder.file("access.log.1"));
  CHECK(log.reopen() == "");
  log.shard(0).write(record("/two"));
  CHECK(eventually([&] { return lines_of(folder.file("access.log")).size() == 1; }));
  CHECK(lines_of(folder.file("access.log.1")).size() == 1);
}

TEST_CASE("The format and the redaction of the configuration apply to the next line") {
  Folder folder;
  Metrics metrics(1);
  AccessLog log(1, metrics);
  config::Log wanted = settings(folder.file("access.log"));
  wanted.redact = {"User-Agent"};
  REQUIRE(log.configure(wanted) == "");
  AccessRecord shown = record("/");
  shown.user_agent = "secret/1";
  log.shard(0).write(shown);
  wanted.access_format = config::AccessFormat::common;
  REQUIRE(log.configure(wanted) == "");
  log.shard(0).write(shown);
  REQUIRE(eventually([&] { return lines_of(folder.file("access.log")).size() == 2; }));
  const auto lines = lines_of(folder.file("access.log"));
  CHECK(lines[0].find(R"("user_agent":"REDACTED")") != std::string::npos);
  CHECK(lines[1].ends_with("\"GET / -\" 200 0"));
}

TEST_CASE("Formatting and queueing a line takes well under a microsecond", "[.bench]") {
  Metrics metrics(1);
  AccessLog log(1, metrics);
  REQUIRE(log.configure(settings("/dev/null")) == "");
  AccessRecord shown = record("/some/path/index.html?with=query");
  shown.client = "192.0.2.77";
  shown.scheme = "https";
  shown.host = "www.example.com";
  shown.protocol = "HTTP/1.1";
  shown.user_agent = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
  shown.upstream = "127.0.0.1:8080";
  shown.tls_version = "TLSv1.3";
  constexpr int lines = 1'000'000;
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < lines; ++i) log.shard(0).write(shown);
  const auto spent = std::chrono::steady_clock::now() - begin;
  const double each = std::chrono::duration<double, std::micro>(spent).count() / lines;
  WARN(each << " us a line; dropped: " << metrics.total(Metric::access_log_dropped));
}
