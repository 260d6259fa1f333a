// A CA of scripted answers, on a thread of its own: what a real one cannot be made to do.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <fmt/format.h>

#include "base/encoding.hpp"
#include "tests/acme/certification.hpp"

namespace gatehouse::test {

/// Every step succeeds up to finalize, which answers 500, unless a script says otherwise.
struct ScriptedCa {
  ScriptedCa() {
    authority.name = "scripted";
    authority.directory = server.url("/dir");
  }

  std::unique_ptr<Life> live() {
    return std::make_unique<Life>(storage, responder, authority, settings);
  }

  ScriptedReply answer(const ScriptedRequest& request) {
    const std::lock_guard lock(mutex);
    requests.push_back(request);
    ScriptedReply reply;
    std::optional<ScriptedReply> scripted;
    const auto script = scripts.find(request.target);
    if (script != scripts.end()) scripted = script->second(request);
    reply = scripted ? *scripted : usual(request.target);
    reply.fields.emplace_back("Replay-Nonce", fmt::format("nonce-{}", requests.size()));
    return reply;
  }

  ScriptedReply usual(const std::string& target) {
    const std::string base = server.url("");
    ScriptedReply reply;
    if (target == "/dir") {
      reply.body = fmt::format(
          R"({{"newNonce":"{0}/nonce","newAccount":"{0}/account","newOrder":"{0}/order"}})", base);
    } else if (target == "/account") {
      reply.fields = {{"Location", base + "/acct/1"}};
      reply.body = fmt::format(R"({{"status":"valid","orders":"{}/orders"}})", base);
    } else if (target == "/order" || target == "/order/1") {
      reply.fields = {{"Location", base + "/order/1"}};
      if (target == "/order" && ++placed > 1) begun.clear();
      if (target == "/order") looks = 0;
      reply.body = order(offered.empty() ? "ready" : "pending");
    } else if (target == "/orders") {
      reply.body = fmt::format(R"({{"orders":["{}/order/1"]}})", base);
    } else if (target == "/finalize") {
      reply = problem(500, "serverInternal");
    } else if (target == "/authz") {
      reply.body = authorization();
    } else if (target.starts_with("/challenge/")) {
      begun = target.substr(std::string("/challenge/").size());
      reply.body = fmt::format(R"({{"type":"{1}","status":"processing","url":"{0}",)"
                               R"("token":"abcdefghijklmnopqrstuvwx"}})",
                               base + target, begun);
    }
    return reply;
  }

  std::string order(const std::string& status, const std::string& more = "") const {
    return fmt::format(R"({{"status":"{1}","identifiers":[{{"type":"dns","value":"a.example"}}],)"
                       R"("authorizations":["{0}/authz"],"finalize":"{0}/finalize"{2}}})",
                       server.url(""), status, more);
  }

  /// The challenges of every authorization from now on: what is asked for succeeds, unless refused.
  void offer(std::vector<std::string> types) { offered = std::move(types); }
  void refuse_all(const std::string& problem) { refusal = problem; }

  /// Judged at the second look after the challenge was begun.
  std::string authorization() {
    const bool judged = ++looks > 1 && !begun.empty();
    const std::string status = !judged ? "pending" : refusal.empty() ? "valid" : "invalid";
    std::string challenges;
    for (const auto& type : offered) {
      const bool tried = type == begun;
      if (!challenges.empty()) challenges += ",";
      challenges += fmt::format(
          R"({{"type":"{1}","status":"{2}","url":"{0}/challenge/{1}",)"
          R"("token":"abcdefghijklmnopqrstuvwx"{3}}})",
          server.url(""), type,
          !tried   ? "pending"
          : judged ? status
                   : "processing",
          tried && status == "invalid"
              ? fmt::format(R"(,"error":{{"type":"urn:ietf:params:acme:error:{}","detail":"why"}})",
                            refusal)
              : "");
    }
    return fmt::format(
        R"({{"status":"{}","identifier":{{"type":"dns","value":"a.example"}},"challenges":[{}]}})",
        status, challenges);
  }

  static ScriptedReply problem(int status, const std::string& type) {
    ScriptedReply reply;
    reply.status = status;
    reply.body = fmt::format(R"({{"type":"urn:ietf:params:acme:error:{}","detail":"why"}})", type);
    return reply;
  }

  size_t count(const std::string& target) {
    const std::lock_guard lock(mutex);
    size_t found = 0;
    for (const auto& request : requests) found += request.target == target ? 1 : 0;
    return found;
  }

  /// Its payload, or its protected header.
  static std::string decoded(const ScriptedRequest& request, const char* member = "payload") {
    const auto jws = boost::json::parse(request.body);
    return base::base64url_decode(jws.at(member).as_string()).value();
  }

  /// The payload of the n-th message to a path.
  std::string payload(const std::string& target, size_t n) {
    const std::lock_guard lock(mutex);
    for (const auto& request : requests) {
      if (request.target != target || n-- > 0) continue;
      const auto jws = boost::json::parse(request.body);
      return base::base64url_decode(jws.at("payload").as_string()).value();
    }
    return {};
  }

  using Script = std::function<std::optional<ScriptedReply>(const ScriptedRequest&)>;

  std::mutex mutex;
  std::map<std::string, Script> scripts;
  std::vector<ScriptedRequest> requests;
  std::vector<std::string> offered;  // none: orders are ready at once
  std::string refusal;               // the problem's type
  std::string begun;                 // the challenge that the CA is at
  int placed = 0;
  int looks = 0;  // at the order's authorization
  boost::asio::io_context control;
  ScriptedServer server{control,
                        [this](const ScriptedRequest& request) { return answer(request); }};
  std::thread thread{[this] { control.run(); }};
  ~ScriptedCa() {
    control.stop();
    thread.join();
  }

  ChallengeResponder responder;
  MemoryStorage storage;
  config::CertificateAuthority authority;
  config::Acme settings;
};

}  // namespace gatehouse::test
