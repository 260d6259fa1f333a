#include "app/application.hpp"

#include <csignal>
#include <cstdio>
#include <optional>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>

#include "acme/manager.hpp"
#include "acme/storage/file.hpp"
#include "admin/api.hpp"
#include "admin/server.hpp"
#include "app/certificates.hpp"
#include "app/notify_systemd.hpp"
#include "app/process.hpp"
#include "app/start_report.hpp"
#include "base/drop_privileges.hpp"
#include "base/fetch.hpp"
#include "base/log.hpp"
#include "base/metrics.hpp"
#include "proxy/access_log.hpp"
#include "proxy/server.hpp"
#include "tls/ticket_keys.hpp"

namespace gatehouse::app {

namespace asio = boost::asio;
namespace log = base::log;
using asio::awaitable;
using base::Error;
using base::Result;
using config::SnapshotPtr;

namespace {

/// A stop asked for through the admin interface waits this long, so that its answer gets out.
constexpr std::chrono::milliseconds stop_answer_time{100};

log::Settings log_settings(const config::Log& settings) {
  log::Settings out;
  out.level = static_cast<log::Level>(settings.level);
  out.json = settings.json;
  out.file = settings.file;
  return out;
}
static_assert(static_cast<int>(config::LogLevel::error) == static_cast<int>(log::Level::error));

}  // namespace

config::LoadResult ConfigurationSource::load() const {
  return file.empty() ? config::load_text(text, name) : config::load(file);
}

// Members are in the order they are built in; the destructor takes them down in reverse.
struct Application::State {
  State(ConfigurationSource from, SnapshotPtr first);

  Result<void> prepare();
  Result<void> take_user();
  Result<void> open_admin(const std::optional<base::Account>& account);
  Result<void> open_storage();
  Result<void> open_logs();

  awaitable<void> start();
  awaitable<Result<void>> start_serving();
  awaitable<void> published();
  awaitable<void> rotate_ticket_keys();

  awaitable<void> watch_signals();
  void on_signal(int number);
  void reopen_logs();

  awaitable<void> reload_on_signal();
  awaitable<admin::ReloadProblems> reload();
  awaitable<admin::ReloadProblems> try_reload();
  void apply_logs();
  void warn_of_fixed_settings(const config::Snapshot& next) const;

  void stop_soon();
  void begin_stop(std::string_view reason);
  awaitable<void> drain();
  void finish();

  admin::ApiHooks api_hooks();
  admin::ProgramStatus status() const;
  std::vector<acme::CertificateStatus> certificate_status() const;

  const ConfigurationSource source;
  SnapshotPtr snapshot;
  const std::chrono::system_clock::time_point started = std::chrono::system_clock::now();

  asio::io_context control{1};
  base::Metrics metrics;
  proxy::AccessLog access_log;
  base::Fetcher fetcher;
  std::unique_ptr<acme::FileStorage> storage;
  std::unique_ptr<acme::Http01> http01;
  std::unique_ptr<acme::Manager> manager;
  Certificates certificates;
  proxy::Server server;
  admin::Api api;
  admin::Server admin_server;
  asio::signal_set signals{control};
  asio::steady_timer ticket_timer{control};
  asio::steady_timer stop_timer{control};
  tls::TicketKeysPtr ticket_keys = tls::TicketKeys::create();

