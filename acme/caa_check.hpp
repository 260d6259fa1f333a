// Looks up the CAA records that count for a name (RFC 8659 section 3) and judges them, before a CA
// is asked for anything.
//
// Does not know the rules of one set (caa) or the wire (dns). A look that fails forbids nothing:
// the CA looks for itself. One for each CA; control thread.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "acme/caa.hpp"
#include "acme/dns/resolver.hpp"
#include "acme/failure.hpp"
#include "acme/single_flight.hpp"
#include "base/clock.hpp"

namespace gatehouse::acme {

class CaaCheck {
 public:
  /// The clock outlives the check.
  CaaCheck(dns::ResolverSettings resolvers, const base::Clock& clock);

  /// The challenges by which all of `names` may be proved, empty if there is none for all of them.
  /// Failure: the first name whose records forbid it. Addresses are passed over. Takes 8 s at most;
  /// what was found is kept for 5 minutes. Outlives its calls.
  boost::asio::awaitable<Outcome<std::vector<std::string>>> run(std::vector<std::string> names,
                                                                CaaApplicant applicant);

 private:
  using Time = base::Monotonic::time_point;

  /// What was last found at one name.
  struct Slot {
    std::optional<base::Result<dns::Lookup>> found;
    Time since;
    SingleFlight<base::Result<dns::Lookup>> flight;
  };
  using SlotPtr = std::shared_ptr<Slot>;

  /// The first set upwards from a name that is not empty; without any, an empty one.
  struct Relevant {
    std::vector<dns::Record> set;
    CaaPlace place;
    Time since;  // of the oldest look that led here
  };

  boost::asio::awaitable<base::Result<Relevant>> climb(std::string name,
                                                       std::chrono::seconds age_max, Time deadline);
  boost::asio::awaitable<SlotPtr> look(std::string name, std::chrono::seconds age_max);
  boost::asio::awaitable<base::Result<dns::Lookup>> fetch(SlotPtr slot, std::string name);
  boost::asio::awaitable<Outcome<std::vector<std::string>>> judge(std::string name,
                                                                  const CaaApplicant& applicant,
                                                                  Time deadline);
  boost::asio::awaitable<std::string> zone_of(std::string owner);
  void warn(const std::string& name, const std::string& authority, const std::string& why);
  bool silent() const;

  dns::Resolver resolver_;
  const base::Clock& clock_;
  std::unordered_map<std::string, SlotPtr> slots_;
  std::unordered_map<std::string, Time> warned_;
  unsigned unanswered_ = 0;  // lookups in a row
  Time unanswered_since_;
};

}  // namespace gatehouse::acme
