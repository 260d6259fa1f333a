#include "app/console.hpp"

#include <cstdio>
#include <cstdlib>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "base/json_escape.hpp"
#include "config/load.hpp"

namespace gatehouse::app {

namespace json = boost::json;

namespace {

void complain(std::string_view line) {
  std::string shown;
  base::append_harmless(shown, line);
  std::fprintf(stderr, "%s\n", shown.c_str());
}

}  // namespace

int fail(ExitStatus status, std::string_view line) {
  complain(fmt::format("gatehouse: {}", line));
  return status;
}

int say(std::string_view text) {
  std::string shown;
  for (std::string_view rest = text; !rest.empty();) {
    const size_t end = rest.find('\n');
    base::append_harmless(shown, rest.substr(0, end));
    if (end != rest.npos) shown += '\n';
    rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
  }
  const bool well = std::fwrite(shown.data(), 1, shown.size(), stdout) == shown.size() &&
                    std::fflush(stdout) == 0;
  return well ? exit_well : fail(exit_failed, "cannot write to standard output");
}

Loaded load(ConfigurationSource source) {
  Loaded out;
  const config::LoadResult result = source.load();
  for (const auto& mistake : result.diagnostics)
    std::fprintf(stderr, "%s\n", mistake.to_string().c_str());
  out.snapshot = result.snapshot;
  out.source = std::move(source);
  return out;
}

Loaded load_file(const Options& options) {
  const config::Located located = config::locate(options.config);
  if (!located.problem.empty()) {
    Loaded none;
    none.status = fail(exit_usage, located.problem);
    return none;
  }
  ConfigurationSource source;
  source.file = located.file;
  return load(std::move(source));
}

Target find_running(const Options& options) {
  Target target;
  std::string address = options.admin;
  std::string token;
  if (address.empty()) {
    const Loaded loaded = load_file(options);
    target.snapshot = loaded.snapshot;
    target.status = loaded.status;
    if (!loaded.snapshot) return target;
    address = loaded.snapshot->server.admin;
    token = loaded.snapshot->server.admin_token;
  } else if (const char* const given = std::getenv("GATEHOUSE_ADMIN_TOKEN")) {
    token = given;
  }
  auto parsed = admin::parse_address(address);
  if (parsed) {
    target.client.emplace(*parsed, token);
  } else {
    target.status = fail(exit_usage, parsed.error().context);
  }
  return target;
}

bool nobody_there(const base::Error& error) {
  return error.kind == base::ErrorKind::not_found || error.kind == base::ErrorKind::refused;
}

int fail_unanswered(const base::Error& error) {
  if (error.kind == base::ErrorKind::denied)
    return fail(exit_failed, error.context +
                                 "; only root and the user that gatehouse runs as may ask it: run "
                                 "this as one of them");
  if (!nobody_there(error)) return fail(exit_failed, error.context);
  return fail(exit_failed,
              error.context +
                  "; is it running? start it with 'gatehouse run', or name its address "
                  "with --admin");
}

int fail_refused(const admin::Answer& answer) {
  boost::system::error_code code;
  const json::value parsed = json::parse(answer.body, code);
  const json::object* const object = code ? nullptr : parsed.if_object();
  if (object == nullptr)
    return fail(exit_failed, fmt::format("the running gatehouse answered {}", answer.status));
  if (const auto* problems = object->if_contains("problems"); problems && problems->is_array()) {
    for (const auto& problem : problems->get_array())
      if (problem.is_string()) complain(problem.get_string());
  }
  const auto* error = object->if_contains("error");
  return fail(exit_failed, error && error->is_string() ? std::string(error->get_string())
                                                       : std::string("refused"));
}

}  // namespace gatehouse::app
