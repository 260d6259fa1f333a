// What a test of the issuer needs around it, as one process would have it: an io_context, the
// fetcher, the challenge table and a small HTTP-01 responder. Storage is outside, as the disk is.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include "acme/issuer.hpp"
#include "acme/solver/solvers.hpp"
#include "base/clock.hpp"
#include "base/fetch.hpp"
#include "tests/acme/alpn_responder.hpp"
#include "tests/support/await.hpp"
#include "tests/support/memory_storage.hpp"
#include "tests/support/scripted_server.hpp"

namespace gatehouse::test {

/// Answers HTTP-01 from a table, on a thread of its own: it outlives the lives of the program.
class ChallengeResponder {
 public:
  ChallengeResponder()
      : server_(control_, [this](const ScriptedRequest& request) { return answer(request); }),
        thread_([this] { control_.run(); }) {}
  ~ChallengeResponder() {
    control_.stop();
    thread_.join();
  }

  void publish(acme::ChallengeTablePtr table) {
    const std::lock_guard lock(mutex_);
    table_ = std::move(table);
  }
  /// From now on: 0 as it should be, else a status and a body that are wrong.
  void mislead(int status) { misleading_status_ = status; }

  int answered() const { return answered_; }
  uint16_t port() const { return server_.port(); }

 private:
  ScriptedReply answer(const ScriptedRequest& request) {
    const size_t from = request.head.find("Host: ") + 6;
    const size_t end = request.head.find_first_of(":\r", from);
    const std::lock_guard lock(mutex_);
    const auto* body =
        acme::answer_challenge(*table_, request.head.substr(from, end - from), request.target);
    ScriptedReply reply;
    reply.status = body == nullptr ? 404 : 200;
    if (body != nullptr) reply.body = *body;
    if (body != nullptr) ++answered_;
    if (misleading_status_ != 0) {
      reply.status = misleading_status_;
      reply.body = "another server";
    }
    return reply;
  }

  boost::asio::io_context control_;
  std::mutex mutex_;
  acme::ChallengeTablePtr table_ = std::make_shared<acme::ChallengeTable>();
  std::atomic<int> answered_ = 0;
  std::atomic<int> misleading_status_ = 0;
  ScriptedServer server_;
  std::thread thread_;
};

inline acme::Wanted wanted(std::string id, std::vector<std::string> names) {
  acme::Wanted made;
  made.id = std::move(id);
  made.names = std::move(names);
  return made;
}

/// One life of the program: dies with the object, at whatever point it was; storage and CA live on.
class Life {
 public:
  Life(MemoryStorage& storage, ChallengeResponder& responder,
       config::CertificateAuthority authority, config::Acme acme_settings = {},
       AlpnResponder* alpn = nullptr)
      : settings(std::move(acme_settings)),
        fetcher(control),
        http01(control,
               [this, &responder](acme::ChallengeTablePtr table, std::function<void()> done) {
                 responder.publish(std::move(table));
                 boost::asio::post(control, std::move(done));
               }),
        tls_alpn01(control,
                   [this, alpn](acme::AlpnTablePtr table, std::function<void()> done) {
                     if (alpn != nullptr) alpn->publish(std::move(table));
                     boost::asio::post(control, std::move(done));
                   }),
        issuer(fetcher, storage, acme::Solvers{http01, tls_alpn01}, base::real_clock(),
               std::move(authority), settings) {}

  acme::Outcome<acme::Issued> obtain(const std::string& id, const std::vector<std::string>& names) {
    return await(control, issuer.obtain(wanted(id, names)));
  }

  boost::asio::io_context control;
  config::Acme settings;
  base::Fetcher fetcher;
  acme::Http01 http01;
  acme::TlsAlpn01 tls_alpn01;
  acme::Issuer issuer;
};

}  // namespace gatehouse::test
