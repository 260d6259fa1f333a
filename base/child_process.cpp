#include "base/child_process.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <memory>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>

namespace gatehouse::base {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

/// One that prints more than this is not listened to any longer.
constexpr size_t output_read_max = 1024 * 1024;
constexpr std::array inherited = {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"};
constexpr const char* default_path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(other.release()) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  int number() const { return number_; }
  int release() { return std::exchange(number_, -1); }

 private:
  int number_;
};

/// A file without a name that holds the input: no pipe that could fill up or break.
Result<Descriptor> input_file(const std::string& bytes) {
  Descriptor file(::memfd_create("gatehouse-input", MFD_CLOEXEC));
  if (file.number() < 0) return from_errno(errno, "cannot make a file for a program's input");
  for (size_t written = 0; written < bytes.size();) {
    const auto count = ::write(file.number(), bytes.data() + written, bytes.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return from_errno(errno, "cannot write a program's input");
    written += static_cast<size_t>(count);
  }
  if (::lseek(file.number(), 0, SEEK_SET) != 0) return from_errno(errno, "cannot rewind a file");
  return file;
}

std::vector<std::string> environment_of(const ChildRequest& request) {
  std::vector<std::string> result;
  for (const char* name : inherited) {
    if (const char* value = std::getenv(name)) result.push_back(fmt::format("{}={}", name, value));
  }
  if (std::getenv("PATH") == nullptr) result.push_back(fmt::format("PATH={}", default_path));
  for (const auto& [name, value] : request.environment) {
    auto text = name + "=" + value;
    std::ranges::replace(text, '\0', ' ');
    result.push_back(std::move(text));
  }
  return result;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  result.reserve(texts.size() + 1);
  for (auto& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

struct Actions {
  Actions() { ::posix_spawn_file_actions_init(&actions); }
  ~Actions() { ::posix_spawn_file_actions_destroy(&actions); }
  Actions(const Actions&) = delete;
  Actions& operator=(const Actions&) = delete;
  posix_spawn_file_actions_t actions{};
};

struct Attributes {
  Attributes() { ::posix_spawnattr_init(&attributes); }
  ~Attributes() { ::posix_spawnattr_destroy(&attributes); }
  Attributes(const Attributes&) = delete;
  Attributes& operator=(const Attributes&) = delete;
  posix_spawnattr_t attributes{};
};

/// posix_spawn shares our memory until the program runs: no copy of a large process, and an error
/// of exec() comes back as one.
Result<pid_t> spawn(ChildRequest& request, int input, int output) {
  Actions files;
  int code = ::posix_spawn_file_actions_adddup2(&files.actions, input, STDIN_FILENO);
  if (code == 0) code = ::posix_spawn_file_actions_adddup2(&files.actions, output, STDOUT_FILENO);
  if (code == 0) code = ::posix_spawn_file_actions_adddup2(&files.actions, output, STDERR_FILENO);
  if (code == 0)
    code = ::posix_spawn_file_actions_addclosefrom_np(&files.actions, STDERR_FILENO + 1);
  if (code == 0) code = ::posix_spawn_file_actions_addchdir_np(&files.actions, "/");
  Attributes how;
  sigset_t none, all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&how.attributes, &none);
  ::posix_spawnattr_setsigdefault(&how.attributes, &all);
  ::posix_spawnattr_setpgroup(&how.attributes, 0);
  if (code == 0) {
    code = ::posix_spawnattr_setflags(
        &how.attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  }
  auto texts = environment_of(request);
  auto environment = pointers(texts);
  auto arguments = pointers(request.command);
  pid_t child = -1;
  if (code == 0) {
    code = ::posix_spawn(&child, arguments.front(), &files.actions, &how.attributes,
                         arguments.data(), environment.data());
  }
  if (code != 0) return from_errno(code, "cannot run " + request.command.front());
  return child;
}

/// One child from its start to its end.
class Run : public std::enable_shared_from_this<Run> {
 public:
  Run(const asio::any_io_executor& control, const ChildRequest& request)
      : output_max_(request.output_max),
        time_limit_(request.time_limit),
        ending_(control),
        output_(control),
        limit_(control),
        done_(control, asio::steady_timer::time_point::max()) {}
  ~Run() { kill_group(); }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  Result<void> start(ChildRequest& request);
  asio::steady_timer& done() { return done_; }
  bool ended() const { return child_ < 0; }
  ChildOutcome take() { return std::move(outcome_); }
  /// Nothing of it calls back any more; a child that still runs is killed.
  void close();

 private:
  void wait_end();
  void wait_limit();
  void listen();
  void hear(size_t count);
  void reap();
  void kill_group();

  const size_t output_max_;
  const std::chrono::milliseconds time_limit_;
  pid_t child_ = -1;
  asio::posix::stream_descriptor ending_;  // a pidfd: readable when the child has ended
  asio::posix::stream_descriptor output_;
  asio::steady_timer limit_;
  asio::steady_timer done_;  // an event: cancelled at the end
  std::array<char, 4096> buffer_{};
  size_t heard_ = 0;
  ChildOutcome outcome_;
};

Result<void> Run::start(ChildRequest& request) {
  auto input = input_file(request.input);
  if (!input) return input.error();
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return from_errno(errno, "cannot make a pipe");
  Descriptor ours(ends[0]);
  const Descriptor theirs(ends[1]);
  const auto child = spawn(request, input->number(), theirs.number());
  if (!child) return child.error();
  child_ = *child;
  // The child is not waited for before this: its number still means it.
  const int handle = static_cast<int>(::syscall(SYS_pidfd_open, child_, 0));
  if (handle < 0) return from_errno(errno, "cannot wait for " + request.command.front());
  ::fcntl(handle, F_SETFD, FD_CLOEXEC);
  error_code code;
  ending_.assign(handle, code);
  output_.assign(ours.release(), code);
  output_.non_blocking(true, code);
  wait_end();
  wait_limit();
  listen();
  return {};
}

void Run::close() {
  error_code ignored;
  ending_.close(ignored);
  output_.close(ignored);
  limit_.cancel();
  kill_group();
}

void Run::wait_end() {
  ending_.async_wait(asio::posix::stream_descriptor::wait_read,
                     [self = shared_from_this()](error_code error) {
                       if (!error) self->reap();
                     });
}

void Run::wait_limit() {
  limit_.expires_after(time_limit_);
  limit_.async_wait([self = shared_from_this()](error_code error) {
    if (error || self->ended()) return;
    self->outcome_.timed_out = true;
    ::kill(-self->child_, SIGKILL);
  });
}

void Run::listen() {
  output_.async_read_some(asio::buffer(buffer_),
                          [self = shared_from_this()](error_code error, size_t count) {
                            self->hear(count);
                            error_code ignored;
                            if (self->heard_ > output_read_max) self->output_.close(ignored);
                            if (!error && self->output_.is_open()) self->listen();
                          });
}

void Run::hear(size_t count) {
  heard_ += count;
  auto& kept = outcome_.output;
  kept.append(buffer_.data(), std::min(count, output_max_ - std::min(output_max_, kept.size())));
}

void Run::reap() {
  int status = 0;
  pid_t waited = 0;
  do {
    waited = ::waitpid(child_, &status, 0);  // a zombie by now: this does not wait
  } while (waited < 0 && errno == EINTR);
  if (waited == child_) {
    outcome_.status = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    outcome_.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  }
  child_ = -1;
  // What it printed last may not have been read yet; what it left running is not waited for.
  while (output_.is_open() && heard_ <= output_read_max) {
    error_code error;
    const size_t count = output_.read_some(asio::buffer(buffer_), error);
    if (error || count == 0) break;
    hear(count);
  }
  done_.cancel();
}

void Run::kill_group() {
  if (child_ < 0) return;
  ::kill(-child_, SIGKILL);
  // One that cannot die yet is collected by init when we have ended.
  ::waitpid(child_, nullptr, WNOHANG);
  child_ = -1;
}

struct RunGuard {
  explicit RunGuard(std::shared_ptr<Run> r) : run(std::move(r)) {}
  ~RunGuard() { run->close(); }
  RunGuard(const RunGuard&) = delete;
  RunGuard& operator=(const RunGuard&) = delete;
  std::shared_ptr<Run> run;
};

}  // namespace

asio::awaitable<Result<ChildOutcome>> run_child(ChildRequest request) {
  ASSERT(!request.command.empty());
  const auto control = co_await asio::this_coro::executor;
  const RunGuard guard(std::make_shared<Run>(control, request));
  if (auto started = guard.run->start(request); !started) co_return started.error();
  if (!guard.run->ended()) {
    error_code ignored;
    co_await guard.run->done().async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  co_return guard.run->take();
}

}  // namespace gatehouse::base
