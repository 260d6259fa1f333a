// `gatehouse proxy`: a configuration from a few words on the command line.
//
// Writes the same text that a person would write into gatehouse.toml; config judges it. Pure but
// for the environment that says where a user's files go.
#pragma once

#include <string>
#include <vector>

#include "base/error.hpp"

namespace gatehouse::app {

struct QuickOptions {
  std::vector<std::string> from;   // "example.com", or ":8443" for localhost
  std::string to;                  // as `upstream` of a site
  std::string storage;             // empty: chosen by the user who runs it
  std::vector<std::string> http;   // empty: ":80", or none with ":PORT"
  std::vector<std::string> https;  // empty: ":443", or the port of `from`
  bool internal = false;
  std::string ca_directory, ca_trust, email;
};

/// The text of a gatehouse.toml. Fails on options that contradict each other.
base::Result<std::string> quick_configuration(QuickOptions options);

}  // namespace gatehouse::app
