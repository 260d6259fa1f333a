// A CA of scripted answers for tests of the client: the faults a real one cannot be made to show.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <fmt/format.h>

#include "acme/client.hpp"
#include "base/clock.hpp"
#include "base/encoding.hpp"
#include "tests/support/await.hpp"
#include "tests/support/memory_storage.hpp"
#include "tests/support/scripted_server.hpp"

namespace gatehouse::test {

/// The faults a real CA cannot be made to show: a server of scripted answers.
struct FaultyCa {
  explicit FaultyCa(const base::Clock& with = base::real_clock()) : clock(with) {
    authority.name = "faulty";
    authority.directory = server.url("/dir");
    auto key = tls::PrivateKey::generate(config::KeyType::p256);
    account = std::make_shared<const acme::Account>(
        acme::Account{*key, server.url("/acct/1"), server.url("/orders"), "thumbprint"});
    errand.attempt.names = "a.example";
    errand.attempt.authority = "faulty";
    errand.deadline = clock.monotonic() + std::chrono::seconds(20);
  }

  ScriptedReply answer(const ScriptedRequest& request) {
    ScriptedReply reply;
    if (request.target == "/dir") {
      reply.body = fmt::format(R"({{"newNonce":"{0}/nonce","newAccount":"{0}/account",)"
                               R"("newOrder":"{0}{1}","revokeCert":"{0}/revoke",)"
                               R"("keyChange":"{0}/key-change","renewalInfo":"{0}/renewal"}})",
                               base, order_path);
      if (directory) reply = directory(request);
    } else if (request.target == "/nonce") {
      reply.fields = {{"Replay-Nonce", fmt::format("nonce-{}", ++nonces)}};
      if (nonce) reply = nonce(request);
    } else {
      reply = post(request);
    }
    return reply;
  }

  static acme::OrderRequest request() {
    acme::OrderRequest result;
    result.names = {"a.example"};
    return result;
  }

  /// newOrder as the script answers it.
  acme::Outcome<acme::Reply<acme::OrderObject>> order() {
    return await(control, client.new_order(account, request(), errand));
  }

  size_t count(const std::string& target) const {
    size_t found = 0;
    for (const auto& request : server.requests()) found += request.target == target ? 1 : 0;
    return found;
  }

  /// A member of the protected header of the n-th request to a path.
  std::string header(const std::string& target, size_t n, const char* member) const {
    for (const auto& request : server.requests()) {
      if (request.target != target || n-- > 0) continue;
      const auto jws = boost::json::parse(request.body);
      const auto text = base::base64url_decode(jws.at("protected").as_string());
      return std::string(boost::json::parse(*text).at(member).as_string());
    }
    return {};
  }

  /// The decoded payload of the n-th request to a path.
  std::string payload(const std::string& target, size_t n) const {
    for (const auto& request : server.requests()) {
      if (request.target != target || n-- > 0) continue;
      return *base::base64url_decode(boost::json::parse(request.body).at("payload").as_string());
    }
    return {};
  }

  const base::Clock& clock;
  boost::asio::io_context control;
  std::function<ScriptedReply(const ScriptedRequest&)> directory, nonce, post;
  std::string order_path = "/order";
  int nonces = 0;
  ScriptedServer server{control,
                        [this](const ScriptedRequest& request) { return answer(request); }};
  std::string base = server.url("");
  config::CertificateAuthority authority;
  MemoryStorage storage;
  base::Fetcher fetcher{control};
  acme::AccountPtr account;
  acme::Errand errand;
  acme::Client client{fetcher, storage, clock, with_directory()};

  config::CertificateAuthority with_directory() {
    config::CertificateAuthority result;
    result.name = "faulty";
    result.directory = server.url("/dir");
    return result;
  }
};

inline ScriptedReply problem(int status, const std::string& type,
                             const std::string& detail = "why") {
  ScriptedReply reply;
  reply.status = status;
  reply.fields = {{"Content-Type", "application/problem+json"}};
  reply.body =
      fmt::format(R"({{"type":"urn:ietf:params:acme:error:{}","detail":"{}"}})", type, detail);
  return reply;
}

inline ScriptedReply good_order(const std::string& base) {
  ScriptedReply reply;
  reply.status = 201;
  reply.fields = {{"Location", base + "/order/1"}, {"Replay-Nonce", "from-order"}};
  reply.body =
      fmt::format(R"({{"status":"pending","identifiers":[{{"type":"dns","value":"a.example"}}],)"
                  R"("authorizations":["{0}/authz/1"],"finalize":"{0}/finalize/1"}})",
                  base);
  return reply;
}

}  // namespace gatehouse::test
