// What the commands share: their options, one-line errors, and the way to a running gatehouse.
//
// Not the grammar (commands) and no command's meaning. Blocks; command line only.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "admin/client.hpp"
#include "app/application.hpp"
#include "app/commands.hpp"
#include "app/quick_configuration.hpp"
#include "config/snapshot.hpp"

namespace gatehouse::app {

/// What the options of all commands were given as.
struct Options {
  std::optional<std::string> config;
  std::string admin;
  bool json = false;
  QuickOptions quick;
  // certs and doctor
  std::string name;
  std::string folder;
  std::string reason = "unspecified";
  std::string authority;
  bool force = false;
  std::string import_from;
  bool dry_run = false;
  std::string address;
  uint16_t http_port = 80;
  uint16_t https_port = 443;
};

/// One line on standard error, harmless whatever it quotes; returns `status`.
int fail(ExitStatus status, std::string_view line);
/// Lines to standard output, each harmless, whole, or fails.
int say(std::string_view text);

/// A loaded configuration, or the exit status after its mistakes were printed.
struct Loaded {
  config::SnapshotPtr snapshot;
  ConfigurationSource source;
  int status = exit_usage;
};
Loaded load(ConfigurationSource source);
Loaded load_file(const Options& options);

/// How to reach the running gatehouse; without a client, the exit status after the reason was
/// printed.
struct Target {
  std::optional<admin::Client> client;
  config::SnapshotPtr snapshot;  // null with --admin
  int status = exit_usage;
};
Target find_running(const Options& options);

bool nobody_there(const base::Error& error);
int fail_unanswered(const base::Error& error);
/// The server's own words on why it refused.
int fail_refused(const admin::Answer& answer);

}  // namespace gatehouse::app
