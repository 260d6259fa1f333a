// Whether a set of CAA records lets a CA issue (RFC 8659), by which challenges and for which
// account (RFC 8657); and the words for a set that does not.
//
// Does not ask the DNS or decide whose set counts (caa_check). Pure, any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "acme/dns/message.hpp"
#include "acme/failure.hpp"

namespace gatehouse::acme {

/// The CA as the records see it, and how we would prove the name to it.
struct CaaApplicant {
  std::string authority;                // the CA's name, for the person
  std::vector<std::string> identities;  // in lower case; the first is the one to recommend
  std::vector<std::string> challenges;  // those that may be used, in order
  std::string account;                  // its URL; empty: not known, so not compared
};

struct CaaVerdict {
  bool allowed = true;
  std::vector<std::string> challenges;  // allowed: those that the records accept, in order
  std::string reason;                   // forbidden: "it names other CAs", half a sentence
  std::vector<dns::Record> culprits;    // the records to blame
  /// The record that would allow it, its owner that of the set. Without a tag: none would, as long
  /// as the culprits are there.
  dns::Record remedy;
};

/// `set` is the whole relevant set, empty if the name has none. `wildcard`: for "*.…".
CaaVerdict judge_caa(const std::vector<dns::Record>& set, bool wildcard,
                     const CaaApplicant& applicant);

/// Where the set that counts was found.
struct CaaPlace {
  std::string owner;  // of the records
  std::string zone;   // that they are in; empty: not known
  std::string asked;  // the name, or its parent, whose CNAMEs led to the owner
};

/// The sentence: name, CA, the records as they stand, their zone, and the line to add.
Failure caa_failure(const std::string& name, const CaaApplicant& applicant,
                    const CaaVerdict& verdict, const CaaPlace& place);

/// An issue or issuewild property (RFC 8659 section 4.2).
struct IssueValue {
  bool valid = false;
  std::string issuer;                                           // in lower case; empty: nobody
  std::vector<std::pair<std::string, std::string>> parameters;  // tags in lower case
};
IssueValue parse_issue_value(std::string_view value);

/// What the CA of that directory is called in CAA records; empty: not known.
std::vector<std::string> known_caa_identities(std::string_view directory);

}  // namespace gatehouse::acme
