#include "acme/import/import.hpp"

#include <algorithm>
#include <map>
#include <set>

#include <boost/asio/ip/address.hpp>
#include <fmt/format.h>

#include "acme/account.hpp"
#include "acme/import/known_authorities.hpp"
#include "acme/jose.hpp"
#include "acme/names.hpp"
#include "acme/vault.hpp"

namespace gatehouse::acme {

namespace asio = boost::asio;
using asio::awaitable;
using base::ErrorKind;

namespace {

constexpr std::chrono::hours date_skew_max{1};

using Kind = ImportLine::Kind;
using LineOutcome = ImportLine::Outcome;

/// A certificate that may be served.
struct Candidate {
  tls::CertificatePtr certificate;
  std::string from;
  std::string authority;  // as meta.json names it
  bool chosen = false;    // for one of its names
};

bool usable(const std::string& name) {
  boost::system::error_code error;
  asio::ip::make_address(name, error);
  if (!error) return true;
  return plausible_name(name.starts_with("*.") ? std::string_view(name).substr(2) : name);
}

class Importing {
 public:
  Importing(Storage* storage, const ImportOrder& order)
      : storage_(storage), order_(order), authorities_(order.acme.authorities) {}

  awaitable<ImportReport> run(Findings findings) {
    report_.problems = std::move(findings.problems);
    for (auto& found : findings.certificates) judge(found);
    choose();
    for (const auto& [name, candidate] : chosen_) co_await take_over(name, *candidate);
    for (const auto& candidate : candidates_) {
      if (!candidate.chosen) note(candidate, "a newer certificate for its names was found");
    }
    co_await take_over_accounts(findings.accounts);
    report_.advice = authorities_.advice();
    co_return std::move(report_);
  }

 private:
  void judge(FoundCertificate& found);
  void choose();
  void offer(const std::string& name, Candidate& candidate);
  awaitable<void> take_over(const std::string& name, const Candidate& candidate);
  awaitable<tls::CertificatePtr> stored(const std::string& id);
  awaitable<void> take_over_accounts(std::vector<FoundAccount>& accounts);
  awaitable<void> take_over(const config::CertificateAuthority& authority, FoundAccount& account);
  awaitable<bool> holds(const std::string& path);

  void note(const Candidate& candidate, std::string why) {
    report_.lines.push_back(line_of(candidate, candidate.certificate->names().front(),
                                    LineOutcome::kept, std::move(why)));
  }
  static ImportLine line_of(const Candidate& candidate, const std::string& name,
                            LineOutcome outcome, std::string why) {
    ImportLine line;
    line.outcome = outcome;
    line.name = name;
    line.from = candidate.from;
    line.issuer = candidate.certificate->issuer();
    line.not_after = candidate.certificate->not_after();
    line.note = std::move(why);
    return line;
  }

