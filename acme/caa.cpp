#include "acme/caa.hpp"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

namespace gatehouse::acme {

namespace {

constexpr uint8_t critical_flag = 128;  // RFC 8659 section 4.1
constexpr size_t records_shown_max = 3;
constexpr size_t account_shown_max = 200;

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/// Letters and digits, with hyphens between them: a label, or a parameter's tag.
bool is_word(std::string_view text) {
  return !text.empty() && is_alphanumeric(text.front()) && is_alphanumeric(text.back()) &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return is_alphanumeric(c) || c == '-'; });
}

bool is_domain(std::string_view text) {
  for (;;) {
    const size_t dot = text.find('.');
    if (!is_word(text.substr(0, dot))) return false;
    if (dot == text.npos) return true;
    text.remove_prefix(dot + 1);
  }
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view space = " \t";
  const size_t first = text.find_first_not_of(space);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(space) - first + 1);
}

/// False: the text is no list of parameters.
bool take_parameters(std::string_view text, IssueValue& target) {
  if (trimmed(text).empty()) return true;
  for (;;) {
    const size_t end = text.find(';');
    const auto part = trimmed(text.substr(0, end));
    const size_t sign = part.find('=');
    if (sign == part.npos) return false;
    const auto tag = trimmed(part.substr(0, sign));
    const auto value = trimmed(part.substr(sign + 1));
    const bool printable = std::all_of(value.begin(), value.end(),
                                       [](char c) { return c > 0x20 && c < 0x7f && c != ';'; });
    if (!is_word(tag) || !printable) return false;
    target.parameters.emplace_back(lower(tag), value);
    if (end == text.npos) return true;
    text.remove_prefix(end + 1);
  }
}

/// RFC 8659 section 4 and RFC 9495: those that no CA calls unknown.
bool is_known_tag(std::string_view tag) {
  return tag == "issue" || tag == "issuewild" || tag == "issuemail" || tag == "iodef";
}

/// The values of a parameter.
std::vector<std::string> values_of(const IssueValue& value, std::string_view tag) {
  std::vector<std::string> result;
  for (const auto& [name, text] : value.parameters) {
    if (name == tag) result.push_back(text);
  }
  return result;
}

std::vector<std::string> split_at_commas(std::string_view text) {
  std::vector<std::string> result;
  for (;;) {
    const size_t comma = text.find(',');
    result.emplace_back(text.substr(0, comma));
    if (comma == text.npos) return result;
    text.remove_prefix(comma + 1);
  }
}

std::string spoken_list(const std::vector<std::string>& words) {
  std::string result;
  for (const auto& word : words) result += (result.empty() ? "" : ", ") + word;
  return result;
}

/// What one property says of us.
struct Stance {
  bool ours = false;                    // it names the CA
  std::vector<std::string> challenges;  // that it accepts; empty: it does not allow
  std::string reason;                   // then
  std::string parameters;               // that a property of our own would need
};

/// RFC 8657 section 3: one account, named once. Empty: well.
std::string account_problem(const IssueValue& value, const CaaApplicant& applicant) {
  const auto accounts = values_of(value, "accounturi");
  if (accounts.empty()) return {};
  if (accounts.size() > 1) return "it names several accounts, which no account can be";
  const auto& wanted = accounts.front();
  if (wanted.find(':') == wanted.npos) return "its accounturi is no URI";
  if (applicant.account.empty() || wanted == applicant.account) return {};
  return fmt::format("it is for another account at the CA than ours, {}",
                     applicant.account.substr(0, account_shown_max));
}

/// RFC 8657 section 4.
std::vector<std::string> accepted_challenges(const IssueValue& value,
                                             const CaaApplicant& applicant) {
  const auto lists = values_of(value, "validationmethods");
  if (lists.empty()) return applicant.challenges;
  if (lists.size() > 1) return {};
  const auto accepted = split_at_commas(lists.front());
  std::vector<std::string> result;
  for (const auto& challenge : applicant.challenges) {
    if (std::find(accepted.begin(), accepted.end(), challenge) != accepted.end())
      result.push_back(challenge);
  }
  return result;
}

Stance stance_of(const dns::Record& record, const CaaApplicant& applicant) {
  const auto value = parse_issue_value(record.value);
  Stance stance;
  if (!value.valid) {
    stance.reason = "it is malformed, so it allows nobody";
    return stance;
  }
  if (value.issuer.empty()) {
    stance.reason = "it forbids every CA";
    return stance;
  }
  stance.ours = std::find(applicant.identities.begin(), applicant.identities.end(), value.issuer) !=
                applicant.identities.end();
  if (!stance.ours) {
    stance.reason = "it allows other CAs only";
    return stance;
  }
  stance.reason = account_problem(value, applicant);
  if (!stance.reason.empty()) {
    if (!applicant.account.empty()) stance.parameters = "; accounturi=" + applicant.account;
    return stance;
  }
  stance.challenges = accepted_challenges(value, applicant);
  if (stance.challenges.empty()) {
    const auto lists = values_of(value, "validationmethods");
    stance.reason = fmt::format("it accepts {}, and [acme] challenges are {}",
                                lists.size() == 1 && !lists.front().empty()
                                    ? "the challenges " + lists.front() + " only"
                                    : "no challenge",
                                spoken_list(applicant.challenges));
  }
  return stance;
}

