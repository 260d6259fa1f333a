// What a test of the issuer needs around it, as one process would have it: an io_context, the
// fetcher, the challenge table and a small HTTP-01 responder. Storage is outside, as the disk is.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include "acme/issuer.hpp"
#include "acme/solver/http01.hpp"
#include "base/clock.hpp"
#include "base/fetch.hpp"
#include "tests/support/await.hpp"
#include "tests/support/memory_storage.hpp"
#include "tests/support/scripted_server.hpp"

namespace gatehouse::test {

/// Answers HTTP-01 from a table, on an io_context of the test's choice.
class ChallengeResponder {
 public:
  explicit ChallengeResponder(boost::asio::io_context& control)
      : server_(control, [this](const ScriptedRequest& request) { return answer(request); }) {}

  acme::ChallengeTablePtr table = std::make_shared<acme::ChallengeTable>();
  int answered = 0;

  uint16_t port() const { return server_.port(); }

 private:
  ScriptedReply answer(const ScriptedRequest& request) {
    ScriptedReply reply;
    const size_t from = request.head.find("Host: ") + 6;
    const std::string host =
        request.head.substr(from, request.head.find_first_of(":\r", from) - from);
    const auto* body = acme::answer_challenge(*table, host, request.target);
    reply.status = body == nullptr ? 404 : 200;
    if (body != nullptr) ++answered;
    if (body != nullptr) reply.body = *body;
    return reply;
  }

  ScriptedServer server_;
};

/// One life of the program: dies with the object, storage and CA live on.
class Life {
 public:
  Life(boost::asio::io_context& io, MemoryStorage& storage, ChallengeResponder& responder,
       config::CertificateAuthority authority, config::Acme acme_settings = {})
      : control(io),
        settings(std::move(acme_settings)),
        fetcher(io),
        http01(io,
               [&io, &responder](acme::ChallengeTablePtr table, std::function<void()> done) {
                 responder.table = std::move(table);
                 boost::asio::post(io, std::move(done));
               }),
        issuer(fetcher, storage, http01, base::real_clock(), std::move(authority), settings) {}

  acme::Outcome<tls::CertificatePtr> obtain(const std::string& id,
                                            const std::vector<std::string>& names) {
    return await(control, issuer.obtain(id, names));
  }

  boost::asio::io_context& control;
  config::Acme settings;
  base::Fetcher fetcher;
  acme::Http01 http01;
  acme::Issuer issuer;
};

}  // namespace gatehouse::test