  Storage* storage_;
  const ImportOrder& order_;
  KnownAuthorities authorities_;
  ImportReport report_;
  std::vector<Candidate> candidates_;
  std::map<std::string, Candidate*> chosen_;  // by name
};

void Importing::judge(FoundCertificate& found) {
  const auto certificate = tls::Certificate::from_pem(found.chain_pem, found.key_pem, found.from);
  if (!certificate) return report_.problems.push_back(certificate.error().context);
  const auto refuse = [&](std::string_view why) {
    report_.problems.push_back(fmt::format("{}: {}", found.from, why));
  };
  Candidate candidate;
  candidate.certificate = *certificate;
  candidate.from = found.from;
  if ((*certificate)->names().empty()) return refuse("a certificate without names");
  if ((*certificate)->self_signed()) return refuse("a self-signed certificate, of no CA");
  if (authorities_.is_staging(found.ca)) {
    return refuse("from a CA's staging, which no browser trusts: left out");
  }
  if ((*certificate)->not_after() <= order_.now) {
    report_.lines.push_back(line_of(candidate, (*certificate)->names().front(),
                                    LineOutcome::expired, "it has expired"));
    return;
  }
  const std::string problem = (*certificate)->problem_for({}, order_.now, date_skew_max);
  if (!problem.empty()) return refuse(problem);
  candidate.authority = authorities_.name_of(found.ca);
  candidates_.push_back(std::move(candidate));
}

void Importing::offer(const std::string& name, Candidate& candidate) {
  auto& best = chosen_[name];
  const bool better =
      best == nullptr || candidate.certificate->not_before() > best->certificate->not_before();
  if (better) best = &candidate;
}

/// For each name the certificate that began last.
void Importing::choose() {
  for (auto& candidate : candidates_) {
    for (const auto& name : candidate.certificate->names()) {
      if (usable(name)) {
        offer(name, candidate);
      } else {
        report_.problems.push_back(
            fmt::format("{}: \"{}\" is no name that gatehouse serves", candidate.from, name));
      }
    }
  }
  // A site of its own is looked up by its own name, not by the wildcard's.
  std::map<std::string, Candidate*> covered;
  for (const auto& host : order_.hosts) {
    if (chosen_.contains(host)) continue;
    for (auto& candidate : candidates_) {
      if (!candidate.certificate->covers(host)) continue;
      auto& best = covered[host];
      if (best == nullptr ||
          candidate.certificate->not_before() > best->certificate->not_before()) {
        best = &candidate;
      }
    }
  }
  chosen_.merge(covered);
  for (const auto& [name, candidate] : chosen_) candidate->chosen = true;
}

/// What is there under this id, in use or put aside.
awaitable<tls::CertificatePtr> Importing::stored(const std::string& id) {
  if (storage_ == nullptr) co_return nullptr;
  tls::CertificatePtr newest;
  for (const char* collection : {"certs/", "archive/"}) {
    const std::string folder = collection + id;
    auto files = co_await storage_->load_set(folder);
    if (!files) continue;
    const auto found =
        tls::Certificate::from_pem((*files)["fullchain.pem"], (*files)["privkey.pem"], folder);
    if (found && (!newest || (*found)->not_before() > newest->not_before())) newest = *found;
  }
  co_return newest;
}

awaitable<void> Importing::take_over(const std::string& name, const Candidate& candidate) {
  const std::string id = certificate_id(name);
  const auto before = co_await stored(id);
  if (before && before->not_before() >= candidate.certificate->not_before()) {
    const bool same = before->fingerprint() == candidate.certificate->fingerprint();
    report_.lines.push_back(line_of(candidate, name, LineOutcome::kept,
                                    same ? "it is stored already" : "the stored one is newer"));
    co_return;
  }
  if (!order_.dry_run) {
    CertificateNote about;
    about.name = name;
    about.authority = candidate.authority;
    Vault vault(*storage_);
    const auto saved = co_await vault.save(id, candidate.certificate, std::move(about));
    if (!saved) {
      report_.problems.push_back(fmt::format("{}: {}", name, saved.error().context));
      co_return;
    }
  }
  report_.lines.push_back(line_of(candidate, name, LineOutcome::imported, ""));
}

// ---------------------------------------------------------------- accounts

awaitable<void> Importing::take_over_accounts(std::vector<FoundAccount>& accounts) {
  // The address that is configured, then the account that most certificates came from.
  const auto& email = order_.acme.email;
  std::stable_sort(accounts.begin(), accounts.end(), [&](const auto& a, const auto& b) {
    const bool ours = a.email == email;
    const bool theirs = b.email == email;
    return ours != theirs ? ours : a.users > b.users;
  });
  // One key may be found twice: certbot links a CA's former address to its present one.
  std::set<std::string> known_keys;
  for (const auto& account : accounts) {
    if (authorities_.knows(account.ca)) known_keys.insert(thumbprint(account.key).value());
  }
  std::set<std::string> served;  // CAs
  for (auto& account : accounts) {
    const bool elsewhere = known_keys.contains(thumbprint(account.key).value());
    if (elsewhere && !authorities_.knows(account.ca)) continue;
    const auto* authority = authorities_.find(account.ca);
    if (authority == nullptr) {
      if (authorities_.is_staging(account.ca)) continue;
      report_.problems.push_back(
          fmt::format("{}: an account at {}, which is not in the configuration: left out",
                      account.from, authorities_.name_of(account.ca)));
    } else if (served.insert(authority->name).second) {
      co_await take_over(*authority, account);
    } else {
      ImportLine line;
      line.kind = Kind::account;
      line.outcome = LineOutcome::kept;
      line.name = authority->name;
      line.from = account.from;
      line.note = "gatehouse uses one account at each CA: left out";
      report_.lines.push_back(std::move(line));
    }
  }
}

awaitable<bool> Importing::holds(const std::string& path) {
  if (storage_ == nullptr) co_return false;
  const auto found = co_await storage_->load(path);
  co_return found || found.error().kind != ErrorKind::not_found;
}

awaitable<void> Importing::take_over(const config::CertificateAuthority& authority,
                                     FoundAccount& account) {
  const std::string folder = account_folder(authority.name, order_.acme.email);
  ImportLine line;
  line.kind = Kind::account;
  line.name = authority.name;
  line.from = account.from;
  const bool held = co_await holds(folder + "/key.pem");
  if (held) {
    line.outcome = LineOutcome::kept;
    line.note = "the account that is stored stays";
    report_.lines.push_back(std::move(line));
    co_return;
  }
  if (!account.email.empty() && account.email != order_.acme.email) {
    line.note = fmt::format("the CA goes on writing to {}", account.email);
  }
  if (!order_.dry_run) {
    // The key first: with it alone the account is found again, a record alone would go with a
    // new key.
    auto stored = co_await storage_->store(folder + "/key.pem", account.key.to_pem());
    if (stored && usable_url(account.url, authority.directory)) {
      const Account known{account.key, account.url, {}, {}};
      std::string text = account_record(known, authority.directory, order_.acme.email, order_.now);
      stored = co_await storage_->store(folder + "/account.json", std::move(text));
    }
    if (!stored) {
      report_.problems.push_back(fmt::format("{}: {}", account.from, stored.error().context));
      co_return;
    }
  }
  report_.lines.push_back(std::move(line));
}

}  // namespace

awaitable<ImportReport> import_findings(Storage* storage, Findings findings,
                                        const ImportOrder& order) {
  Importing importing(storage, order);
  co_return co_await importing.run(std::move(findings));
}

}  // namespace gatehouse::acme
