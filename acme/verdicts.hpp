// The CA's verdicts against us while one certificate is obtained: what they leave to be tried, and
// what is told of them in the end.
//
// Does not validate (validation) or order anew (issuer). Pure; one for each obtain. Control thread.
#pragma once

#include <string>
#include <vector>

#include "acme/validation.hpp"

namespace gatehouse::acme {

class Verdicts {
 public:
  /// `most`: how many there may be; see Preferences for the others.
  Verdicts(const std::vector<std::string>& allowed, const std::string& first, unsigned most)
      : preferences_(Preferences::of(allowed, first)), most_(most) {}

  const Preferences& preferences() const { return preferences_; }
  unsigned count() const { return static_cast<unsigned>(failures_.size()); }

  /// True: a new order may try another challenge, which the preferences say.
  bool add(const Validation::Verdict& verdict, const Failure& failure);

  /// One failure of all that was tried, each challenge with its reason, `last` included.
  Failure sum_up(const Failure& last, const Attempt& attempt) const;

 private:
  Preferences preferences_;
  unsigned most_;
  std::vector<Failure> failures_;
};

}  // namespace gatehouse::acme
