#include "app/quick_configuration.hpp"

#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>

#include "base/drop_privileges.hpp"
#include "base/json_escape.hpp"

namespace gatehouse::app {

using base::Error;
using base::ErrorKind;

namespace {

// A TOML basic string: its escapes are JSON's (toml.io, "String"). "${" would begin an environment
// variable in our files, and is written "$${".
std::string toml_text(const std::string& text) {
  std::string out = "\"";
  base::append_json_escaped(out, text);
  for (size_t at = out.find("${"); at != out.npos; at = out.find("${", at + 3)) out.insert(at, "$");
  return out + "\"";
}

std::string toml_array(const std::vector<std::string>& texts) {
  std::string out = "[";
  for (const auto& text : texts) out += (out.size() > 1 ? ", " : "") + toml_text(text);
  return out + "]";
}

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// Root has the system's folder; everybody else one below their home.
std::string default_storage() {
  if (base::running_as_root()) return "/var/lib/gatehouse";
  if (const auto data = environment("XDG_DATA_HOME"); !data.empty()) return data + "/gatehouse";
  if (const auto home = environment("HOME"); !home.empty()) return home + "/.local/share/gatehouse";
  return "gatehouse-data";
}

// ":8443" → localhost on that port, with a certificate of our own.
base::Result<void> take_port(QuickOptions& options) {
  if (options.from.size() != 1 || !options.from.front().starts_with(':')) return {};
  if (!options.https.empty()) {
    return Error(ErrorKind::invalid,
                 fmt::format("--from {} and --https both name a port: give one of them",
                             options.from.front()));
  }
  if (!options.ca_directory.empty()) {
    return Error(ErrorKind::invalid,
                 "--from :PORT uses an internal certificate for localhost: leave out "
                 "--ca-directory, or give --from a host name");
  }
  options.https = options.from;
  options.from = {"localhost"};
  options.internal = true;
  return {};
}

}  // namespace

base::Result<std::string> quick_configuration(QuickOptions options) {
  if (options.from.empty() || options.to.empty())
    return Error(ErrorKind::invalid, "proxy needs both --from HOST and --to ADDRESS");
  if (options.ca_directory.empty() && !options.ca_trust.empty())
    return Error(ErrorKind::invalid, "--ca-trust needs --ca-directory");
  const bool local = options.from.front().starts_with(':');
  if (auto taken = take_port(options); !taken) return taken.error();
  if (options.http.empty() && !local) options.http = {":80"};
  if (options.https.empty()) options.https = {":443"};
  if (options.storage.empty()) options.storage = default_storage();
  options.storage = std::filesystem::absolute(options.storage).lexically_normal().string();
  std::string text = "[server]\n";
  text += fmt::format("http = {}\nhttps = {}\nstorage = {}\n", toml_array(options.http),
                      toml_array(options.https), toml_text("file:" + options.storage));
  if (!base::running_as_root())
    text += fmt::format("admin = {}\n", toml_text("unix:" + options.storage + "/admin.sock"));
  if (!options.email.empty() || !options.ca_directory.empty()) text += "\n[acme]\n";
  if (!options.email.empty()) text += fmt::format("email = {}\n", toml_text(options.email));
  if (!options.ca_directory.empty()) {
    text += fmt::format("ca = [\"chosen\"]\n\n[ca.chosen]\ndirectory = {}\n",
                        toml_text(options.ca_directory));
    if (!options.ca_trust.empty()) text += fmt::format("trust = {}\n", toml_text(options.ca_trust));
  }
  text += fmt::format("\n[[site]]\nhosts = {}\nupstream = {}\n", toml_array(options.from),
                      toml_text(options.to));
  if (options.internal) text += "certificates = \"internal\"\n";
  return text;
}

}  // namespace gatehouse::app
