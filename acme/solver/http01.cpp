#include "acme/solver/http01.hpp"

#include <boost/asio/ip/address_v6.hpp>

#include "base/log.hpp"

namespace gatehouse::acme {

namespace asio = boost::asio;

namespace {

constexpr std::string_view path_prefix = "/.well-known/acme-challenge/";
constexpr size_t token_bytes_max = 256;

/// An IPv6 address may be written in several ways (RFC 5952).
bool names(std::string_view host, const std::string& identifier) {
  if (host == identifier) return true;
  if (host.find(':') == host.npos || host.find('%') != host.npos) return false;
  boost::system::error_code error;
  const auto asked = asio::ip::make_address_v6(std::string(host), error);
  if (error) return false;
  const auto known = asio::ip::make_address_v6(identifier, error);
  return !error && asked == known;
}

}  // namespace

const std::string* answer_challenge(const ChallengeTable& table, std::string_view host,
                                    std::string_view target) {
  if (table.empty() || !target.starts_with(path_prefix)) return nullptr;
  const std::string_view token = target.substr(path_prefix.size());
  if (token.empty() || token.size() > token_bytes_max) return nullptr;
  const Challenge* found = table.find(std::string(token));
  if (found == nullptr) return nullptr;
  // An IPv6 identifier is asked for in brackets (RFC 8738 section 4).
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  return names(host, found->identifier) ? &found->key_authorization : nullptr;
}

Http01::Http01(asio::io_context& control, PublishChallenges publish)
    : board_(std::make_shared<NoticeBoard<Challenge>>(control, std::move(publish))) {}

asio::awaitable<void> Http01::present(std::string token, Challenge challenge) {
  const std::string identifier = challenge.identifier;
  const bool everywhere =
      co_await NoticeBoard<Challenge>::put(board_, std::move(token), std::move(challenge));
  if (everywhere) co_return;
  base::log::warn("not every worker answers the challenge of {} yet: asking the CA regardless",
                  identifier);
}

void Http01::retire(std::string token) {
  board_->retire(std::move(token));
}

}  // namespace gatehouse::acme
