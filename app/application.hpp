// The running proxy: builds the floors in order, reloads them, and takes them down in reverse.
//
// The composition root: the only place that knows every floor. Holds no policy of its own. Lives on
// the thread that calls run(), which becomes the control thread.
#pragma once

#include <memory>
#include <string>

#include "config/load.hpp"

namespace gatehouse::app {

/// Where the configuration comes from, at the start and at each reload.
struct ConfigurationSource {
  std::string file;  // empty: `text`
  std::string text;
  std::string name;  // stands for the text in messages

  config::LoadResult load() const;
};

class Application {
 public:
  Application(ConfigurationSource source, config::SnapshotPtr snapshot);
  ~Application();

  /// Runs until a signal or the admin interface stops it. 0: well; 1: it could not start, and one
  /// line on standard error says why.
  int run();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace gatehouse::app
