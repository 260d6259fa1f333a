#include <boost/asio/awaitable.hpp>

#include "app/application_state.hpp"
#include "app/notify_systemd.hpp"
#include "app/process.hpp"

namespace gatehouse::app {

namespace log = base::log;
using base::Error;
using boost::asio::awaitable;

log::Settings log_settings(const config::Log& settings) {
  log::Settings out;
  out.level = static_cast<log::Level>(settings.level);
  out.json = settings.json;
  out.file = settings.file;
  return out;
}
static_assert(static_cast<int>(config::LogLevel::error) == static_cast<int>(log::Level::error));

void Application::State::reopen_logs() {
  for (const std::string& problem :
       {log::configure(log_settings(snapshot->log)), access_log.reopen()})
    if (!problem.empty()) log::error("{}", problem);
  log::info("logs reopened");
}

// Signals that come during a reload amount to one more.
awaitable<void> Application::State::reload_on_signal() {
  if (reloading) {
    reload_wanted = true;
    co_return;
  }
  do {
    reload_wanted = false;
    co_await reload();
  } while (reload_wanted && !draining);
}

awaitable<admin::ReloadProblems> Application::State::reload() {
  admin::ReloadProblems problems;
  if (!serving || draining || reloading) {
    problems.push_back(reloading ? "a reload is under way; ask again when it is done"
                                 : "gatehouse is starting or stopping");
    co_return problems;
  }
  reloading = true;
  notify_reloading();
  try {
    problems = co_await try_reload();
  } catch (const std::exception& problem) {
    problems.push_back(problem.what());
  }
  reloading = false;
  if (!draining) notify_ready();
  metrics.control().add(problems.empty() ? base::Metric::reloads : base::Metric::reload_failures);
  for (const std::string& problem : problems) log::error("reload: {}", problem);
  if (problems.empty()) {
    log::info("reloaded: {} site{}", snapshot->sites.size(),
              snapshot->sites.size() == 1 ? "" : "s");
  } else {
    log::error("reload refused: the running configuration stays");
  }
  co_return problems;
}

// Either everything is switched or nothing: what can fail comes first.
awaitable<admin::ReloadProblems> Application::State::try_reload() {
  admin::ReloadProblems problems;
  config::LoadResult loaded = source.load();
  for (const auto& diagnostic : loaded.diagnostics) problems.push_back(diagnostic.to_string());
  if (!loaded.snapshot) co_return problems;
  auto tried = co_await manager->try_ask(loaded.snapshot);
  if (!tried) problems.push_back(tried.error().context);
  if (draining) problems.push_back("gatehouse is stopping");
  if (!problems.empty()) co_return problems;
  for (const Error& mistake : certificates.configure(loaded.snapshot))
    problems.push_back(mistake.context);
  if (!problems.empty()) co_return problems;
  auto switched = co_await server.reload(loaded.snapshot);
  if (!switched) {
    problems.push_back(switched.error().context);
    for (const Error& mistake : certificates.configure(snapshot))
      problems.push_back(mistake.context);
    co_return problems;
  }
  warn_of_fixed_settings(*loaded.snapshot);
  snapshot = loaded.snapshot;
  apply_logs();
  apply_notifications();
  expiry_watch->look();
  auto managed = co_await manager->configure(snapshot);
  if (!managed) log::error("certificates after the reload: {}", managed.error().context);
  return_spare_memory();
  co_return problems;
}

void Application::State::apply_logs() {
  for (const std::string& problem :
       {log::configure(log_settings(snapshot->log)), access_log.configure(snapshot->log)})
    if (!problem.empty()) log::error("{}; the one in use stays", problem);
}

void Application::State::apply_notifications() {
  notifier.configure(acme::make_senders(snapshot->notify, fetcher), snapshot->notify.events);
}

void Application::State::warn_of_fixed_settings(const config::Snapshot& next) const {
  const config::Server& before = snapshot->server;
  const auto warn = [](bool changed, std::string_view key) {
    if (changed) log::warn("server.{} changed: that takes effect at the next start", key);
  };
  warn(before.user != next.server.user, "user");
  warn(before.storage != next.server.storage, "storage");
  warn(before.admin != next.server.admin, "admin");
  warn(before.admin_token != next.server.admin_token, "admin_token_file");
}

}  // namespace gatehouse::app
