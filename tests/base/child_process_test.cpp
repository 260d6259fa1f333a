#include "base/child_process.hpp"

#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <catch2/catch.hpp>

#include "tests/support/await.hpp"

namespace gatehouse::base {

namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;

ChildRequest shell(const std::string& script) {
  ChildRequest request;
  request.command = {"/bin/sh", "-c", script};
  return request;
}

ChildOutcome run(ChildRequest request) {
  asio::io_context control;
  auto outcome = test::await(control, run_child(std::move(request)));
  REQUIRE(outcome.has_value());
  return *outcome;
}

bool has_children() {
  return ::waitpid(-1, nullptr, WNOHANG) >= 0 || errno != ECHILD;
}

bool exists(pid_t process) {
  return ::kill(process, 0) == 0;
}

}  // namespace

TEST_CASE("a child gets its arguments, its environment and its input, and nothing else") {
  ::setenv("GATEHOUSE_TEST_SECRET", "s3cret", 1);
  const int open = ::open("/dev/null", O_RDONLY);  // without O_CLOEXEC
  REQUIRE(open > 2);
  ChildRequest request;
  request.command = {"/bin/sh",
                     "-c",
                     "echo \"$1|$2|$GREETING|$GATEHOUSE_TEST_SECRET|$(pwd)\"; cat; echo; "
                     "ls /proc/$$/fd | tr '\\n' ' '; test -n \"$PATH\" && echo path",
                     "name",
                     "a b",
                     "$HOME;"};
  request.environment = {{"GREETING", "hello 'you'"}};
  request.input = std::string(200'000, 'i');
  request.output_max = 300'000;
  const auto outcome = run(request);
  ::close(open);
  CHECK(outcome.well());
  CHECK(outcome.output ==
        "a b|$HOME;|hello 'you'||/\n" + std::string(200'000, 'i') + "\n0 1 2 path\n");
  CHECK_FALSE(has_children());
}

TEST_CASE("a child's end is told as it was") {
  CHECK(run(shell("exit 3")).status == 3);
  const auto killed = run(shell("kill -TERM $$"));
  CHECK(killed.signal == SIGTERM);
  CHECK_FALSE(killed.well());
  const auto spoken = run(shell("echo out; echo err >&2; exit 1"));
  CHECK(spoken.output == "out\nerr\n");
  CHECK_FALSE(has_children());
}

TEST_CASE("a program that is not there, or is none, is an error and no child") {
  asio::io_context control;
  for (const auto* program : {"/none/such", "/etc/passwd", "/tmp"}) {
    INFO(program);
    ChildRequest request;
    request.command = {program};
    const auto outcome = test::await(control, run_child(request));
    REQUIRE(outcome.has_error());
    CHECK(outcome.error().context.find(program) != std::string::npos);
  }
  CHECK_FALSE(has_children());
}

TEST_CASE("a child that takes too long is killed with all that it started") {
  auto request = shell("sleep 1000 & echo $!; trap '' TERM; sleep 1000");
  request.time_limit = 300ms;
  const auto outcome = run(request);
  CHECK(outcome.timed_out);
  CHECK(outcome.signal == SIGKILL);
  const auto grandchild = static_cast<pid_t>(std::atoi(outcome.output.c_str()));
  REQUIRE(grandchild > 0);
  // Killed; whoever collects it may take a moment.
  const auto end = std::chrono::steady_clock::now() + 10s;
  const auto state = [&] {
    std::ifstream file("/proc/" + std::to_string(grandchild) + "/stat");
    std::string line;
    std::getline(file, line);
    const auto close = line.rfind(')');
    return close == std::string::npos ? 'Z' : line[close + 2];
  };
  while (exists(grandchild) && state() != 'Z' && std::chrono::steady_clock::now() < end) {
  }
  CHECK((!exists(grandchild) || state() == 'Z'));
  CHECK_FALSE(has_children());
}

TEST_CASE("a child that floods its output is heard to a limit and not waited for") {
  auto request = shell("exec yes");
  request.time_limit = 20s;
  request.output_max = 100;
  const auto begin = std::chrono::steady_clock::now();
  const auto outcome = run(request);
  CHECK(outcome.output.size() == 100);
  CHECK_FALSE(outcome.well());
  CHECK_FALSE(outcome.timed_out);  // its pipe broke
  CHECK(std::chrono::steady_clock::now() - begin < 15s);
}

TEST_CASE("a child that closes its output or leaves it open behind itself ends all the same") {
  CHECK(run(shell("exec >&- 2>&-; exit 5")).status == 5);
  const auto begin = std::chrono::steady_clock::now();
  const auto outcome = run(shell("echo said; sleep 30 & exit 0"));
  CHECK(outcome.well());
  CHECK(outcome.output == "said\n");
  CHECK(std::chrono::steady_clock::now() - begin < 20s);
}

TEST_CASE("a child begins with no signal blocked or ignored, whatever ours are") {
  sigset_t blocked, before;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGTERM);
  ::sigaddset(&blocked, SIGCHLD);
  ::pthread_sigmask(SIG_BLOCK, &blocked, &before);
  const auto pipe_before = std::signal(SIGPIPE, SIG_IGN);
  const auto outcome = run(shell("grep -E 'Sig(Blk|Ign)' /proc/self/status"));
  std::signal(SIGPIPE, pipe_before);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  for (const std::string name : {"SigBlk:\t", "SigIgn:\t"}) {
    const auto found = outcome.output.find(name);
    REQUIRE(found != std::string::npos);
    const auto mask = std::stoull(outcome.output.substr(found + name.size()), nullptr, 16);
    CHECK((mask & 0x7fffffff) == 0);  // glibc keeps 32 and 33 for itself
  }
}

TEST_CASE("children that are given up are killed") {
  {
    asio::io_context control;
    asio::co_spawn(control, run_child(shell("exec sleep 1000")), asio::detached);
    control.poll();
    CHECK(has_children());
  }
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (has_children() && std::chrono::steady_clock::now() < end) {
  }
  CHECK_FALSE(has_children());
}

TEST_CASE("many children at once all end") {
  asio::io_context control;
  int ended = 0;
  for (int i = 0; i < 50; ++i) {
    asio::co_spawn(control, run_child(shell("cat; echo $$")),
                   [&](std::exception_ptr, Result<ChildOutcome> outcome) {
                     if (outcome && outcome->well()) ++ended;
                   });
  }
  control.run();
  CHECK(ended == 50);
  CHECK_FALSE(has_children());
}

}  // namespace gatehouse::base
