#include "acme/validation.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "acme/jose.hpp"
#include "acme/patience.hpp"

namespace gatehouse::acme {

using boost::asio::awaitable;

namespace {

constexpr int http_bad_request = 400;

/// Whether the CA has not been told yet that the challenge can be looked at.
bool waits_for(const Authorization& authorization, const std::string& challenge_url) {
  if (authorization.status != AuthorizationStatus::pending) return false;
  for (const auto& challenge : authorization.challenges) {
    if (challenge.url == challenge_url) return challenge.status == "pending";
  }
  return true;
}

std::string joined(const std::vector<std::string>& words) {
  return words.empty() ? std::string("none") : fmt::format("{}", fmt::join(words, ", "));
}

}  // namespace

Validation::Validation(Client& client, const Solvers& solvers, const base::Clock& clock,
                       const std::vector<std::string>& challenges, AccountPtr account,
                       const Errand& errand)
    : client_(client),
      http01_(solvers.http01),
      clock_(clock),
      allowed_(challenges),
      account_(std::move(account)),
      errand_(errand) {}

Validation::~Validation() {
  for (auto& token : presented_) http01_.retire(std::move(token));
}

awaitable<Outcome<void>> Validation::run(const std::vector<std::string>& urls) {
  for (const auto& url : urls) {
    const auto begun = co_await begin(url);
    if (!begun) co_return begun.error();
  }
  // All of them are at work at the CA by now; the verdicts are only collected one by one.
  for (const auto& open : open_) {
    const auto verdict_given = co_await await_verdict(open);
    if (!verdict_given) co_return verdict_given.error();
  }
  co_return Outcome<void>();
}

awaitable<Outcome<void>> Validation::begin(const std::string& url) {
  auto reply = co_await client_.authorization(account_, url, errand_);
  if (!reply) co_return reply.error();
  const Authorization& authorization = reply->value;
  if (authorization.status == AuthorizationStatus::valid) co_return Outcome<void>();
  if (authorization.status != AuthorizationStatus::pending) {
    spent_ = stale_ = true;
    co_return verdict(authorization, {});
  }
  const auto chosen = choose(authorization);
  if (!chosen) co_return chosen.error();
  const std::string& name = authorization.identifier.value;
  Challenge challenge{name, key_authorization(chosen->token, account_->thumbprint)};
  presented_.push_back(chosen->token);
  co_await http01_.present(chosen->token, std::move(challenge));
  open_.push_back(Open{url, name, chosen->type});
  // After a restart the CA may be at it already.
  open_.back().inherited = chosen->status != "pending";
  if (open_.back().inherited) co_return Outcome<void>();
  const Errand errand = errand_for(name, {}, {});
  const auto accepted = co_await client_.accept(account_, chosen->url, errand);
  if (accepted) co_return Outcome<void>();
  // The CA may have been asked in another life, and have begun or ended since we looked: then it
  // refuses the request, and its verdict is what counts.
  if (accepted.error().status != http_bad_request) co_return accepted.error();
  const auto now = co_await client_.authorization(account_, url, errand_);
  if (!now || waits_for(now->value, chosen->url)) co_return accepted.error();
  open_.back().inherited = true;
  co_return Outcome<void>();
}

Outcome<OfferedChallenge> Validation::choose(const Authorization& authorization) {
  std::vector<std::string> offered;
  for (const auto& challenge : authorization.challenges) {
    const bool allowed =
        std::find(allowed_.begin(), allowed_.end(), challenge.type) != allowed_.end();
    const bool usable = !challenge.url.empty() && !challenge.token.empty();
    if (challenge.type == http01_type && allowed && usable) return challenge;
    offered.push_back(challenge.type);
  }
  Failure failure;
  failure.kind = FailureClass::policy;
  failure.sentence = fmt::format(
      "{}: {} offers {} for {}, [acme] challenges allows {}, and only http-01 can be answered here",
      errand_.attempt.names, errand_.attempt.authority, joined(offered),
      authorization.wildcard ? "the wildcard" : authorization.identifier.value, joined(allowed_));
  if (authorization.wildcard) failure.sentence += " (name each host instead of the wildcard)";
  return failure;
}

awaitable<Outcome<void>> Validation::await_verdict(const Open& open) {
  Patience patience(clock_, errand_.deadline);
  for (;;) {
    auto reply = co_await client_.authorization(account_, open.url, errand_);
    if (!reply) co_return reply.error();
    if (reply->value.status == AuthorizationStatus::valid) {
      proven_by_ = open.type;
      co_return Outcome<void>();
    }
    if (reply->value.status != AuthorizationStatus::pending) {
      spent_ = true;
      stale_ = open.inherited;
      co_return verdict(reply->value, open.type);
    }
    const bool in_time = co_await patience.wait(reply->retry_after);
    if (in_time) continue;
    base::Error late(base::ErrorKind::timeout,
                     fmt::format("{} was still being validated for {} when the time for one "
                                 "certificate ran out",
                                 open.type, open.identifier));
    co_return transport_failure(late, errand_.attempt);
  }
}

Errand Validation::errand_for(const std::string& identifier, const std::string& type,
                              const std::string& address) const {
  Errand result = errand_;
  result.attempt.names = identifier;
  result.attempt.challenge = type;
  result.attempt.address = address;
  return result;
}

/// Why an authorization is not valid: the error of the challenge that was tried.
Failure Validation::verdict(const Authorization& authorization, const std::string& type) {
  Problem problem;
  problem.detail = "the authorization is not valid any more";
  std::string tried = type.empty() ? std::string(http01_type) : type;
  std::string address;
  for (const auto& challenge : authorization.challenges) {
    if (!challenge.error) continue;
    problem = *challenge.error;
    tried = challenge.type;
    address = challenge.address_used;
    if (challenge.type == type) break;
  }
  const Errand errand = errand_for(authorization.identifier.value, tried, address);
  auto failure = failure_of(problem, errand.attempt, clock_.wall(), std::nullopt);
  failure.status = 0;  // a verdict, not the refusal of a request
  return failure;
}

}  // namespace gatehouse::acme
