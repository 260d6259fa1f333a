// The command line: `gatehouse run | proxy | check | certs … | doctor | notify test | status |
// reload | stop | version`.
//
// Parses and delegates: the proxy is Application, a running one is asked through admin::Client; the
// commands about certificates are in certificate_commands and doctor.
// Output for people, or for programs with --json; errors are one line on standard error.
#pragma once

namespace gatehouse::app {

enum ExitStatus : int {
  exit_well = 0,
  exit_failed = 1,
  exit_usage = 2,  // wrong usage or configuration
};

int run_command_line(int argc, const char* const* argv);

}  // namespace gatehouse::app
