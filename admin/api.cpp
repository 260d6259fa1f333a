#include "admin/api.hpp"

#include <boost/json.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>

namespace gatehouse::admin {

namespace asio = boost::asio;
namespace json = boost::json;
using asio::awaitable;

struct Api::Row {
  std::string_view method, path;
  awaitable<Response> (Api::*handler)();
};

const std::vector<Api::Row>& Api::table() {
  static const std::vector<Row> rows = {
      {"GET", "/healthz", &Api::health},     {"GET", "/metrics", &Api::metrics},
      {"GET", "/api/status", &Api::status},  {"GET", "/api/certificates", &Api::certificates},
      {"POST", "/api/reload", &Api::reload}, {"POST", "/api/stop", &Api::stop},
  };
  return rows;
}

namespace {

Response json_response(int status, std::string body) {
  return Response(status, "application/json", std::move(body) + "\n");
}

json::value moment(std::chrono::system_clock::time_point time) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time).time_since_epoch().count();
  if (seconds == 0) return nullptr;
  return json::string(fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time_t{seconds})));
}

json::value text_or_null(const std::string& text) {
  if (text.empty()) return nullptr;
  return json::string(text);
}

json::object certificate_json(const acme::CertificateStatus& status) {
  json::object out;
  out["name"] = status.name;
  out["state"] = status.state;
  out["issuer"] = text_or_null(status.issuer);
  out["serial"] = text_or_null(status.serial);
  out["not_before"] = moment(status.not_before);
  out["not_after"] = moment(status.not_after);
  out["renew_at"] = moment(status.renew_at);
  out["on_demand"] = status.on_demand;
  out["last_error"] = text_or_null(status.last_error);
  out["next_attempt"] = moment(status.next_attempt);
  return out;
}

}  // namespace

std::string certificates_json(const std::vector<acme::CertificateStatus>& certificates) {
  json::array rows;
  rows.reserve(certificates.size());
  for (const auto& status : certificates) rows.push_back(certificate_json(status));
  json::object out;
  out["certificates"] = std::move(rows);
  return json::serialize(out);
}

std::string status_json(const ProgramStatus& status) {
  json::object out;
  out["version"] = status.version;
  out["config"] = text_or_null(status.config);
  out["pid"] = status.process;
  out["started"] = moment(status.started);
  out["draining"] = status.draining;
  out["sites"] = status.sites;
  out["workers"] = status.server.workers;
  out["connections"] = status.server.connections;
  out["requests_active"] = status.server.requests_active;
  out["requests"] = status.requests;
  return json::serialize(out);
}

awaitable<Response> Api::handle(Request request) {
  const std::string_view method =
      request.method == "HEAD" ? "GET" : std::string_view(request.method);
  const Row* other_method = nullptr;
  for (const Row& row : table()) {
    if (row.path != request.path) continue;
    if (row.method == method) {
      Response response = co_await (this->*row.handler)();
      co_return response;
    }
    other_method = &row;
  }
  if (other_method == nullptr)
    co_return json_response(404, R"({"error":"there is no such endpoint"})");
  Response refused = json_response(
      405, fmt::format(R"({{"error":"use {} for this endpoint"}})", other_method->method));
  refused.allow = other_method->method;
  co_return refused;
}

awaitable<Response> Api::health() {
  if (hooks_.status().draining) co_return json_response(503, R"({"status":"draining"})");
  co_return json_response(200, R"({"status":"ok"})");
}

awaitable<Response> Api::metrics() {
  co_return Response(200, "text/plain; version=0.0.4; charset=utf-8", hooks_.metrics());
}

awaitable<Response> Api::status() {
  co_return json_response(200, status_json(hooks_.status()));
}

awaitable<Response> Api::certificates() {
  co_return json_response(200, certificates_json(hooks_.certificates()));
}

awaitable<Response> Api::reload() {
  const ReloadProblems problems = co_await hooks_.reload();
  if (problems.empty()) co_return json_response(200, R"({"status":"reloaded"})");
  json::array lines;
  for (const std::string& problem : problems) lines.push_back(json::string(problem));
  json::object out;
  out["error"] = "the configuration was refused; the running one stays";
  out["problems"] = std::move(lines);
  co_return json_response(422, json::serialize(out));
}

awaitable<Response> Api::stop() {
  hooks_.stop();
  co_return json_response(202, R"({"status":"stopping"})");
}

}  // namespace gatehouse::admin
