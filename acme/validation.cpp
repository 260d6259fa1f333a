#include "acme/validation.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "acme/jose.hpp"
#include "acme/patience.hpp"

namespace gatehouse::acme {

using boost::asio::awaitable;

namespace {

constexpr std::array solved_types = {http01_type, tls_alpn01_type};
constexpr int http_bad_request = 400;

/// Whether the CA has not been told yet that the challenge can be looked at.
bool waits_for(const Authorization& authorization, const std::string& challenge_url) {
  if (authorization.status != AuthorizationStatus::pending) return false;
  for (const auto& challenge : authorization.challenges) {
    if (challenge.url == challenge_url) return challenge.status == "pending";
  }
  return true;
}

/// Whether a challenge that asks at another port could have met with more success. What the CA
/// reads in the DNS is the same for all of them.
bool concerns_one_way(const std::string& problem) {
  constexpr std::array of_the_name = {"dns", "dnssec", "caa", "rateLimited", "rejectedIdentifier"};
  return std::find(of_the_name.begin(), of_the_name.end(), problem) == of_the_name.end();
}

std::string joined(const std::vector<std::string>& words) {
  return words.empty() ? std::string("none") : fmt::format("{}", fmt::join(words, ", "));
}

bool has_failed(const Preferences& preferences, const std::string& identifier,
                const std::string& type) {
  const auto found = preferences.failed.find(identifier);
  return found != preferences.failed.end() && found->second.contains(type);
}

}  // namespace

Preferences Preferences::of(const std::vector<std::string>& allowed, const std::string& first) {
  Preferences made;
  made.types = allowed;
  std::stable_partition(made.types.begin(), made.types.end(),
                        [&](const std::string& type) { return type == first; });
  return made;
}

Validation::Validation(Client& client, const Solvers& solvers, const base::Clock& clock,
                       const Preferences& preferences, AccountPtr account, const Errand& errand)
    : client_(client),
      http01_(solvers.http01),
      tls_alpn01_(solvers.tls_alpn01),
      clock_(clock),
      preferences_(preferences),
      account_(std::move(account)),
      errand_(errand) {}

Validation::~Validation() {
  for (const auto& [type, key] : presented_) {
    if (type == http01_type) {
      http01_.retire(key);
    } else {
      tls_alpn01_.retire(key);
    }
  }
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
    proven_by_ = open.type;
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
    co_return refusal(authorization, {});
  }
  const auto choice = choose(authorization);
  if (!choice) co_return choice.error();
  const auto& [challenge, others] = *choice;
  const std::string& name = authorization.identifier.value;
  const auto shown = co_await present(challenge, name);
  if (!shown) co_return shown.error();
  open_.push_back(Open{url, name, challenge.type, others});
  // After a restart the CA may be at it already.
  open_.back().inherited = challenge.status != "pending";
  if (open_.back().inherited) co_return Outcome<void>();
  const Errand errand = errand_for(name, {}, {});
  const auto accepted = co_await client_.accept(account_, challenge.url, errand);
  if (accepted) co_return Outcome<void>();
  // The CA may have been asked in another life, and have begun or ended since we looked: then it
  // refuses the request, and its verdict is what counts.
  if (accepted.error().status != http_bad_request) co_return accepted.error();
  const auto now = co_await client_.authorization(account_, url, errand_);
  if (!now || waits_for(now->value, challenge.url)) co_return accepted.error();
  open_.back().inherited = true;
  co_return Outcome<void>();
}

awaitable<Outcome<void>> Validation::present(const OfferedChallenge& challenge,
                                             const std::string& identifier) {
  std::string proof = key_authorization(challenge.token, account_->thumbprint);
  if (challenge.type == http01_type) {
    presented_.push_back({challenge.type, challenge.token});
    Challenge answer{identifier, std::move(proof)};
    co_await http01_.present(challenge.token, std::move(answer));
    co_return Outcome<void>();
  }
  const auto shown = co_await tls_alpn01_.present(identifier, std::move(proof));
  if (shown) {
    presented_.push_back({challenge.type, identifier});
    co_return Outcome<void>();
  }
  Failure failure;
  failure.sentence = fmt::format("{}: {}", errand_.attempt.names, shown.error().context);
  co_return failure;
}

Outcome<Validation::Choice> Validation::choose(const Authorization& authorization) const {
  const std::string& name = authorization.identifier.value;
  std::vector<const OfferedChallenge*> usable;  // the preferred first
  for (const auto& type : preferences_.types) {
    const bool solved =
        std::find(solved_types.begin(), solved_types.end(), type) != solved_types.end();
    if (!solved || has_failed(preferences_, name, type)) continue;
    for (const auto& challenge : authorization.challenges) {
      const bool whole = !challenge.url.empty() && !challenge.token.empty();
      if (challenge.type == type && whole) usable.push_back(&challenge);
    }
  }
  // One that the CA is at already, since another life, cannot be changed for another any more.
  const auto begun = std::find_if(usable.begin(), usable.end(), [](const OfferedChallenge* one) {
    return one->status == "processing";
  });
  if (!usable.empty()) {
    return Choice{begun == usable.end() ? *usable.front() : **begun, usable.size() > 1};
  }
  std::vector<std::string> offered;
  for (const auto& challenge : authorization.challenges) offered.push_back(challenge.type);
  Failure failure;
  failure.kind = FailureClass::policy;
  failure.sentence = fmt::format(
      "{}: {} offers {} for {}, [acme] challenges and CAA records allow {}, and {} can be answered "
      "here",
      errand_.attempt.names, errand_.attempt.authority, joined(offered),
      authorization.wildcard ? "the wildcard" : name, joined(preferences_.types),
      fmt::join(solved_types, " and "));
  if (authorization.wildcard) failure.sentence += " (name each host instead of the wildcard)";
  return failure;
}

awaitable<Outcome<void>> Validation::await_verdict(const Open& open) {
  Patience patience(clock_, errand_.deadline);
  for (;;) {
    auto reply = co_await client_.authorization(account_, open.url, errand_);
    if (!reply) co_return reply.error();
    if (reply->value.status == AuthorizationStatus::valid) co_return Outcome<void>();
    if (reply->value.status != AuthorizationStatus::pending) {
      spent_ = true;
      stale_ = open.inherited;
      auto failure = refusal(reply->value, open.type);
      verdict_ = Verdict{open.identifier, open.type, open.others && concerns_one_way(failure.type)};
      co_return failure;
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
Failure Validation::refusal(const Authorization& authorization, const std::string& type) const {
  Problem problem;
  problem.detail = "the authorization is not valid any more";
  std::string tried = type.empty() ? std::string("the name") : type;
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
  // A verdict, not the refusal of a request: it is counted as one, and not tried again at once,
  // even if the CA calls it an error of its own.
  failure.status = 0;
  const bool vague =
      failure.kind == FailureClass::transport || failure.kind == FailureClass::internal;
  if (vague) failure.kind = FailureClass::validation;
  return failure;
}

}  // namespace gatehouse::acme
