// The admin interface's endpoints: a table of method and path → handler.
//
// Not the server that carries them, and owns nothing: it asks the functions that app hands in.
// Control thread.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "acme/manager.hpp"
#include "admin/server.hpp"
#include "proxy/server.hpp"

namespace gatehouse::admin {

struct ProgramStatus {
  std::string version;
  std::string config;  // the file in use; empty: none
  int64_t process = 0;
  std::chrono::system_clock::time_point started;
  bool draining = false;
  size_t sites = 0;
  int64_t requests = 0;  // since the start
  proxy::ServerStatus server;
};

/// What a reload came to: no problems, or why nothing was changed, a line each.
using ReloadProblems = std::vector<std::string>;

struct ApiHooks {
  std::function<std::string()> metrics;  // Prometheus text
  std::function<ProgramStatus()> status;
  std::function<std::vector<acme::CertificateStatus>()> certificates;
  std::function<boost::asio::awaitable<ReloadProblems>()> reload;
  std::function<void()> stop;  // begins to drain, returns at once
};

class Api {
 public:
  explicit Api(ApiHooks hooks) : hooks_(std::move(hooks)) {}

  /// The Handler of a Server. 404 and 405 for what the table lacks.
  boost::asio::awaitable<Response> handle(Request request);

 private:
  struct Row;
  static const std::vector<Row>& table();
  boost::asio::awaitable<Response> health();
  boost::asio::awaitable<Response> metrics();
  boost::asio::awaitable<Response> status();
  boost::asio::awaitable<Response> certificates();
  boost::asio::awaitable<Response> reload();
  boost::asio::awaitable<Response> stop();

  ApiHooks hooks_;
};

/// `{"certificates":[…]}`, times as RFC 3339 text, unknown ones null.
std::string certificates_json(const std::vector<acme::CertificateStatus>& certificates);
std::string status_json(const ProgramStatus& status);

}  // namespace gatehouse::admin
