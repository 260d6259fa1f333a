// Proves control of every identifier of one order: picks a challenge, has it answered, tells the
// CA, waits for the verdict.
//
// Does not answer challenges (solvers) or decide what a failure means for the order (issuer).
// One for each order. Control thread.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "acme/client.hpp"
#include "acme/solver/solvers.hpp"
#include "base/clock.hpp"

namespace gatehouse::acme {

/// Which challenges to try.
struct Preferences {
  /// `first` (if it is allowed) before the others, which stay in their order.
  static Preferences of(const std::vector<std::string>& allowed, const std::string& first);

  std::vector<std::string> types;                       // the preferred first
  std::map<std::string, std::set<std::string>> failed;  // identifier → types not to try again
};

class Validation {
 public:
  /// The references outlive it.
  Validation(Client& client, const Solvers& solvers, const base::Clock& clock,
             const Preferences& preferences, AccountPtr account, const Errand& errand);
  /// The answers stay a while (retire).
  ~Validation();
  Validation(const Validation&) = delete;
  Validation& operator=(const Validation&) = delete;

  /// Success: every authorization is valid.
  boost::asio::awaitable<Outcome<void>> run(const std::vector<std::string>& urls);

  /// After success: the type of challenge that did it; empty if the CA asked for none.
  const std::string& proven_by() const { return proven_by_; }

  /// After a failure: the order cannot become valid any more.
  bool order_spent() const { return spent_; }
  /// That is no verdict on anything we did: an authorization was dead from the start, or its
  /// challenge was begun in another life, whose end the CA may have seen instead of an answer.
  bool order_stale() const { return stale_; }

  /// The CA's verdict against an answer of ours.
  struct Verdict {
    std::string identifier;
    std::string type;
    bool other_ways = false;  // another type may succeed where this one did not
  };
  /// After a failure; none if that was of another kind.
  const std::optional<Verdict>& verdict() const { return verdict_; }

 private:
  struct Choice {
    OfferedChallenge challenge;
    bool others = false;  // further ones could be tried
  };
  struct Open {
    std::string url;  // of the authorization
    std::string identifier;
    std::string type;
    bool others = false;
    bool inherited = false;  // the CA was asked in another life
  };
  struct Presented {
    std::string type;
    std::string key;  // the token, or the identifier
  };

  boost::asio::awaitable<Outcome<void>> begin(const std::string& url);
  boost::asio::awaitable<Outcome<void>> present(const OfferedChallenge& challenge,
                                                const std::string& identifier);
  boost::asio::awaitable<Outcome<void>> await_verdict(const Open& open);
  Outcome<Choice> choose(const Authorization& authorization) const;
  Failure refusal(const Authorization& authorization, const std::string& type) const;
  Errand errand_for(const std::string& identifier, const std::string& type,
                    const std::string& address) const;

  Client& client_;
  Http01 http01_;  // handles: retire() is due even if this outlives the owner
  TlsAlpn01 tls_alpn01_;
  const base::Clock& clock_;
  const Preferences& preferences_;
  AccountPtr account_;
  const Errand& errand_;
  std::vector<Presented> presented_;
  std::vector<Open> open_;
  std::string proven_by_;
  std::optional<Verdict> verdict_;
  bool spent_ = false;
  bool stale_ = false;
};

}  // namespace gatehouse::acme