/// The properties that count for this kind of name (RFC 8659 sections 4.2 and 4.3).
std::vector<const dns::Record*> relevant(const std::vector<dns::Record>& set, bool wildcard) {
  const auto with_tag = [&](std::string_view tag) {
    std::vector<const dns::Record*> result;
    for (const auto& record : set) {
      if (lower(record.tag) == tag) result.push_back(&record);
    }
    return result;
  };
  if (wildcard) {
    auto wild = with_tag("issuewild");
    if (!wild.empty()) return wild;
  }
  return with_tag("issue");
}

void add_once(std::vector<std::string>& list, const std::string& word) {
  if (std::find(list.begin(), list.end(), word) == list.end()) list.push_back(word);
}

/// In the order of the settings, whatever the order of the records was.
std::vector<std::string> in_order(const std::vector<std::string>& accepted,
                                  const std::vector<std::string>& order) {
  std::vector<std::string> result;
  for (const auto& challenge : order) {
    if (std::find(accepted.begin(), accepted.end(), challenge) != accepted.end())
      result.push_back(challenge);
  }
  return result;
}

}  // namespace

IssueValue parse_issue_value(std::string_view value) {
  IssueValue result;
  const size_t end = value.find(';');
  const auto issuer = trimmed(value.substr(0, end));
  if (!issuer.empty() && !is_domain(issuer)) return result;
  result.issuer = lower(issuer);
  result.valid = end == value.npos || take_parameters(value.substr(end + 1), result);
  return result;
}

CaaVerdict judge_caa(const std::vector<dns::Record>& set, bool wildcard,
                     const CaaApplicant& applicant) {
  CaaVerdict verdict;
  for (const auto& record : set) {
    if ((record.flags & critical_flag) != 0 && !is_known_tag(lower(record.tag)))
      verdict.culprits.push_back(record);
  }
  if (!verdict.culprits.empty()) {
    verdict.allowed = false;
    verdict.reason =
        verdict.culprits.size() == 1
            ? "it is critical and of a kind that CAs do not know, so none may issue"
            : "they are critical and of a kind that CAs do not know, so none may issue";
    return verdict;
  }
  const auto records = relevant(set, wildcard);
  if (records.empty()) {  // iodef and the like restrict nothing
    verdict.challenges = applicant.challenges;
    return verdict;
  }
  std::vector<std::string> accepted;
  std::optional<Stance> refusal;  // one that names us says more than those that do not
  for (const auto* record : records) {
    auto stance = stance_of(*record, applicant);
    for (const auto& challenge : stance.challenges) add_once(accepted, challenge);
    const bool says_more = !refusal || (stance.ours && !refusal->ours);
    if (says_more) verdict.culprits.clear();
    if (says_more || (!stance.ours && !refusal->ours)) verdict.culprits.push_back(*record);
    if (says_more) refusal = std::move(stance);
  }
  verdict.challenges = in_order(accepted, applicant.challenges);
  if (!verdict.challenges.empty()) {
    verdict.culprits.clear();
    return verdict;
  }
  verdict.allowed = false;
  verdict.reason = verdict.culprits.size() == 1
                       ? std::move(refusal->reason)
                       : "none of them names " + applicant.identities.front();
  verdict.remedy = *records.front();
  verdict.remedy.flags = 0;
  verdict.remedy.tag = lower(records.front()->tag);
  verdict.remedy.value = applicant.identities.front() + refusal->parameters;
  return verdict;
}

Failure caa_failure(const std::string& name, const CaaApplicant& applicant,
                    const CaaVerdict& verdict, const CaaPlace& place) {
  std::string lines;
  for (size_t i = 0; i < std::min(verdict.culprits.size(), records_shown_max); ++i) {
    lines += (i == 0 ? "" : " and ") + dns::zone_line(verdict.culprits[i]);
  }
  const bool several = verdict.culprits.size() > 1;
  if (verdict.culprits.size() > records_shown_max) {
    lines += fmt::format(" and {} more", verdict.culprits.size() - records_shown_max);
  }
  std::string where;
  if (place.asked != place.owner) {
    where = fmt::format(", to which {} leads by CNAME,", place.asked);
  }
  const auto zone = place.zone.empty() ? std::string("its zone") : "the zone " + place.zone;
  const auto way_out =
      verdict.remedy.tag.empty()
          ? fmt::format("remove {} from {}, or clear the flag {}",
                        several ? "these records" : "this record", zone, critical_flag)
          : fmt::format("add to {}: {}", zone, dns::zone_line(verdict.remedy));
  Failure failure;
  failure.kind = FailureClass::validation;
  failure.type = "caa";
  failure.local = true;
  failure.sentence =
      fmt::format("{}: {} was not asked, because the CAA record{} of {}{} forbid{} it: {}: {} ({})",
                  name, applicant.authority, several ? "s" : "", place.owner, where,
                  several ? "" : "s", lines, verdict.reason, way_out);
  return failure;
}

std::vector<std::string> known_caa_identities(std::string_view directory) {
  const size_t scheme = directory.find("://");
  if (scheme != directory.npos) directory.remove_prefix(scheme + 3);
  const auto host = lower(directory.substr(0, directory.find_first_of("/:?")));
  const auto under = [&](std::string_view domain) {
    return host == domain ||
           (host.ends_with(domain) && host[host.size() - domain.size() - 1] == '.');
  };
  if (under("api.letsencrypt.org")) return {"letsencrypt.org"};
  if (under("pki.goog")) return {"pki.goog"};
  // Sectigo stands behind ZeroSSL and takes the names of its former selves.
  if (under("zerossl.com") || under("sectigo.com")) {
    return {"sectigo.com", "trust-provider.com", "usertrust.com", "comodoca.com", "comodo.com"};
  }
  return {};
}

}  // namespace gatehouse::acme
