// A configuration file becomes an immutable Snapshot, or every mistake in it at once.
//
// Not the running program: nothing here opens a socket or a certificate's key beyond checking that
// the file is there and readable. Control thread and command line.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <boost/system/result.hpp>

#include "config/snapshot.hpp"

namespace gatehouse::config {

/// One mistake: "gatehouse.toml:12:1: site[0].upsteam: unknown key, did you mean 'upstream'?"
struct Diagnostic {
  Place place;
  std::string key;   // the key path, may be empty
  std::string text;  // what is wrong, and the way out
  std::string to_string() const;
};

using Diagnostics = std::vector<Diagnostic>;

/// Never both: a snapshot without mistakes, or at least one diagnostic.
struct LoadResult {
  SnapshotPtr snapshot;
  Diagnostics diagnostics;
};

/// Reads `file` and all that it imports.
LoadResult load(const std::string& file);

/// The same from text, for tests and `gatehouse proxy`; relative paths are taken from the working
/// directory and `name` stands for the file in diagnostics.
LoadResult load_text(const std::string& text, const std::string& name);

/// `--config`, $GATEHOUSE_CONFIG, ./gatehouse.toml, /etc/gatehouse/gatehouse.toml: the first that
/// applies. Without any, a sentence that names all four.
struct Located {
  std::string file;
  std::string problem;  // not empty: no file
};
Located locate(const std::optional<std::string>& argument);

}  // namespace gatehouse::config
