#include "acme/solver/http01.hpp"

#include <algorithm>
#include <deque>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/log.hpp"

namespace gatehouse::acme {

namespace asio = boost::asio;

namespace {

constexpr std::string_view path_prefix = "/.well-known/acme-challenge/";
constexpr size_t token_bytes_max = 256;
constexpr std::chrono::seconds kept_after_use{60};
constexpr std::chrono::seconds publish_wait_max{10};  // a worker that is stuck, or stopping

}  // namespace

const std::string* answer_challenge(const ChallengeTable& table, std::string_view host,
                                    std::string_view target) {
  if (table.empty() || !target.starts_with(path_prefix)) return nullptr;
  const std::string_view token = target.substr(path_prefix.size());
  if (token.empty() || token.size() > token_bytes_max) return nullptr;
  const auto found = table.find(std::string(token));
  if (found == table.end()) return nullptr;
  // An IPv6 identifier is asked for in brackets (RFC 8738 section 4).
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  return found->second.identifier == host ? &found->second.key_authorization : nullptr;
}

struct Http01::State : std::enable_shared_from_this<State> {
  State(asio::io_context& io, PublishChallenges publisher)
      : control(io),
        publish(std::move(publisher)),
        table(std::make_shared<const ChallengeTable>()),
        sweep_timer(io) {}

  struct Retired {
    std::chrono::steady_clock::time_point until;
    std::string token;
  };

  asio::io_context& control;
  PublishChallenges publish;
  ChallengeTablePtr table;
  std::unordered_map<std::string, int> holders;  // orders may share an authorization and its token
  std::deque<Retired> retired;                   // by time, as each stays equally long
  asio::steady_timer sweep_timer;
  bool sweeping = false;

  void schedule_sweep();
  void sweep();
};

void Http01::State::schedule_sweep() {
  if (sweeping || retired.empty()) return;
  sweeping = true;
  sweep_timer.expires_at(retired.front().until);
  sweep_timer.async_wait([weak = weak_from_this()](boost::system::error_code error) {
    const auto state = weak.lock();
    if (!state) return;
    state->sweeping = false;
    if (!error) state->sweep();
  });
}

void Http01::State::sweep() {
  const auto now = std::chrono::steady_clock::now();
  auto next = std::make_shared<ChallengeTable>(*table);
  while (!retired.empty() && retired.front().until <= now) {
    const std::string token = std::move(retired.front().token);
    retired.pop_front();
    const bool again = std::any_of(retired.begin(), retired.end(),
                                   [&](const Retired& later) { return later.token == token; });
    if (!again && !holders.contains(token)) next->erase(token);
  }
  if (next->size() != table->size()) {
    table = next;
    publish(table, [] {});
  }
  schedule_sweep();
}

Http01::Http01(asio::io_context& control, PublishChallenges publish)
    : state_(std::make_shared<State>(control, std::move(publish))) {}

asio::awaitable<void> Http01::present(std::string token, Challenge challenge) {
  // An event shared with `done`, which may come late, or before the wait below.
  struct Published {
    explicit Published(asio::io_context& control) : event(control) {
      event.expires_after(publish_wait_max);
    }
    asio::steady_timer event;
    bool everywhere = false;
  };
  const auto state = state_;
  const std::string identifier = challenge.identifier;
  ++state->holders[token];
  auto next = std::make_shared<ChallengeTable>(*state->table);
  next->insert_or_assign(std::move(token), std::move(challenge));
  state->table = next;
  auto published = std::make_shared<Published>(state->control);
  state->publish(state->table, [published] {
    published->everywhere = true;
    published->event.cancel();
  });
  if (published->everywhere) co_return;
  boost::system::error_code ignored;
  co_await published->event.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  if (!published->everywhere) {
    base::log::warn("not every worker answers the challenge of {} yet: asking the CA regardless",
                    identifier);
  }
}

void Http01::retire(std::string token) {
  const auto found = state_->holders.find(token);
  if (found == state_->holders.end() || --found->second > 0) return;
  state_->holders.erase(found);
  state_->retired.push_back({std::chrono::steady_clock::now() + kept_after_use, std::move(token)});
  state_->schedule_sweep();
}

}  // namespace gatehouse::acme
