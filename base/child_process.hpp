// Another program, run to its end: what it was given, what it printed, how it ended.
//
// Not a shell, and not for what runs longer than a moment. Lives on the control thread's
// io_context; nothing of it waits on the thread, and no child outlives its time limit or is left a
// zombie.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "base/error.hpp"

namespace gatehouse::base {

struct ChildRequest {
  std::vector<std::string> command;  // the program's whole path, then its arguments
  /// Besides PATH, HOME, LANG, LC_ALL, TZ and TMPDIR. Nothing else of our environment, which may
  /// hold secrets, reaches the child.
  std::vector<std::pair<std::string, std::string>> environment;
  std::string input;  // on its standard input, a file that has ended
  std::chrono::milliseconds time_limit{30'000};
  size_t output_max = 4096;  // bytes of standard output and error kept
};

struct ChildOutcome {
  int status = 0;          // of the exit
  int signal = 0;          // that ended it; 0: it exited
  bool timed_out = false;  // and was killed, with its process group
  std::string output;      // the beginning of what it printed

  bool well() const { return status == 0 && signal == 0 && !timed_out; }
};

/// Runs it in a process group of its own, in "/", with no signal blocked or ignored and no
/// descriptor but the standard three. An Error says that it could not be started. Given up
/// (destroyed) while it runs, the group is killed.
boost::asio::awaitable<Result<ChildOutcome>> run_child(ChildRequest request);

}  // namespace gatehouse::base
