// Why an issuance failed, sorted by what to do about it (CERTIFICATES section 5). Plain data.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include <boost/system/result.hpp>

namespace gatehouse::acme {

enum class FailureClass : uint8_t {
  transport,   // no answer, 5xx, timeouts: a breaker for the CA
  validation,  // the challenge failed
  rate_limit,  // 429: never before retry_at
  policy,      // the CA will not issue this name: blocked until a person acts
  account,     // needs a person: externalAccountRequired, userActionRequired, deactivated
  storage,     // the order could not be journalled or the account not stored
  internal,
};

struct Failure {
  FailureClass kind = FailureClass::internal;
  std::string sentence;  // for a person: name, CA, challenge, the CA's detail, cause, fix
  std::string words;     // of a rate limit: the CA's own
  std::string type;      // the problem document's type without its urn prefix, may be empty
  std::optional<std::chrono::system_clock::time_point> retry_at;  // from Retry-After or the detail
  int status = 0;         // the HTTP status of the CA's refusal; 0: it gave none
  unsigned verdicts = 0;  // validations that failed at the CA on the way, which its limits count
  unsigned orders = 0;    // that were placed on the way and that its limits count
  bool local = false;     // found before the CA was asked: no failed validation there
};

/// The CA answered, and its answer means that it did not do what was asked.
bool means_refused(const Failure& failure);

template <class T>
using Outcome = boost::system::result<T, Failure>;

/// Called by Outcome::value() on a failure; never on the data path.
[[noreturn]] void throw_exception_from_error(const Failure& failure, const boost::source_location&);

}  // namespace gatehouse::acme
