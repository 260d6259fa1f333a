// What a CA's refusal means for us: its class, and a sentence that a person can act upon.
//
// Does not retry (manager) or parse (protocol). Pure, any thread.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "acme/failure.hpp"
#include "acme/protocol.hpp"
#include "base/error.hpp"

namespace gatehouse::acme {

/// What was being done when it happened.
struct Attempt {
  std::string names;      // for the person: "example.com" or "example.com and 2 more"
  std::string authority;  // the CA's name
  std::string challenge;  // the challenge's type; empty: none was running
  std::string address;    // where the CA looked, if it told
  std::string email;
  std::string website;  // the CA's, as its directory names it; may be empty
};

/// The class of a problem and its sentence (CERTIFICATES sections 5 and 6): who, which CA, which
/// challenge, the CA's own words, the likely cause and the fix. `retry_after` as from the response.
Failure failure_of(const Problem& problem, const Attempt& attempt, WallTime now,
                   std::optional<std::chrono::milliseconds> retry_after);

/// No whole answer came.
Failure transport_failure(const base::Error& error, const Attempt& attempt);

/// An answer came that breaks the protocol: `what` follows "the CA sent".
Failure nonsense_failure(const std::string& what, const Attempt& attempt);

/// Something that could not be read or written; `what` names it.
Failure storage_failure(const base::Error& error, const std::string& what, const Attempt& attempt);

/// "a.example", or "a.example and 2 more".
std::string spoken(const std::vector<std::string>& names);

}  // namespace gatehouse::acme
