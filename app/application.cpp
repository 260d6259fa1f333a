#include "app/application.hpp"

#include <csignal>
#include <cstdio>
#include <map>
#include <unistd.h>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>

#include "app/application_state.hpp"
#include "app/budget_metrics.hpp"
#include "app/notify_systemd.hpp"
#include "app/process.hpp"
#include "app/start_report.hpp"

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
/// What is noted gets this long to be stored, and what is told to be delivered.
constexpr std::chrono::seconds end_time_max{4};
static_assert(end_time_max > acme::Notifier::drain_time_max);

}  // namespace

config::LoadResult ConfigurationSource::load() const {
  return file.empty() ? config::load_text(text, name) : config::load(file);
}

Application::State::State(ConfigurationSource from, SnapshotPtr first)
    : source(std::move(from)),
      snapshot(std::move(first)),
      metrics(proxy::Server::worker_count(*snapshot)),
      access_log(proxy::Server::worker_count(*snapshot), metrics),
      fetcher(control),
      notifier(control, base::real_clock(), metrics.control()),
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
  tls_alpn01 = std::make_unique<acme::TlsAlpn01>(control, certificates.alpn_publisher());
  const acme::Solvers solvers{*http01, *tls_alpn01};
  auto hooks = certificates.manager_hooks();
  hooks.tell = [this](const acme::Event& event) { notifier.tell(event); };
  manager = std::make_unique<acme::Manager>(control, fetcher, *storage, solvers, base::real_clock(),
                                            metrics.control(), std::move(hooks));
  custom = std::make_unique<CustomCertificates>(*storage);
  certificates.connect(server, *manager);
  expiry_watch = std::make_unique<ExpiryWatch>(
      control, *storage, base::real_clock(), [this] { return own_certificates(); },
      [this](const acme::Event& event) { notifier.tell(event); });
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
  co_await take_custom();
  apply_notifications();
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
  std::map<std::string, size_t> states = manager->states();
  for (const auto& own : certificates.status()) ++states[own.state];
  expiry_watch->start();
  report_start(*snapshot, source.file.empty() ? source.name : source.file, server.status().workers,
               states);
  return_spare_memory();
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
  if (std::exchange(finishing, true)) return control.stop();
  certificates.close();
  server.stop();
  admin_server.stop();
  if (!manager) return control.stop();
  expiry_watch->stop();
  // Visits and budgets are stored, and messages delivered, unless the storage or a mail server
  // hangs.
  stop_timer.expires_after(end_time_max);
  stop_timer.async_wait([this](const auto& cancelled) {
    if (!cancelled) control.stop();
  });
  const auto ended = [this, left = std::make_shared<int>(2)] {
    if (--*left == 0) control.stop();
  };
  manager->stop(ended);
  notifier.stop(ended);
}

admin::ApiHooks Application::State::api_hooks() {
  admin::ApiHooks hooks;
  hooks.metrics = [this] { return metrics.prometheus() + budget_metrics(manager->budget()); };
  hooks.status = [this] { return status(); };
  hooks.certificates = certificate_hooks();
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

/// Those that nobody renews but the user.
std::vector<acme::CertificateStatus> Application::State::own_certificates() const {
  auto all = certificates.status();
  for (auto& status : certificates.file_status()) all.push_back(std::move(status));
  return all;
}

std::vector<acme::CertificateStatus> Application::State::certificate_status() const {
  auto all = certificates.status();
  if (!manager) return all;
  // A name's own certificate is what is served; that in storage waits until it is taken away.
  for (auto& status : manager->status())
    if (!certificates.details(status.name)) all.push_back(std::move(status));
  return all;
}

}  // namespace gatehouse::app
