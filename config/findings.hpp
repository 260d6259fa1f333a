// The files that were read and the mistakes found in them, while a configuration is being built.
//
// Not for the running program, which has Snapshot and Place only. Control thread.
#pragma once

#include <string>
#include <vector>

#include "config/document.hpp"
#include "config/load.hpp"

namespace gatehouse::config {

struct Source {
  std::string name;    // as messages show it
  std::string folder;  // relative paths in the file start here; empty: the working directory
};

class Findings {
 public:
  /// Only so many are kept; the last one then says how many more there were.
  static constexpr size_t diagnostics_max = 1000;

  /// Returns the number that marks of this file carry.
  uint32_t add_source(std::string name, std::string folder);
  const Source& source(const Mark& mark) const { return sources_[mark.file]; }
  const std::vector<Source>& sources() const { return sources_; }

  void add(const Mark& mark, std::string key, std::string text);

  bool empty() const { return found_.empty(); }
  /// No more will be kept: work on a message is wasted.
  bool full() const { return found_.size() >= diagnostics_max; }

  Place place(const Mark& mark) const;

  /// Sorted by file in the order of reading, then line and column. Empties the findings.
  Diagnostics take();

 private:
  struct Found {
    Mark mark;
    std::string key;
    std::string text;
  };
  std::vector<Source> sources_;
  std::vector<Found> found_;
  size_t dropped_ = 0;
};

}  // namespace gatehouse::config
