// What a running Application consists of, for application*.cpp alone.
//
// Lives on the control thread.
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include "acme/manager.hpp"
#include "acme/notify.hpp"
#include "acme/solver/solvers.hpp"
#include "acme/storage/file.hpp"
#include "admin/api.hpp"
#include "admin/server.hpp"
#include "app/application.hpp"
#include "app/certificates.hpp"
#include "app/expiry_watch.hpp"
#include "base/drop_privileges.hpp"
#include "base/error.hpp"
#include "base/fetch.hpp"
#include "base/log.hpp"
#include "base/metrics.hpp"
#include "config/snapshot.hpp"
#include "proxy/access_log.hpp"
#include "proxy/server.hpp"
#include "tls/ticket_keys.hpp"

namespace gatehouse::app {

base::log::Settings log_settings(const config::Log& settings);

// Members are in the order they are built in; the destructor takes them down in reverse.
struct Application::State {
  State(ConfigurationSource from, config::SnapshotPtr first);

  base::Result<void> prepare();
  base::Result<void> take_user();
  base::Result<void> open_admin(const std::optional<base::Account>& account);
  base::Result<void> open_storage();
  base::Result<void> open_logs();

  boost::asio::awaitable<void> start();
  boost::asio::awaitable<base::Result<void>> start_serving();
  boost::asio::awaitable<void> published();
  boost::asio::awaitable<void> rotate_ticket_keys();

  boost::asio::awaitable<void> watch_signals();
  void on_signal(int number);
  void reopen_logs();

  boost::asio::awaitable<void> reload_on_signal();
  boost::asio::awaitable<admin::ReloadProblems> reload();
  boost::asio::awaitable<admin::ReloadProblems> try_reload();
  void apply_logs();
  void apply_notifications();
  void warn_of_fixed_settings(const config::Snapshot& next) const;

  void stop_soon();
  void begin_stop(std::string_view reason);
  boost::asio::awaitable<void> drain();
  void finish();

  // application_requests.cpp: what the admin interface asks for about certificates.
  admin::CertificateHooks certificate_hooks();
  boost::asio::awaitable<void> take_custom();
  void use_custom();
  base::Error unknown(const std::string& name) const;
  admin::Answered<acme::CertificateDetails> show(std::string name);
  admin::Answered<void> put_certificate(std::string name, std::string chain, std::string key);
  admin::Answered<void> remove_certificate(std::string name);
  admin::Answered<void> renew(std::string name, bool force);
  admin::Answered<void> revoke(std::string name, int reason);
  admin::Answered<admin::Probe> probe(std::string name);

  admin::ApiHooks api_hooks();
  admin::ProgramStatus status() const;
  std::vector<acme::CertificateStatus> certificate_status() const;
  std::vector<acme::CertificateStatus> own_certificates() const;

  const ConfigurationSource source;
  config::SnapshotPtr snapshot;
  const std::chrono::system_clock::time_point started = std::chrono::system_clock::now();

  boost::asio::io_context control{1};
  base::Metrics metrics;
  proxy::AccessLog access_log;
  base::Fetcher fetcher;
  acme::Notifier notifier;
  std::unique_ptr<acme::FileStorage> storage;
  std::unique_ptr<acme::Http01> http01;
  std::unique_ptr<acme::TlsAlpn01> tls_alpn01;
  std::unique_ptr<acme::Manager> manager;
  std::unique_ptr<CustomCertificates> custom;
  std::deque<std::chrono::steady_clock::time_point> probes;  // when the answers to them end
  Certificates certificates;
  std::unique_ptr<ExpiryWatch> expiry_watch;
  proxy::Server server;
  admin::Api api;
  admin::Server admin_server;
  boost::asio::signal_set signals{control};
  boost::asio::steady_timer ticket_timer{control};
  boost::asio::steady_timer stop_timer{control};
  tls::TicketKeysPtr ticket_keys = tls::TicketKeys::create();

  std::optional<base::Error> failure;  // of the start
  bool serving = false;
  bool draining = false;
  bool finishing = false;
  bool reloading = false;
  bool reload_wanted = false;
};

}  // namespace gatehouse::app