  std::optional<Error> failure;  // of the start
  bool serving = false;
  bool draining = false;
  bool reloading = false;
  bool reload_wanted = false;
};

Application::State::State(ConfigurationSource from, SnapshotPtr first)
    : source(std::move(from)),
      snapshot(std::move(first)),
      metrics(proxy::Server::worker_count(*snapshot)),
      access_log(proxy::Server::worker_count(*snapshot), metrics),
      fetcher(control),
      certificates(control, proxy::Server::worker_count(*snapshot)),
      server(control, metrics, access_log, certificates.server_hooks()),
      api(api_hooks()),
      admin_server(control,
                   [this](admin::Request request) { return api.handle(std::move(request)); }) {}

Application::Application(ConfigurationSource source, SnapshotPtr snapshot)
    : state_(std::make_unique<State>(std::move(source), std::move(snapshot))) {}
Application::~Application() = default;

int Application::run() {
  State& s = *state_;
  prepare_process();
  if (auto ready = s.prepare(); !ready) {
    s.failure = ready.error();
  } else {
    asio::co_spawn(s.control, s.watch_signals(), asio::detached);
    asio::co_spawn(s.control, s.start(), asio::detached);
    s.control.run();
  }
  if (!s.failure) return 0;
  std::fprintf(stderr, "gatehouse: %s\n", s.failure->context.c_str());
  return 1;
}

// All that may need root's rights, then those rights are given up, then all that does not.
Result<void> Application::State::prepare() {
  // Until the logs are open, which is the new user's to do, complaints go to standard error.
  log::Settings early = log_settings(snapshot->log);
  early.file = "stderr";
  log::configure(early);
  if (auto bound = server.bind(snapshot); !bound) return bound.error();
  if (auto mistakes = certificates.configure(snapshot); !mistakes.empty()) return mistakes.front();
  if (auto taken = take_user(); !taken) return taken.error();
  if (auto opened = open_logs(); !opened) return opened.error();
  return open_storage();
}

Result<void> Application::State::take_user() {
  std::optional<base::Account> account;
  const std::string& user = snapshot->server.user;
  if (!user.empty() && !base::running_as_root()) {
    log::warn("server.user = \"{}\" has no effect: gatehouse was not started as root", user);
  } else if (!user.empty()) {
    auto found = base::find_account(user);
    if (!found) return found.error();
    account = *found;
  }
  if (auto folder = prepare_storage_folder(snapshot->server.storage, account ? &*account : nullptr);
      !folder) {
    return folder.error();
  }
  if (auto opened = open_admin(account); !opened) return opened.error();
  if (!account) return {};
  for (const std::string& path : {snapshot->log.file, snapshot->log.access})
    hand_over_log(path, *account);
  auto dropped = base::drop_privileges(*account);
  forbid_core_dumps();
  return dropped;
}

Result<void> Application::State::open_admin(const std::optional<base::Account>& account) {
  admin::ServerSettings settings;
  settings.address = snapshot->server.admin;
  settings.token = snapshot->server.admin_token;
  if (account) settings.owner = admin::Owner{account->user, account->group};
  return admin_server.listen(std::move(settings));
}

Result<void> Application::State::open_logs() {
  if (std::string problem = log::configure(log_settings(snapshot->log)); !problem.empty())
    return Error(base::ErrorKind::io, std::move(problem));
  if (std::string problem = access_log.configure(snapshot->log); !problem.empty())
    return Error(base::ErrorKind::io, std::move(problem));
  return {};
}

Result<void> Application::State::open_storage() {
  auto opened = acme::FileStorage::open(snapshot->server.storage);
  if (!opened) return opened.error();
  storage = std::move(*opened);
  http01 = std::make_unique<acme::Http01>(control, certificates.challenge_publisher());
  manager = std::make_unique<acme::Manager>(control, fetcher, *storage, *http01, base::real_clock(),
                                            metrics.control(), certificates.manager_hooks());
  certificates.connect(server, *manager);
  return {};
}

awaitable<void> Application::State::start() {
  try {
    auto outcome = co_await start_serving();
    if (!outcome) failure = outcome.error();
  } catch (const std::exception& problem) {
    failure = Error(base::ErrorKind::io, fmt::format("cannot start: {}", problem.what()));
  }
  if (failure && !draining) finish();
}

awaitable<Result<void>> Application::State::start_serving() {
  auto configured = co_await manager->configure(snapshot);
  if (!configured) co_return configured.error();
  if (draining) co_return Result<void>();
  certificates.publish_now();
  server.publish_ticket_keys(ticket_keys, nullptr);
  server.run();
  serving = true;
  co_await published();
  asio::co_spawn(control, rotate_ticket_keys(), asio::detached);
  admin_server.run();
  report_start(*snapshot, source.file.empty() ? source.name : source.file, server.status().workers,
               certificate_status());
  notify_ready();
  co_return Result<void>();
}

// Returns when every worker has taken over what was published so far.
awaitable<void> Application::State::published() {
  asio::steady_timer all(control, asio::steady_timer::time_point::max());
  server.publish([](size_t) {}, [&all] { all.cancel(); });
  boost::system::error_code ignored;
  co_await all.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

awaitable<void> Application::State::rotate_ticket_keys() {
  boost::system::error_code stopped;
  for (;;) {
    ticket_timer.expires_after(tls::TicketKeys::rotation_interval);
    co_await ticket_timer.async_wait(asio::redirect_error(asio::use_awaitable, stopped));
    if (stopped) co_return;
    ticket_keys = ticket_keys->rotated();
    server.publish_ticket_keys(ticket_keys, nullptr);
  }
}

awaitable<void> Application::State::watch_signals() {
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) signals.add(number);
  boost::system::error_code stopped;
  for (;;) {
    const int number =
        co_await signals.async_wait(asio::redirect_error(asio::use_awaitable, stopped));
    if (stopped) co_return;
    on_signal(number);
  }
}

void Application::State::on_signal(int number) {
  switch (number) {
    case SIGHUP:
      asio::co_spawn(control, reload_on_signal(), asio::detached);
      break;
    case SIGUSR1:
      reopen_logs();
      break;
    default:
      begin_stop(number == SIGTERM ? "SIGTERM" : "SIGINT");
  }
}

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
  auto managed = co_await manager->configure(snapshot);
  if (!managed) log::error("certificates after the reload: {}", managed.error().context);
  co_return problems;
}

