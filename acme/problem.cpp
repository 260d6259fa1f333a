#include "acme/problem.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace gatehouse::acme {

namespace {

struct Rule {
  std::string_view type;
  FailureClass kind;
  std::string_view advice;  // {address}, {email} and {name} are replaced
};

// RFC 8555 section 6.7, and the profiles draft. The advice is the cause and the way out.
constexpr std::array<Rule, 27> rules = {{
    {"connection", FailureClass::validation,
     "the CA could not reach port 80 at {address}: open it in the firewall and forward it here, or "
     "use tls-alpn-01 / dns-01"},
    {"dns", FailureClass::validation,
     "the name has no usable address in the public DNS: add an A or AAAA record for {name}"},
    {"tls", FailureClass::validation,
     "the CA could not finish a TLS handshake at {address}: check that port 443 leads here"},
    {"unauthorized", FailureClass::validation,
     "another server answered at {address}: make the records of {name} point here"},
    {"incorrectResponse", FailureClass::validation,
     "another server answered at {address}: make the records of {name} point here"},
    {"caa", FailureClass::validation,
     "a CAA record forbids this CA: add one that names it, or remove the record"},
    {"dnssec", FailureClass::validation,
     "the zone's DNSSEC signatures do not verify: repair them or remove the DS record"},
    {"rateLimited", FailureClass::rate_limit, "wait, or add a second CA to acme.ca"},
    {"rejectedIdentifier", FailureClass::policy,
     "the CA issues nothing for this name: use another CA or another name"},
    {"unsupportedIdentifier", FailureClass::policy,
     "the CA does not issue for this kind of name: use another CA or another name"},
    {"badCSR", FailureClass::policy,
     "the CA does not accept this certificate request: try another key_type"},
    {"badPublicKey", FailureClass::policy,
     "the CA does not accept this kind of key: try another key_type"},
    {"invalidProfile", FailureClass::policy,
     "the CA has no such profile: correct or remove the CA's profile setting"},
    {"badSignatureAlgorithm", FailureClass::account,
     "the CA does not accept the account key: remove the account's folder in storage"},
    {"accountDoesNotExist", FailureClass::account,
     "the CA has forgotten the account and does not take it again: remove the account's folder in "
     "storage"},
    {"externalAccountRequired", FailureClass::account,
     "the CA wants an account of its own kind: make one at {url}, and put its kid and key into "
     "[ca.NAME] eab"},
    {"userActionRequired", FailureClass::account,
     "the CA wants a person to agree to something: open {url}"},
    {"invalidContact", FailureClass::account,
     "the CA does not accept the e-mail address \"{email}\": correct [acme] email"},
    {"unsupportedContact", FailureClass::account,
     "the CA does not accept the e-mail address \"{email}\": correct [acme] email"},
    {"serverInternal", FailureClass::transport, "the CA has trouble of its own: it is tried again"},
    {"badNonce", FailureClass::transport, "the CA refuses its own nonces: it is tried again"},
    {"orderNotReady", FailureClass::transport, "it is tried again"},
    {"malformed", FailureClass::internal,
     "the CA does not understand our request: please report this line"},
    {"alreadyReplaced", FailureClass::internal, "it is ordered anew"},
    {"alreadyRevoked", FailureClass::internal, ""},
    {"badRevocationReason", FailureClass::internal, ""},
    {"compound", FailureClass::validation, ""},
}};

/// The same causes for a challenge that asks at the HTTPS port (RFC 8737).
constexpr std::array<Rule, 4> tls_alpn01_rules = {{
    {"connection", FailureClass::validation,
     "the CA could not reach port 443 at {address}: open it in the firewall and forward it here, "
     "or "
     "use http-01 / dns-01"},
    {"tls", FailureClass::validation,
     "the CA could not finish its TLS handshake at {address}: port 443 must lead here, with "
     "nothing "
     "on the way that ends TLS"},
    {"unauthorized", FailureClass::validation,
     "port 443 at {address} does not lead here, or something on the way ends TLS: make the records "
     "of {name} point here, or use http-01 / dns-01"},
    {"incorrectResponse", FailureClass::validation,
     "port 443 at {address} does not lead here, or something on the way ends TLS: make the records "
     "of {name} point here, or use http-01 / dns-01"},
}};

const Rule* rule_for(std::string_view type) {
  const auto* found =
      std::find_if(rules.begin(), rules.end(), [&](const Rule& rule) { return rule.type == type; });
  return found == rules.end() ? nullptr : found;
}

FailureClass class_of(const Problem& problem, const Rule* rule, const Attempt& attempt) {
  if (problem.status == 429) return FailureClass::rate_limit;
  // Outside a challenge it is the account that may not.
  if (problem.type == "unauthorized" && attempt.challenge.empty()) return FailureClass::account;
  if (rule != nullptr) return rule->kind;
  if (problem.status >= 500) return FailureClass::transport;
  if (!attempt.challenge.empty()) return FailureClass::validation;
  // Without a type, a 4xx is most often something in front of the CA.
  return problem.type.empty() ? FailureClass::transport : FailureClass::internal;
}

void replace(std::string& text, std::string_view what, std::string_view with) {
  if (const size_t at = text.find(what); at != std::string::npos) {
    text.replace(at, what.size(), with);
  }
}

/// Where a person gets further: as the problem says, else the CA's own page; empty: nobody said.
std::string_view page_of(const Problem& problem, const Attempt& attempt) {
  const std::string_view page = problem.instance;
  const bool address = page.starts_with("https://") || page.starts_with("http://");
  return address ? page : std::string_view(attempt.website);
}

std::string advice_for(const Problem& problem, const Rule* rule, const Attempt& attempt) {
  const bool v6 = attempt.address.find(':') != std::string::npos;
  if (!attempt.challenge.empty() && v6 &&
      (problem.type == "unauthorized" || problem.type == "incorrectResponse")) {
    return fmt::format("the AAAA record points elsewhere ({}): correct or remove it",
                       attempt.address);
  }
  if (attempt.challenge.empty() && problem.type == "unauthorized") {
    const std::string_view page = page_of(problem, attempt);
    return fmt::format(
        "the account is deactivated or may not do this: remove the account's folder in storage to "
        "make a new one{}{}",
        page.empty() ? "" : ", or see ", page);
  }
  std::string text(rule == nullptr ? std::string_view() : rule->advice);
  if (attempt.challenge == "tls-alpn-01") {
    for (const auto& own : tls_alpn01_rules) {
      if (own.type == problem.type) text = own.advice;
    }
  }
  replace(text, "{address}", attempt.address.empty() ? "the name's address" : attempt.address);
  replace(text, "{name}", problem.identifier.empty() ? attempt.names : problem.identifier);
  replace(text, "{email}", attempt.email);
  const std::string_view page = page_of(problem, attempt);
  replace(text, "{url}", page.empty() ? "the CA's website" : page);
  return text;
}

/// The CA's words, and those about single names.
std::string words_of(const Problem& problem) {
  std::string text = problem.detail;
  if (text.empty() && problem.status != 0) text = fmt::format("HTTP status {}", problem.status);
  if (text.empty()) text = "no reason given";
  for (const auto& part : problem.subproblems) {
    text += fmt::format("; {}: {}", part.identifier, part.detail);
  }
  while (text.ends_with('.') || text.ends_with(' ')) text.pop_back();
  return text;
}

/// The subproblem that says most, where the problem itself is only their sum.
const Problem& leading(const Problem& problem) {
  if (problem.subproblems.empty()) return problem;
  const auto* own = rule_for(problem.type);
  return own != nullptr && problem.type != "compound" && problem.type != "malformed"
             ? problem
             : problem.subproblems.front();
}

/// Shared work, as the account's, is not for one name: the caller puts its own in front.
std::string opening(const Attempt& attempt) {
  std::string text = attempt.names.empty() ? std::string() : attempt.names + ": ";
  text += attempt.authority;
  if (!attempt.challenge.empty()) text += " could not validate " + attempt.challenge;
  return text;
}

}  // namespace

