// HTTP-01 challenges (RFC 8555 section 8.3): the table of key authorizations that every plain-HTTP
// listener answers from.
//
// Does not listen: app hands the workers an immutable table, and they answer inline. Control
// thread, except ChallengeTable, which any thread reads.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

namespace gatehouse::acme {

struct Challenge {
  std::string identifier;         // lower case
  std::string key_authorization;  // the exact body, no newline
};

/// Token → challenge.
using ChallengeTable = std::unordered_map<std::string, Challenge>;
using ChallengeTablePtr = std::shared_ptr<const ChallengeTable>;

/// Gives all workers a new table; `done` is called on the control thread when every one of them
/// answers from it.
using PublishChallenges = std::function<void(ChallengeTablePtr table, std::function<void()> done)>;

/// The body for `target` = "/.well-known/acme-challenge/<token>" asked at `host` (lower case, no
/// port), or null: unknown tokens fall through to the site.
const std::string* answer_challenge(const ChallengeTable& table, std::string_view host,
                                    std::string_view target);

class Http01 {
 public:
  Http01(boost::asio::io_context& control, PublishChallenges publish);

  /// Returns when every worker answers it; only then may the CA be told "ready".
  boost::asio::awaitable<void> present(std::string token, Challenge challenge);
  /// Forgets it 60 s from now: CAs ask several times, and late.
  void retire(std::string token);

 private:
  struct State;
  std::shared_ptr<State> state_;  // outlives a present() that is still waiting
};

}  // namespace gatehouse::acme
