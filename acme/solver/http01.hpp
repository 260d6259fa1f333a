// HTTP-01 challenges (RFC 8555 section 8.3): the table of key authorizations that every plain-HTTP
// listener answers from.
//
// Does not listen: app hands the workers an immutable table, and they answer inline. Control
// thread, except ChallengeTable, which any thread reads.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "acme/solver/notice_board.hpp"

namespace gatehouse::acme {

inline constexpr std::string_view http01_type = "http-01";

struct Challenge {
  std::string identifier;         // lower case
  std::string key_authorization;  // the exact body, no newline
};

/// Token → challenge.
using ChallengeTable = NoticeBoard<Challenge>::Table;
using ChallengeTablePtr = NoticeBoard<Challenge>::TablePtr;
using PublishChallenges = NoticeBoard<Challenge>::Publish;

/// The body for `target` = "/.well-known/acme-challenge/<token>" asked at `host` (lower case, no
/// port), or null: unknown tokens fall through to the site.
const std::string* answer_challenge(const ChallengeTable& table, std::string_view host,
                                    std::string_view target);

/// A handle: copies share the table.
class Http01 {
 public:
  Http01(boost::asio::io_context& control, PublishChallenges publish);

  /// Returns when every worker answers it; only then may the CA be told "ready".
  boost::asio::awaitable<void> present(std::string token, Challenge challenge);
  /// Forgets it 60 s from now: CAs ask several times, and late.
  void retire(std::string token);

 private:
  std::shared_ptr<NoticeBoard<Challenge>> board_;  // outlives a present() that is still waiting
};

}  // namespace gatehouse::acme
