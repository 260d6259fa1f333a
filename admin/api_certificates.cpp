// The endpoints about certificates, CAs and accounts.
#include <algorithm>
#include <array>
#include <initializer_list>

#include <fmt/format.h>

#include "admin/api.hpp"

namespace gatehouse::admin {

namespace json = boost::json;
using boost::asio::awaitable;

namespace {

constexpr const char* put_wants = R"(send {"certificate": PEM chain, "key": PEM private key})";
constexpr const char* revoke_wants = R"(send nothing, or {"reason": one of )";

/// A JSON object with no other members than these, or nothing.
std::optional<json::object> object_in(const std::string& body,
                                      std::initializer_list<std::string_view> members) {
  boost::system::error_code code;
  json::value parsed = json::parse(body, code);
  if (code || !parsed.is_object()) return std::nullopt;
  for (const auto& member : parsed.get_object())
    if (std::find(members.begin(), members.end(), std::string_view(member.key())) == members.end())
      return std::nullopt;
  return std::move(parsed.get_object());
}

std::string text_of(const json::object& object, std::string_view member) {
  const json::value* const value = object.if_contains(member);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

Response done(const base::Result<void>& result, int status, const char* body) {
  return result ? json_response(status, body) : error_response(result.error());
}

}  // namespace

std::optional<int> revocation_reason(std::string_view name) {
  struct Reason {
    std::string_view name;
    int code;
  };
  static constexpr std::array<Reason, 5> known = {{{"unspecified", 0},
                                                   {"keyCompromise", 1},
                                                   {"affiliationChanged", 3},
                                                   {"superseded", 4},
                                                   {"cessationOfOperation", 5}}};
  for (const Reason& reason : known)
    if (reason.name == name) return reason.code;
  return std::nullopt;
}

awaitable<Response> Api::list(Call) {
  co_return json_response(200, certificates_json(hooks_.certificates.list()));
}

awaitable<Response> Api::show(Call call) {
  auto details = co_await hooks_.certificates.show(call.parameter);
  if (!details) co_return error_response(details.error());
  co_return json_response(200, details_json(*details));
}

awaitable<Response> Api::put(Call call) {
  auto given = object_in(call.request.body, {"certificate", "key"});
  call.request.body.clear();
  if (!given) co_return error_response(400, put_wants);
  std::string chain = text_of(*given, "certificate");
  std::string key = text_of(*given, "key");
  if (chain.empty() || key.empty()) co_return error_response(400, put_wants);
  auto taken = co_await hooks_.certificates.put(call.parameter, std::move(chain), std::move(key));
  if (!taken) co_return error_response(taken.error());
  auto details = co_await hooks_.certificates.show(call.parameter);
  if (!details) co_return error_response(details.error());
  co_return json_response(200, details_json(*details));
}

awaitable<Response> Api::remove(Call call) {
  auto removed = co_await hooks_.certificates.remove(call.parameter);
  co_return done(removed, 200, R"({"status":"removed"})");
}

awaitable<Response> Api::renew(Call call) {
  const std::string& query = call.request.query;
  const bool force = query == "force=true" || query == "force=1";
  if (!force && !query.empty() && query != "force=false" && query != "force=0")
    co_return error_response(400, "the only parameter is force, true or false");
  auto started = co_await hooks_.certificates.renew(call.parameter, force);
  co_return done(started, 202, R"({"status":"ordering"})");
}

awaitable<Response> Api::revoke(Call call) {
  std::optional<int> reason = 0;
  if (!call.request.body.empty()) {
    const auto given = object_in(call.request.body, {"reason"});
    const json::value* const named = given ? given->if_contains("reason") : nullptr;
    if (!given || (named != nullptr && !named->is_string()))
      reason.reset();
    else if (named != nullptr)
      reason = revocation_reason(std::string_view(named->get_string()));
  }
  if (!reason)
    co_return error_response(400, fmt::format("{}{}}}", revoke_wants, revocation_reasons));
  auto revoked = co_await hooks_.certificates.revoke(call.parameter, *reason);
  co_return done(revoked, 200, R"({"status":"revoked"})");
}

awaitable<Response> Api::probe(Call call) {
  auto probe = co_await hooks_.certificates.probe(call.parameter);
  if (!probe) co_return error_response(probe.error());
  json::object out;
  out["path"] = probe->path;
  out["body"] = probe->body;
  co_return json_response(200, json::serialize(out));
}

awaitable<Response> Api::authorities(Call) {
  co_return json_response(200, authorities_json(hooks_.certificates.authorities()));
}

awaitable<Response> Api::roll_over(Call call) {
  auto changed = co_await hooks_.certificates.roll_over(call.parameter);
  co_return done(changed, 200, R"({"status":"changed"})");
}

}  // namespace gatehouse::admin
