// Proves control of every identifier of one order: picks a challenge, has it answered, tells the
// CA, waits for the verdict.
//
// Does not answer challenges (solver) or decide what a failure means for the order (issuer).
// One for each order. Control thread.
#pragma once

#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "acme/client.hpp"
#include "acme/solver/solvers.hpp"
#include "base/clock.hpp"

namespace gatehouse::acme {

class Validation {
 public:
  /// The references outlive it. `challenges`: the types allowed, the preferred first.
  Validation(Client& client, const Solvers& solvers, const base::Clock& clock,
             const std::vector<std::string>& challenges, AccountPtr account, const Errand& errand);
  /// The answers stay a while (Http01::retire).
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

 private:
  struct Open {
    std::string url;  // of the authorization
    std::string identifier;
    std::string type;
    bool inherited = false;  // the CA was asked in another life
  };

  boost::asio::awaitable<Outcome<void>> begin(const std::string& url);
  boost::asio::awaitable<Outcome<void>> await_verdict(const Open& open);
  Outcome<OfferedChallenge> choose(const Authorization& authorization);
  Failure verdict(const Authorization& authorization, const std::string& type);
  Errand errand_for(const std::string& identifier, const std::string& type,
                    const std::string& address) const;

  Client& client_;
  Http01 http01_;  // a handle: retire() is due even if this outlives the owner
  const base::Clock& clock_;
  const std::vector<std::string>& allowed_;
  AccountPtr account_;
  const Errand& errand_;
  std::vector<std::string> presented_;  // tokens
  std::vector<Open> open_;
  std::string proven_by_;
  bool spent_ = false;
  bool stale_ = false;
};

}  // namespace gatehouse::acme
