#include "admin/api.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "acme/names.hpp"

namespace gatehouse::admin {

namespace asio = boost::asio;
namespace json = boost::json;
using asio::awaitable;
using base::ErrorKind;

struct Api::Row {
  std::string_view method, path;
  awaitable<Response> (Api::*handler)(Call call);
};

const std::vector<Api::Row>& Api::table() {
  static const std::vector<Row> rows = {
      {"GET", "/healthz", &Api::health},
      {"GET", "/metrics", &Api::metrics},
      {"GET", "/api/status", &Api::status},
      {"POST", "/api/reload", &Api::reload},
      {"POST", "/api/stop", &Api::stop},
      {"GET", "/api/certificates", &Api::list},
      {"GET", "/api/certificates/{name}", &Api::show},
      {"PUT", "/api/certificates/{name}", &Api::put},
      {"DELETE", "/api/certificates/{name}", &Api::remove},
      {"POST", "/api/certificates/{name}/renew", &Api::renew},
      {"POST", "/api/certificates/{name}/revoke", &Api::revoke},
      {"POST", "/api/probes/{name}", &Api::probe},
      {"GET", "/api/authorities", &Api::authorities},
      {"POST", "/api/accounts/{ca}/rollover", &Api::roll_over},
  };
  return rows;
}

std::vector<std::pair<std::string_view, std::string_view>> Api::endpoints() {
  std::vector<std::pair<std::string_view, std::string_view>> out;
  for (const Row& row : table()) out.emplace_back(row.method, row.path);
  return out;
}

namespace {

std::string_view cut_segment(std::string_view& path) {
  const size_t slash = path.find('/');
  const std::string_view segment = path.substr(0, slash);
  path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
  return segment;
}

/// What stands in the place of "{…}" (empty: the pattern has none), if `path` is of that pattern.
std::optional<std::string_view> parameter_in(std::string_view path, std::string_view pattern) {
  if (std::ranges::count(pattern, '/') != std::ranges::count(path, '/')) return std::nullopt;
  std::string_view parameter;
  while (!pattern.empty() || !path.empty()) {
    const std::string_view expected = cut_segment(pattern);
    const std::string_view given = cut_segment(path);
    if (expected.starts_with('{'))
      parameter = given;
    else if (expected != given)
      return std::nullopt;
  }
  return parameter;
}

bool plausible_authority(std::string_view name) {
  constexpr size_t bytes_max = 100;
  return !name.empty() && name.size() <= bytes_max && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  });
}

int status_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::not_found:
      return 404;
    case ErrorKind::invalid:
      return 422;
    case ErrorKind::unavailable:
    case ErrorKind::denied:
    case ErrorKind::limit:
    case ErrorKind::cancelled:
      return 409;
    case ErrorKind::protocol:
      return 502;
    default:
      return 500;
  }
}

}  // namespace

Response json_response(int status, std::string body) {
  return Response(status, "application/json", std::move(body) + "\n");
}

Response error_response(int status, std::string_view sentence) {
  json::object out;
  out["error"] = json::string(sentence);
  return json_response(status, json::serialize(out));
}

Response error_response(const base::Error& error) {
  return error_response(status_of(error.kind), error.context);
}

std::optional<std::string> percent_decoded(std::string_view text) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size() || digit(text[i + 1]) < 0 || digit(text[i + 2]) < 0)
      return std::nullopt;
    out += static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
    i += 2;
  }
  return out;
}

std::string status_json(const ProgramStatus& status) {
  json::object out;
  out["version"] = status.version;
  out["config"] = text_or_null(status.config);
  out["pid"] = status.process;
  out["started"] = moment_json(status.started);
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
  std::string allowed;
  const Row* row = nullptr;
  std::string_view parameter;
  for (const Row& candidate : table()) {
    const auto found = parameter_in(request.path, candidate.path);
    if (!found) continue;
    parameter = *found;
    if (candidate.method == method) row = &candidate;
    allowed += (allowed.empty() ? "" : ", ") + std::string(candidate.method);
  }
  if (allowed.empty()) co_return error_response(404, "there is no such endpoint");
  if (row == nullptr) {
    Response refused = error_response(405, fmt::format("use {} for this endpoint", allowed));
    refused.allow = allowed;
    co_return refused;
  }
  Call call;
  if (row->path.find('{') != std::string_view::npos) {
    const std::optional<std::string> decoded = percent_decoded(parameter);
    const bool name = row->path.find("{name}") != std::string_view::npos;
    if (decoded && name) call.parameter = acme::requested_name(*decoded);
    if (decoded && !name && plausible_authority(*decoded)) call.parameter = *decoded;
    if (call.parameter.empty())
      co_return error_response(400, name ? "the path holds no host name: write one such as "
                                           "example.com, *.example.com or an IP address"
                                         : "the path holds no CA's name");
  }
  call.request = std::move(request);
  Response response = co_await (this->*row->handler)(std::move(call));
  co_return response;
}

awaitable<Response> Api::health(Call) {
  if (hooks_.status().draining) co_return json_response(503, R"({"status":"draining"})");
  co_return json_response(200, R"({"status":"ok"})");
}

awaitable<Response> Api::metrics(Call) {
  co_return Response(200, "text/plain; version=0.0.4; charset=utf-8", hooks_.metrics());
}

awaitable<Response> Api::status(Call) {
  co_return json_response(200, status_json(hooks_.status()));
}

awaitable<Response> Api::reload(Call) {
  const ReloadProblems problems = co_await hooks_.reload();
  if (problems.empty()) co_return json_response(200, R"({"status":"reloaded"})");
  json::array lines;
  for (const std::string& problem : problems) lines.push_back(json::string(problem));
  json::object out;
  out["error"] = "the configuration was refused; the running one stays";
  out["problems"] = std::move(lines);
  co_return json_response(422, json::serialize(out));
}

awaitable<Response> Api::stop(Call) {
  hooks_.stop();
  co_return json_response(202, R"({"status":"stopping"})");
}

}  // namespace gatehouse::admin
