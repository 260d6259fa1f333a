#include "app/start_report.hpp"

#include <unistd.h>

#include <fmt/format.h>

#include "base/log.hpp"

namespace gatehouse::app {

namespace {

constexpr size_t hosts_shown_max = 8;

std::string addresses(const std::vector<config::ListenAddress>& all) {
  std::string out;
  for (const auto& address : all) {
    if (!out.empty()) out += ' ';
    out += address.text;
  }
  return out.empty() ? "off" : out;
}

std::string hosts(const config::Snapshot& snapshot) {
  std::string out;
  size_t count = 0;
  for (const auto& site : snapshot.sites) {
    for (const auto& host : site.hosts) {
      if (count++ >= hosts_shown_max) continue;
      if (!out.empty()) out += ", ";
      out += host.text;
    }
  }
  if (count > hosts_shown_max) out += fmt::format(" and {} more", count - hosts_shown_max);
  return out.empty() ? "none" : out;
}

// "3 active, 1 ordering".
std::string states(const std::map<std::string, size_t>& counts) {
  std::string out;
  for (const auto& [state, count] : counts) {
    if (!out.empty()) out += ", ";
    out += fmt::format("{} {}", count, state);
  }
  return out.empty() ? "none yet" : out;
}

}  // namespace

void report_start(const config::Snapshot& snapshot, const std::string& source, size_t workers,
                  const std::map<std::string, size_t>& certificates) {
  const config::Server& server = snapshot.server;
  base::log::info("gatehouse {} runs {} as process {}", GATEHOUSE_VERSION, source, ::getpid());
  base::log::info("listening: https {} · http {} · {} worker{}", addresses(server.https),
                  addresses(server.http), workers, workers == 1 ? "" : "s");
  base::log::info("sites: {}", hosts(snapshot));
  base::log::info("certificates: {} · stored in {}", states(certificates), server.storage);
  base::log::info("admin: {}", server.admin);
}

}  // namespace gatehouse::app