void Application::State::apply_logs() {
  for (const std::string& problem :
       {log::configure(log_settings(snapshot->log)), access_log.configure(snapshot->log)})
    if (!problem.empty()) log::error("{}; the one in use stays", problem);
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

void Application::State::stop_soon() {
  stop_timer.expires_after(stop_answer_time);
  stop_timer.async_wait([this](const auto& cancelled) {
    if (!cancelled && !draining) begin_stop("the admin interface");
  });
}

void Application::State::begin_stop(std::string_view reason) {
  if (draining) {
    log::warn("stopping at once: asked a second time by {}", reason);
    return finish();
  }
  draining = true;
  log::info("stopping, asked by {}: requests under way have {} s", reason,
            std::chrono::duration_cast<std::chrono::seconds>(snapshot->server.grace).count());
  notify_stopping();
  asio::co_spawn(control, drain(), asio::detached);
}

awaitable<void> Application::State::drain() {
  if (serving) co_await server.drain();
  log::info("stopped");
  finish();
}

void Application::State::finish() {
  certificates.close();
  if (manager) manager->stop();
  server.stop();
  admin_server.stop();
  control.stop();
}

admin::ApiHooks Application::State::api_hooks() {
  admin::ApiHooks hooks;
  hooks.metrics = [this] { return metrics.prometheus(); };
  hooks.status = [this] { return status(); };
  hooks.certificates = [this] { return certificate_status(); };
  hooks.reload = [this] { return reload(); };
  hooks.stop = [this] { stop_soon(); };
  return hooks;
}

admin::ProgramStatus Application::State::status() const {
  admin::ProgramStatus out;
  out.version = GATEHOUSE_VERSION;
  out.config = source.file;
  out.process = ::getpid();
  out.started = started;
  out.draining = draining;
  out.sites = snapshot->sites.size();
  out.requests = metrics.total(base::Metric::requests);
  out.server = server.status();
  return out;
}

std::vector<acme::CertificateStatus> Application::State::certificate_status() const {
  auto all = certificates.status();
  if (!manager) return all;
  for (auto& status : manager->status()) all.push_back(std::move(status));
  return all;
}

}  // namespace gatehouse::app