Failure failure_of(const Problem& problem, const Attempt& attempt, WallTime now,
                   std::optional<std::chrono::milliseconds> retry_after) {
  const Problem& main = leading(problem);
  const Rule* rule = rule_for(main.type);
  Failure result;
  result.kind = class_of(main, rule, attempt);
  result.type = main.type;
  result.status = problem.status;
  if (result.kind == FailureClass::rate_limit) {
    rule = rule_for("rateLimited");
    result.words = words_of(problem);
  }
  if (retry_after) {
    result.retry_at = now + std::chrono::duration_cast<base::WallClock::duration>(*retry_after);
  } else if (result.kind == FailureClass::rate_limit) {
    result.retry_at = parse_retry_time(problem.detail);
    if (result.retry_at)
      result.retry_at = std::min<WallTime>(*result.retry_at, now + retry_after_believed_max);
  }
  result.sentence = fmt::format("{}{}: {}", opening(attempt),
                                attempt.challenge.empty() ? " refused" : "", words_of(problem));
  if (const auto advice = advice_for(main, rule, attempt); !advice.empty()) {
    result.sentence += fmt::format(" ({})", advice);
  }
  if (result.kind == FailureClass::rate_limit && result.retry_at) {
    result.sentence += fmt::format("; the limit ends at {}", timestamp(*result.retry_at));
  }
  return result;
}

Failure transport_failure(const base::Error& error, const Attempt& attempt) {
  Failure result;
  result.kind = FailureClass::transport;
  result.sentence = fmt::format("{} could not be asked: {}", opening(attempt), error.context);
  if (error.kind == base::ErrorKind::tls) {
    result.sentence += " (if the CA is your own, name its root in [ca.NAME] trust)";
  }
  return result;
}

Failure nonsense_failure(const std::string& what, const Attempt& attempt) {
  Failure result;
  result.kind = FailureClass::transport;
  result.sentence = fmt::format("{} sent {}", opening(attempt), what);
  return result;
}

Failure storage_failure(const base::Error& error, const std::string& what, const Attempt& attempt) {
  Failure result;
  result.kind = FailureClass::storage;
  result.sentence = fmt::format("{}: {} could not be read or kept, so nothing was ordered: {}",
                                opening(attempt), what, error.context);
  return result;
}

std::string spoken(const std::vector<std::string>& names) {
  if (names.empty()) return "(no names)";
  if (names.size() == 1) return names.front();
  return fmt::format("{} and {} more", names.front(), names.size() - 1);
}

}  // namespace gatehouse::acme
