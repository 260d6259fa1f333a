// The admin interface's endpoints: a table of method and path → handler.
//
// Not the server that carries them, and owns nothing: it asks the functions that app hands in.
// Described for programs in docs/openapi.json. Control thread.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "acme/certificate_details.hpp"
#include "admin/certificate_json.hpp"
#include "admin/server.hpp"
#include "base/error.hpp"
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

/// What this process answers at http://NAME + path for a minute, so that somebody may find out
/// whether requests for the name get here.
struct Probe {
  std::string path;
  std::string body;
};

template <class T>
using Answered = boost::asio::awaitable<base::Result<T>>;

/// Names are as acme::requested_name() returns them. The sentence of an Error is the answer's; its
/// kind gives the status.
struct CertificateHooks {
  std::function<std::vector<acme::CertificateStatus>()> list;
  std::function<Answered<acme::CertificateDetails>(std::string name)> show;
  /// A custom certificate, PEM; and its end.
  std::function<Answered<void>(std::string name, std::string chain, std::string key)> put;
  std::function<Answered<void>(std::string name)> remove;
  std::function<Answered<void>(std::string name, bool force)> renew;
  std::function<Answered<void>(std::string name, int reason)> revoke;
  std::function<Answered<Probe>(std::string name)> probe;
  std::function<std::vector<acme::BudgetStatus>()> authorities;
  std::function<Answered<void>(std::string authority)> roll_over;
};

struct ApiHooks {
  std::function<std::string()> metrics;  // Prometheus text
  std::function<ProgramStatus()> status;
  std::function<boost::asio::awaitable<ReloadProblems>()> reload;
  std::function<void()> stop;  // begins to drain, returns at once
  CertificateHooks certificates;
};

class Api {
 public:
  explicit Api(ApiHooks hooks) : hooks_(std::move(hooks)) {}

  /// The Handler of a Server. 404 and 405 for what the table lacks, 400 for a path parameter that
  /// is none.
  boost::asio::awaitable<Response> handle(Request request);

  /// Method and path of every endpoint, "{…}" for a parameter.
  static std::vector<std::pair<std::string_view, std::string_view>> endpoints();

 private:
  struct Row;
  /// A request on its way to a handler.
  struct Call {
    Request request;
    std::string parameter;  // decoded and checked
  };
  using Reply = boost::asio::awaitable<Response>;

  static const std::vector<Row>& table();
  Reply health(Call call);
  Reply metrics(Call call);
  Reply status(Call call);
  Reply reload(Call call);
  Reply stop(Call call);
  // api_certificates.cpp
  Reply list(Call call);
  Reply show(Call call);
  Reply put(Call call);
  Reply remove(Call call);
  Reply renew(Call call);
  Reply revoke(Call call);
  Reply probe(Call call);
  Reply authorities(Call call);
  Reply roll_over(Call call);

  ApiHooks hooks_;
};

std::string status_json(const ProgramStatus& status);

Response json_response(int status, std::string body);
/// `{"error":…}`
Response error_response(int status, std::string_view sentence);
Response error_response(const base::Error& error);

/// "%2A.example" → "*.example"; nothing when an escape is broken.
std::optional<std::string> percent_decoded(std::string_view text);

/// The code of a reason to revoke by its name in RFC 5280 section 5.3.1; those that a CA takes from
/// a subscriber (Baseline Requirements section 4.9.1.1).
std::optional<int> revocation_reason(std::string_view name);
inline constexpr const char* revocation_reasons =
    "unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation";

}  // namespace gatehouse::admin
