// The ways out of the house for a message: mail, webhook, command.
//
// Each hands one message over once and says how that went; when to, and what again, is notify's to
// decide. Control thread.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>

#include "acme/notice.hpp"
#include "base/error.hpp"
#include "base/fetch.hpp"
#include "config/snapshot.hpp"

namespace gatehouse::acme {

enum class Way : uint8_t { email, webhook, exec };
inline constexpr std::array ways = {Way::email, Way::webhook, Way::exec};
std::string_view word(Way way);

/// Empty: not configured.
using Send = std::function<boost::asio::awaitable<base::Result<void>>(Notice)>;

/// How each way sends with these settings. `fetcher` outlives what is returned. Errors never hold a
/// password, a secret or a webhook's path.
struct Senders {
  std::array<Send, ways.size()> send;
  std::array<std::string, ways.size()> target;  // for messages: "smtp://mail:587"

  const Send& of(Way way) const { return send[static_cast<size_t>(way)]; }
};
Senders make_senders(const config::Notify& settings, base::Fetcher& fetcher);

/// "sha256=" and the hexadecimal HMAC-SHA256 of `timestamp` "." `body`.
std::string signature_of(std::string_view secret, std::string_view timestamp,
                         std::string_view body);

}  // namespace gatehouse::acme
